"""Where the weights of a new run come from, if not from random numbers alone."""

import io

import numpy as np
import torch

from trainer.dataset import Dataset
from trainer.frozen import to_unit
from trainer.initial_weights import Weights, refit_norms, take_weights
from trainer.model import StochCon
from trainer.ranks import Ranks, together
from trainer.sources import Source

_NUM_IMAGES = 512
"""Images, evenly spaced, that BatchNorm's statistics are taken over where a file has none."""

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
        with Dataset(source, model.recipe.preprocessing) as dataset:
            count = min(_NUM_IMAGES, len(source))
            numbers = np.linspace(0, len(source) - 1, count).astype(np.int64)
            batches = dataset.batches(numbers[i : i + _BATCH] for i in range(0, count, _BATCH))
            device = model.mean.device
            refit_norms(model, (to_unit(batch, device) for batch in batches if len(batch.samples)))
    named = {"projector": "pi", "decoder": "rho", "head": "g"}
    parts = ", ".join(named.get(part, part) for part in taken.parts)
    left = f"; {len(taken.left)} of its weights have no place here" if taken.left else ""
    return f"starting from {parts} of {weights.path}{left}"
