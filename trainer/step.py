"""One step of Algorithm 1 up to the gradients, over chunks of a batch and over ranks.

With one chunk the graph of its forward pass is kept. With several (gradient caching; Gao et al. 2021,
"Scaling deep contrastive learning batch size under memory limited setup"), each goes forward without a
graph, and once the loss of the whole batch is known, forward again and backward, so that memory is that of
one chunk. Randomness is keyed by sample, so the second pass repeats the first. BatchNorm's groups are the
chunks (over all ranks); its running statistics follow the first pass only.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.dataset import Batch
from trainer.model import Branches, StochCon, ViewInput
from trainer.objective import objective
from trainer.randomness import keys, uniform
from trainer.ranks import Ranks, gather, sum_gradients
from trainer.recipe import Recipe
from trainer.views import as_floats, make_view

_NOISE_STREAM = 1
_BYPASS_STREAM = 2


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step reports; the gradients are in the parameters."""

    loss: Tensor
    """A scalar, over the whole batch."""
    parameters: list[Tensor]
    """Those of `Branches`, of this rank's first chunk, which may be empty."""


def take_gradients(
    model: StochCon,
    chunks: Sequence[Batch],
    step: int,
    temperature: float,
    ranks: Ranks,
    labels: Sequence[Tensor] | None = None,
) -> StepResult:
    """Set every parameter's gradient to that of the objective over all chunks of all ranks.

    `labels` are int64 [N] for each chunk, for a supervised recipe. Every rank passes as many chunks.
    """
    device = model.mean.device

    def forward(chunk: Batch) -> tuple[Tensor, list[Tensor]]:
        views = make_views(model.recipe, chunk, step, device)
        with autocast(model.recipe, device):
            branches: Branches = model(views, temperature)
        vectors = torch.stack(branches.vectors)
        if branches.codes:
            vectors = torch.cat([vectors.float(), torch.stack(branches.codes)], dim=2)
        return vectors, branches.parameters

    model.zero_grad(set_to_none=True)
    with torch.set_grad_enabled(len(chunks) == 1):
        first, parameters = forward(chunks[0])
        vectors = [first, *(forward(chunk)[0] for chunk in chunks[1:])]  # [V, n, D] each
    everyone, place = gather(torch.cat(vectors, dim=1).detach().float(), 1, ranks)
    targets = None if labels is None else gather(torch.cat(list(labels)).to(device), 0, ranks)[0]
    loss, gradient = objective(model.recipe, everyone, targets)
    own = torch.split(gradient[:, place].to(first.dtype), [len(chunk.samples) for chunk in chunks], dim=1)
    if len(chunks) == 1:
        first.backward(own[0])  # type: ignore[no-untyped-call]
    else:
        with _statistics_kept(model):
            for chunk, rows in zip(chunks, own, strict=True):
                forward(chunk)[0].backward(rows)  # type: ignore[no-untyped-call]
    sum_gradients(model, ranks)
    return StepResult(loss, parameters)


def make_views(recipe: Recipe, batch: Batch, step: int, device: torch.device | str) -> list[ViewInput]:
    """The views [N, 3, S, S] of a batch, with noise [N, num_bits] for each stochastic one."""
    samples = batch.samples.to(device)
    aspects = batch.aspects.to(device)
    images = as_floats(batch.images.to(device))
    views: list[ViewInput] = []
    for number, view in enumerate(recipe.views):
        key = keys(recipe.seed, step, samples, number)
        order_key = keys(recipe.seed, step, torch.full((1,), -1, dtype=torch.int64), number)
        made = make_view(images, aspects, key, order_key, view)
        noise = bypass = None
        if number in recipe.stochastic_views:
            noise = uniform(key, recipe.num_bits, _NOISE_STREAM)
            if recipe.latent_dropout:
                bypass = uniform(key, 1, _BYPASS_STREAM) < recipe.latent_dropout
        views.append(ViewInput(made, noise, bypass))
    return views


def autocast(recipe: Recipe, device: torch.device | str) -> torch.autocast:
    """bf16 for matrix products where the recipe says so; weights, losses and latents stay float32."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=recipe.precision == "bf16")


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """BatchNorm normalises by the batch as in training, and leaves its running statistics alone."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
