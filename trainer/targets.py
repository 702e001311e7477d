"""What a linear layer learns of each image: its class, or a number beside it."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.sources import Source

Numbers = npt.NDArray[np.int64]


class Task(Protocol):
    """Targets of the images of two sources, one to learn from and one, held out, to measure on."""

    @property
    def num_outputs(self) -> int:
        """Width of the linear layer."""
        ...

    @property
    def learnable(self) -> Numbers:
        """Numbers of the training images that have a target."""
        ...

    @property
    def measurable(self) -> Numbers:
        """Numbers of the held-out images that have a target."""
        ...

    def loss(self, outputs: Tensor, samples: Tensor) -> Tensor:
        """A scalar of outputs [N, num_outputs] for the training images `samples`, int64 [N]."""
        ...

    def scores(self, outputs: Tensor, samples: Tensor) -> dict[str, float]:
        """Of outputs [N, num_outputs] for the held-out images `samples`; the first one says what is best."""
        ...


class Classification:
    """Cross entropy; measured by top-1. The classes are those of the training source, in its order."""

    def __init__(self, train: Source, test: Source) -> None:
        self.classes = _classes(train)
        self._train = torch.from_numpy(_class_numbers(train, self.classes))
        self._test = torch.from_numpy(_class_numbers(test, self.classes))
        self.learnable = _not_empty(np.flatnonzero(self._train >= 0), "--images", "a label")
        self.measurable = _not_empty(np.flatnonzero(self._test >= 0), "--queries", "a label")

    @property
    def num_outputs(self) -> int:
        return len(self.classes)

    def loss(self, outputs: Tensor, samples: Tensor) -> Tensor:
        return F.cross_entropy(outputs, self._train[samples].to(outputs.device))

    def scores(self, outputs: Tensor, samples: Tensor) -> dict[str, float]:
        hits = outputs.argmax(1).cpu() == self._test[samples]
        return {"top1": float(hits.double().mean())}


class Regression:
    """Mean squared error of a standardised column; measured by R^2, and in the column's units by MAE."""

    num_outputs = 1

    def __init__(self, train: Source, test: Source, column: str) -> None:
        self._train, self._test = train.targets(column), test.targets(column)
        self.learnable = _not_empty(
            np.flatnonzero(np.isfinite(self._train)), "--images", f"a number in {column}"
        )
        self.measurable = _not_empty(
            np.flatnonzero(np.isfinite(self._test)), "--queries", f"a number in {column}"
        )
        known, held_out = self._train[self.learnable], self._test[self.measurable]
        for values, flag in ((known, "--images"), (held_out, "--queries")):
            if np.ptp(values) == 0:
                raise ValueError(
                    f"{column} is {values[0]:g} for every image of {flag}: nothing can be learnt"
                )
        self._mean, self._std = float(known.mean()), float(known.std())
        self.baseline_mae = float(np.abs(held_out - self._mean).mean())
        """Mean absolute error of always saying the mean of the training images."""

    def loss(self, outputs: Tensor, samples: Tensor) -> Tensor:
        standardised = (self._train[samples.numpy()] - self._mean) / self._std
        return F.mse_loss(outputs[:, 0], torch.from_numpy(standardised).to(outputs))

    def scores(self, outputs: Tensor, samples: Tensor) -> dict[str, float]:
        found = outputs[:, 0].double().cpu().numpy() * self._std + self._mean
        wanted = self._test[samples.numpy()]
        residual, total = ((wanted - found) ** 2).sum(), ((wanted - wanted.mean()) ** 2).sum()
        if total == 0:
            raise ValueError("the images of --queries that can be read all have one target: give others")
        return {"r2": float(1 - residual / total), "mae": float(np.abs(wanted - found).mean())}


def _class_numbers(source: Source, classes: list[str]) -> Numbers:
    """The place of each image's class in `classes`, by name; -1 for an image without a label.

    Raises ValueError if an image has another class.
    """
    names = _classes(source)
    labels = np.array([-1 if (label := source.label(i)) is None else label for i in range(len(source))])
    places = {name: place for place, name in enumerate(classes)}
    unknown = [names[label] for label in np.unique(labels[labels >= 0]) if names[label] not in places]
    if unknown:
        raise ValueError(
            f"--queries has images of the class {unknown[0]}, and --images has no such class: "
            "give images of the same classes"
        )
    moved: Numbers = np.array([*(places.get(name, -1) for name in names), -1], np.int64)[labels]
    return moved


def _classes(source: Source) -> list[str]:
    if source.classes is None:
        raise ValueError("the images have no labels: give labelled --images and --queries")
    return list(source.classes)


def _not_empty(numbers: Numbers, flag: str, what: str) -> Numbers:
    if not len(numbers):
        raise ValueError(f"no image of {flag} has {what}: give images that have one")
    return numbers
