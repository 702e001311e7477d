"""From feature maps to one vector an image."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.recipe import Pooling

LEVELS = (7.0, 4.0)
"""Weights of the two stages before the last one, in their order, beside the last one's 1.

Over Tiny ImageNet, with the ImageNet weights of EfficientNet-Lite0, each part then varies as much.
"""

SCALE = 32.0
"""With it, features of those weights deviate by about 1 each, as rho and g expect of what they learn from."""

_POWER = 3.0
_SMALLEST = 1e-6
"""Keeps the gradient of a root finite where a channel is 0, or the same, everywhere."""


def pool(stages: Sequence[Tensor], pooling: Pooling) -> Tensor:
    """Maps [N, C, H, W] of some stages, the last one not negative, to vectors [N, num_features].

    `average` is the last one's mean. `gem` is its generalised mean with power 3 (Radenovic, Tolias and Chum
    2019, "Fine-tuning CNN image retrieval with no human annotation"): between mean and maximum, so that a
    part of an image counts more. `levels` is that, and the deviation over places of the channels of the two
    stages before, whose texture survives what hides an object; each at a fixed length, side by side.
    """
    last = stages[-1]
    if pooling == "average":
        return last.mean(dim=(2, 3))
    generalised = last.clamp(min=_SMALLEST).pow(_POWER).mean(dim=(2, 3)).pow(1 / _POWER)
    if pooling == "gem":
        return generalised
    parts = [generalised, *map(_deviation, stages[-3:-1])]
    weighted = [weight * F.normalize(part) for weight, part in zip((1.0, *LEVELS), parts, strict=True)]
    return SCALE * torch.cat(weighted, dim=1)


def num_pooled(channels: Sequence[int], pooling: Pooling) -> int:
    """Width of what `pool` makes of stages with so many channels."""
    return sum(channels[-3:]) if pooling == "levels" else channels[-1]


def _deviation(maps: Tensor) -> Tensor:
    variance = (maps - maps.mean(dim=(2, 3), keepdim=True)).square().mean(dim=(2, 3))
    return (variance + _SMALLEST**2).sqrt()
