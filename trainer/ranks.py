"""Data parallel training over processes that `torchrun` starts; one process is the same code without any.

Each rank takes its share of every chunk of a batch. Vectors are gathered, so that every rank sees all
negatives, and gradients are summed: the loss each rank computes is that of the whole batch already, so
there is nothing to divide by the number of ranks.
"""

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn


class Ranks:
    """One process among `size`, the `rank`-th of them. This class is the only one; see `torchrun` below."""

    rank = 0
    size = 1

    def share(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This rank's part of the image numbers of a chunk."""
        return numbers

    def gather(self, tensor: Tensor, dim: int) -> tuple[Tensor, slice]:
        """The tensors of all ranks side by side along `dim`, and where this rank's lies in it."""
        return tensor, slice(None)

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its sum over ranks."""
