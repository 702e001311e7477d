"""What a run watches while it trains: its latent on images as they are encoded, after every epoch."""

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.dataset import Batch, Dataset
from trainer.model import StochCon
from trainer.recipe import Recipe
from trainer.sources import Source

_NUM_IMAGES = 2000
"""Images of each source that the latent's statistics are taken over; accuracy is over all held-out ones."""

_BATCH = 500


class Monitor:
    """Figures 3 and 4 over training: bit counts, or the aggregate variance; or a classifier's accuracy."""

    def __init__(self, recipe: Recipe, source: Source, held_out: Source) -> None:
        if recipe.objective == "supervised" and held_out.classes != source.classes:
            raise ValueError(
                "the images of --monitor have other classes than those of --images: give images of the same"
            )
        self._recipe = recipe
        self._stack = ExitStack()
        self._train = self._stack.enter_context(Dataset(source, recipe.preprocessing))
        self._test = self._stack.enter_context(Dataset(held_out, recipe.preprocessing))

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @torch.no_grad()
    def __call__(self, model: StochCon) -> dict[str, float]:
        """What is found for `model`, which is left in training mode and otherwise as it was."""
        model.eval()
        try:
            if self._recipe.objective == "supervised":
                return {"test_top1": self._accuracy(model)}
            if self._recipe.latent == "none":
                return {}
            key = "active_bits" if self._recipe.latent == "bernoulli" else "aggregate_variance"
            return {
                f"train_{key}": self._statistic(model, self._train),
                f"test_{key}": self._statistic(model, self._test),
            }
        finally:
            model.train()

    def _statistic(self, model: StochCon, dataset: Dataset) -> float:
        numbers = np.linspace(0, len(dataset.source) - 1, min(_NUM_IMAGES, len(dataset.source))).astype(
            np.int64
        )
        features = torch.cat([model.features(images) for images, _ in _encoded(model, dataset, numbers)])
        if self._recipe.latent == "bernoulli":
            return float((model.logits(features) >= 0).sum(1).float().mean())
        return float(aggregate_variance(*model.moments(features)))

    def _accuracy(self, model: StochCon) -> float:
        source = self._test.source
        labels = np.array([-1 if (label := source.label(i)) is None else label for i in range(len(source))])
        hits = [
            model.class_logits(model.features(images)).argmax(1).cpu()
            == torch.from_numpy(labels[batch.samples])
            for images, batch in _encoded(model, self._test, np.flatnonzero(labels >= 0))
        ]
        return float(torch.cat(hits).float().mean())


def aggregate_variance(mean: Tensor, variance: Tensor) -> Tensor:
    """Var_x[q(z|x)] of Figure 3: the variance of q(z) = E_x q(z|x), averaged over dimensions; a scalar.

    By the law of total variance, the mean of sigma^2 over x and the variance of mu over x; [n, D] each.
    """
    return (variance.mean(0) + mean.var(0, correction=0)).mean()


def _encoded(
    model: StochCon, dataset: Dataset, numbers: npt.NDArray[np.int64]
) -> Iterator[tuple[Tensor, Batch]]:
    """Images in [0, 1], [n, 3, H, W], ready for the model, with the batch they came in."""
    chunks = (numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH))
    for batch in dataset.batches(chunks):
        if len(batch.samples):
            images = batch.images.to(model.mean.device).permute(0, 3, 1, 2).float().div_(255)
            yield images.contiguous(memory_format=torch.channels_last), batch
