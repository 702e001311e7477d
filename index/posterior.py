"""Ranking by the query's posterior instead of its hard code.

A query's logits say how sure each of its bits is. Stored codes keep one bit a bit, yet the expected
Hamming distance between a stored code b and a draw from the query's posterior is exact and cheap:
E[d] = sum(p) + sum((1 - 2p) b), with p = sigmoid(logits).
"""

import numpy as np
import numpy.typing as npt

from contracts.codes import Codes, pack_logits, unpack

Floats = npt.NDArray[np.float64]


class Posterior:
    """A query as independent Bernoulli bits, from float logits [num_bits]."""

    def __init__(self, logits: npt.ArrayLike) -> None:
        values = np.asarray(logits, dtype=np.float64)
        self.code: Codes = pack_logits(values)
        """uint8 [num_bits / 8]: the most probable code."""
        # tanh keeps large logits from overflowing exp.
        self._p: Floats = 0.5 * (1.0 + np.tanh(0.5 * values))
        uncertainty = np.sort(np.minimum(self._p, 1.0 - self._p))[::-1]
        # T(h), the sum of the h largest uncertainties, for h = 0 .. num_bits.
        self._largest: Floats = np.concatenate([[0.0], np.cumsum(uncertainty)])

    def expected_distances(self, codes: Codes) -> Floats:
        """E[d] to each of uint8 [n, num_bits / 8], in bits: float64 [n]."""
        distances: Floats = self._p.sum() + unpack(codes) @ (1.0 - 2.0 * self._p)
        return distances

    def lower_bound(self, distance: int) -> float:
        """The least E[d] of any code at `distance` or more bits from the query's code.

        A code that differs in the set S has E[d] = sum(eps) + sum over S of (1 - 2 eps), with
        eps = min(p, 1 - p), which is least when S holds the most uncertain bits:
        h + sum(eps) - 2 T(h). It grows with h, since no eps exceeds 1/2.
        """
        return float(distance + self._largest[-1] - 2.0 * self._largest[distance])
