"""What recipe and images decide of a run before it starts: its steps, and the images of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.dataset import Batch
from trainer.ranks import Ranks, share
from trainer.recipe import Recipe
from trainer.sources import Source, fingerprint


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a run of `recipe`; the same on every rank."""

    recipe: Recipe
    source: Source
    labels: npt.NDArray[np.int64] | None
    """For a supervised recipe, the class number of each image, and -1 where it has none."""
    classes: list[str]
    """Names of the classes, for a supervised recipe."""
    images: str
    """Fingerprint of the source."""

    @classmethod
    def of(cls, recipe: Recipe, source: Source) -> "Plan":
        """Raises ValueError if there are fewer images than a batch, or no labels for a supervised recipe."""
        labels = _labels(recipe, source)
        classes = [] if labels is None else list(source.classes or ())
        plan = cls(recipe, source, labels, classes, fingerprint(source))
        if plan.steps_per_epoch == 0:
            raise ValueError(
                f"the source has {plan.num_usable} images and a batch takes {recipe.batch_size}: "
                f"give --batch-size of at most {plan.num_usable}"
            )
        return plan

    @property
    def num_usable(self) -> int:
        """Images that can be trained on: those with a label, for a supervised recipe."""
        return len(self.source) if self.labels is None else int((self.labels >= 0).sum())

    @property
    def steps_per_epoch(self) -> int:
        """The last images of an epoch that fill no batch are left out."""
        return self.num_usable // self.recipe.batch_size

    @property
    def num_steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def num_chunks(self) -> int:
        """Chunks of a batch."""
        size = self.recipe.chunk_size
        return -(-self.recipe.batch_size // size) if size else 1

    def orders(self, start_step: int, ranks: Ranks) -> Iterator[npt.NDArray[np.int64]]:
        """Image numbers of this rank's share of each chunk of each step."""
        size, steps_per_epoch = self.recipe.batch_size, self.steps_per_epoch
        for step in range(start_step, self.num_steps):
            epoch, position = divmod(step, steps_per_epoch)
            if position == 0 or step == start_step:
                order = self.source.epoch_order(self.recipe.seed, epoch)
                if self.labels is not None:
                    order = order[self.labels[order] >= 0]
            batch = order[position * size : (position + 1) * size]
            for chunk in np.array_split(batch, self.num_chunks):
                yield share(chunk, ranks)

    def targets(self, chunks: Sequence[Batch]) -> list[Tensor] | None:
        """Class numbers of the images of each chunk, int64 [n], for a supervised recipe."""
        if self.labels is None:
            return None
        return [torch.from_numpy(self.labels[chunk.samples.numpy()]) for chunk in chunks]


def _labels(recipe: Recipe, source: Source) -> npt.NDArray[np.int64] | None:
    if recipe.objective != "supervised":
        return None
    if source.classes is None:
        raise ValueError(
            f"recipe {recipe.name} is supervised and the images have no labels: give labelled ones"
        )
    found = (source.label(number) for number in range(len(source)))
    return np.array([-1 if label is None else label for label in found], np.int64)
