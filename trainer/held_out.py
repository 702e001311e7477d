"""What linear layers make of held-out images: nothing is sampled, as nothing is when images are encoded.

Only the z of a Bernoulli latent is measured once more on variates, to tell what sampling would cost.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainer.augmentation import latent_noise
from trainer.classifier import Encoded, represent
from trainer.recipe import Recipe, Representation
from trainer.targets import Task

SAMPLED = "z_sampled"
"""The layer on the z of a Bernoulli latent once more, measured on variates instead of probabilities."""

_ROWS = 1000
"""Images measured at a time."""

Scores = dict[str, dict[str, float]]
"""By representation, and then by name."""


@torch.no_grad()
def score(
    recipe: Recipe,
    layers: Mapping[Representation, nn.Module],
    task: Task,
    encoded: Encoded,
    numbers: Tensor,
    seed: int,
    step: int,
) -> Scores:
    """Scores of the layer on each representation, for N held-out images and their `numbers`, int64 [N].

    The variates of `z_sampled` are keyed by `seed` and `step`.
    """
    reads: dict[str, Representation] = {on: on for on in layers}
    if recipe.latent == "bernoulli" and "z" in layers:
        reads[SAMPLED] = "z"
    outputs: dict[str, list[Tensor]] = {name: [] for name in reads}
    for start in range(0, len(numbers), _ROWS):
        rows = slice(start, start + _ROWS)
        part = Encoded(encoded.h[rows], None if encoded.latent is None else encoded.latent[rows])
        for name, on in reads.items():
            noise = None
            if name == SAMPLED:
                noise = latent_noise(numbers[rows], recipe.num_bits, seed, step, 1, part.h.device)
            outputs[name].append(layers[on](represent(recipe, on, part, noise)))
    return {name: task.scores(torch.cat(parts), numbers) for name, parts in outputs.items()}
