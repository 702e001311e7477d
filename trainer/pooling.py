"""From a feature map to one vector an image."""

from typing import Literal

from torch import Tensor

Pooling = Literal["average", "gem"]

_POWER = 3.0
_SMALLEST = 1e-6
"""Keeps the gradient of the root finite where a channel is 0 everywhere."""


def pool(maps: Tensor, pooling: Pooling) -> Tensor:
    """[N, C, H, W], not negative, to [N, C].

    `gem` is the generalised mean with power 3 (Radenovic, Tolias and Chum 2019, "Fine-tuning CNN image
    retrieval with no human annotation"): between mean and maximum, so that a part of an image counts more.
    """
    if pooling == "average":
        return maps.mean(dim=(2, 3))
    return maps.clamp(min=_SMALLEST).pow(_POWER).mean(dim=(2, 3)).pow(1 / _POWER)
