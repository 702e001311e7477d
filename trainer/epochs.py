"""Which images the steps of a supervised pass take."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.sources import Source


@dataclass(frozen=True, slots=True)
class Epochs:
    """Passes over the images of a source that have a target, whole batches only.

    The order of an epoch depends on seed and epoch alone. The last images of an epoch that fill no batch
    are left out of it.
    """

    source: Source
    learnable: npt.NDArray[np.int64]
    """Numbers of the images that have a target."""
    count: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 1 or self.batch_size < 2:
            raise ValueError(
                f"epochs is {self.count} and batch_size {self.batch_size}: give --epochs of at least 1 "
                "and --batch-size of at least 2"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}: give --seed from 0 to 2^63 - 1")
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"there are {len(self.learnable)} images to learn from and a batch takes {self.batch_size}: "
                f"give more images, or --batch-size of at most {len(self.learnable)}"
            )

    @property
    def steps_per_epoch(self) -> int:
        return len(self.learnable) // self.batch_size

    @property
    def num_steps(self) -> int:
        return self.count * self.steps_per_epoch

    def batches(self, start_step: int = 0) -> Iterator[npt.NDArray[np.int64]]:
        """Image numbers of each step from `start_step` on."""
        wanted = np.zeros(len(self.source), np.bool_)
        wanted[self.learnable] = True
        for step in range(start_step, self.num_steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if position == 0 or step == start_step:
                order = self.source.epoch_order(self.seed, epoch)
                order = order[wanted[order]]
            yield order[position * self.batch_size : (position + 1) * self.batch_size]
