"""A step taken in one piece, to hold those against that are taken in parts."""

import torch

from trainer.dataset import Batch
from trainer.model import StochCon
from trainer.objective import objective
from trainer.step import make_views


def some_batch(count: int, side: int = 16, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
    return Batch(torch.arange(100, 100 + count), images, torch.ones(count))


def cut(batch: Batch, *sizes: int) -> list[Batch]:
    parts = zip(
        batch.samples.split(sizes), batch.images.split(sizes), batch.aspects.split(sizes), strict=True
    )
    return [Batch(*part) for part in parts]


def direct(model: StochCon, chunks: list[Batch], labels: torch.Tensor | None) -> torch.Tensor:
    """The loss of all chunks with every graph kept, BatchNorm's groups being the chunks; backward done."""
    passed = [model(make_views(model.recipe, chunk, 7, "cpu"), 0.5) for chunk in chunks]
    outputs = [
        [torch.cat(pair, dim=1) for pair in zip(branches.vectors, branches.codes, strict=True)]
        if branches.codes
        else branches.vectors
        for branches in passed
    ]
    vectors = torch.stack([torch.cat(parts) for parts in zip(*outputs, strict=True)])
    loss, gradient = objective(model.recipe, vectors, labels)
    vectors.backward(gradient)
    return loss
