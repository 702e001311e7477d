"""Where the weights of a new run come from, if not from random numbers alone."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from trainer.dataset import Dataset
from trainer.frozen import FrozenEncoder, to_unit
from trainer.hashing import fit_whitened
from trainer.initial_weights import Weights, refit_norms, take_weights
from trainer.latent import gumbel_bernoulli
from trainer.model import StochCon
from trainer.ranks import Ranks, together
from trainer.sources import Source

_NUM_NORMED = 512
"""Images, evenly spaced, that BatchNorm's statistics are taken over where a file has none."""

_NUM_FITTED = 8192
"""Images, evenly spaced, that a whitened start is fitted to."""

_VARIATES_PER_BIT = 4
"""That rho is fitted to at least: where there are fewer images, each gives several."""

_SPREAD = 2.0
"""Deviation of the logits of a whitened start: Gumbel noise changes some bits, and not most of them."""

_BATCH = 64


def start(model: StochCon, weights: Weights, source: Source, ranks: Ranks) -> str:
    """Give every rank's `model` what rank 0 makes of `weights`; say what that was.

    Raises ValueError if the weights are not of the recipe's backbone.
    """
    said = ""
    content = None
    with together(ranks):
        if ranks.rank == 0:
            said = _take(model, weights, source)
            buffer = io.BytesIO()
            torch.save(model.state_dict(), buffer)
            content = buffer.getvalue()
    if ranks.size > 1:
        told = ranks.broadcast(content)
        assert told is not None
        state = torch.load(io.BytesIO(told), map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    return said


def _take(model: StochCon, weights: Weights, source: Source) -> str:
    taken = take_weights(model, weights)
    if weights.folded and model.recipe.batch_statistics:
        refit_norms(model, _images(model, source, _NUM_NORMED))
    named = {"projector": "pi", "decoder": "rho", "head": "g"}
    parts = ", ".join(named.get(part, part) for part in taken.parts)
    left = f"; no place here for {_shorten(taken.left)}" if taken.left else ""
    if model.recipe.latent_start == "whitened" and not {"projector", "decoder"} <= set(taken.parts):
        encoder = FrozenEncoder(model, "fp32")
        features = torch.cat([encoder(batch).h for batch in _images(model, source, _NUM_FITTED)]).cpu()
        if "projector" not in taken.parts:
            _whiten(model, features)
            left += "; pi starts from whitened features"
        _fit_decoder(model, features)
        left += "; rho starts as a reconstruction of features"
    return f"starting from {parts} of {weights.path}{left}"


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


@torch.no_grad()
def _whiten(model: StochCon, features: Tensor) -> None:
    """Make pi a random rotation of whitened `features`, float32 [n, num_features]."""
    planes = fit_whitened(features, model.recipe.num_bits, model.recipe.seed)
    logits = (features - planes.mean) @ planes.normals
    weight = planes.normals.T * (_SPREAD / logits.std())
    model.projector.weight.copy_(weight)
    model.projector.bias.copy_(-weight @ planes.mean)


@torch.no_grad()
def _fit_decoder(model: StochCon, features: Tensor) -> None:
    """Make rho the least squares of `features` from their variates, float32 [n, num_features].

    With a random rho, decoded views look like no others; g then tells views apart in place of images.
    """
    recipe = model.recipe
    generator = torch.Generator().manual_seed(recipe.seed)
    repeats = -(-_VARIATES_PER_BIT * recipe.num_bits // len(features))
    h = features.double().repeat(repeats, 1)
    phi = model.logits(features).repeat(repeats, 1)
    noise = torch.rand(phi.shape, generator=generator)
    z = gumbel_bernoulli(phi, noise, recipe.gumbel_start, recipe.hard).double()
    centred = z - z.mean(0)
    # The least of a ridge: a bit that never changes has no variance.
    gram = centred.T @ centred + 1e-6 * len(z) * torch.eye(recipe.num_bits, dtype=torch.float64)
    weight = torch.linalg.solve(gram, centred.T @ (h - h.mean(0))).T
    model.decoder.weight.copy_(weight)
    model.decoder.bias.copy_(h.mean(0) - weight @ z.mean(0))


def _images(model: StochCon, source: Source, count: int) -> Iterator[Tensor]:
    """`count` images, or all there are, as floats [n, 3, H, W]."""
    numbers = np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64)
    with Dataset(source, model.recipe.preprocessing) as dataset:
        for batch in dataset.batches(numbers[i : i + _BATCH] for i in range(0, len(numbers), _BATCH)):
            if len(batch.samples):
                yield to_unit(batch, model.mean.device)
