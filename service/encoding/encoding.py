"""What the model says of one image: its code, and how sure it is of each bit."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Encoding:
    """The code of one image and the logits it came from."""

    code: bytes
    """Packed, num_bits / 8 bytes."""
    logits: npt.NDArray[np.float32]
    """float32 [num_bits]"""

    @cached_property
    def active_bits(self) -> int:
        """Number of 1 bits."""
        return int.from_bytes(self.code, "big").bit_count()

    @cached_property
    def entropy_bits(self) -> float:
        """Entropy of the posterior in bits: the sum of H2(sigmoid(logit)) over the code.

        With a = |logit|, H2 = (log(1 + exp(-a)) + a exp(-a) / (1 + exp(-a))) / log 2, in which nothing
        overflows and large logits give 0 rather than NaN.
        """
        a = np.abs(self.logits.astype(np.float64))
        e = np.exp(-a)
        return float(((np.log1p(e) + a * e / (1 + e)) / np.log(2)).sum())
