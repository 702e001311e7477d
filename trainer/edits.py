"""What people do to pictures before they post them again, as random edits of a view.

A network that is to find such duplicates has to be trained on them. Each edit is drawn for each image from
its key and done to the batch at once, as all of a view is (`trainer.views`). Images are [N, 3, S, S] in
[0, 1].
"""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.randomness import uniform
from trainer.resampling import apply_separably, resample_matrix

BLOCK = 8
"""Pixels of a side of JPEG's blocks."""

_STREAM = 3
_NUM_BOXES = 3
_NUM_UNIFORM = 7 * _NUM_BOXES
_MAX_TILT = math.radians(35)
_SMALL = (28, 40, 56, 80)
"""Sides in pixels, of pictures that were made small and large again."""
_QUALITIES = (8.0, 40.0)

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99, 99, 99, 99, 99, 99, 99, 99),) * 4,
)
"""Steps of quantisation at quality 50 (ITU-T T.81, tables K.1 and K.2)."""

_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)


def edit(images: Tensor, key: Tensor, probability: float) -> Tensor:
    """Each edit below with `probability`, one after the other, in place. `key` is int64 [N]."""
    for number, change in enumerate(EDITS):
        u = uniform(key, _NUM_UNIFORM + 1, _STREAM + number)
        chosen = torch.nonzero(u[:, -1] < probability)[:, 0]
        if len(chosen):
            images[chosen] = change(images[chosen], u[chosen, :-1])
    return images


def recolour(images: Tensor, u: Tensor) -> Tensor:
    """Red and blue exchanged, and darker, down to 30 %."""
    return images.flip(1) * (0.3 + 0.7 * u[:, 0, None, None, None])


def cover(images: Tensor, u: Tensor) -> Tensor:
    """Three opaque boxes, each of 15 to 50 % of the width and height."""
    side = images.shape[-1]
    pixels = (torch.arange(side, device=images.device) + 0.5) / side
    for box in u.view(-1, _NUM_BOXES, 7).unbind(dim=1):
        width, height = 0.15 + 0.35 * box[:, 0], 0.15 + 0.35 * box[:, 1]
        columns = _between(pixels, box[:, 2] * (1 - width), width)
        rows = _between(pixels, box[:, 3] * (1 - height), height)
        covered = (rows[:, :, None] & columns[:, None, :])[:, None]
        images = torch.where(covered, box[:, 4:, None, None], images)
    return images


def tilt(images: Tensor, u: Tensor) -> Tensor:
    """Turned by up to 35 degrees, on black."""
    angle = (2 * u[:, 0] - 1) * _MAX_TILT
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    maps = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def beside_another(images: Tensor, u: Tensor) -> Tensor:
    """One half of a collage. The other is the picture's own negative, upside down: something else, and no
    matter of the batch around it.
    """
    half = F.interpolate(images, (images.shape[2], images.shape[3] // 2), mode="area")
    other = 1 - half.flip(1, 2)
    is_left = (u[:, 0] < 0.5)[:, None, None, None]
    return torch.where(is_left, torch.cat([half, other], dim=3), torch.cat([other, half], dim=3))


def shrink(images: Tensor, u: Tensor) -> Tensor:
    """Made small, to 28 to 80 pixels a side, and large again."""
    choice = (u[:, 0] * len(_SMALL)).long()
    both_ways = _both_ways(images.shape[-1]).to(images.device)[choice]
    return apply_separably(images, both_ways, both_ways)


def compress(images: Tensor, u: Tensor) -> Tensor:
    """What JPEG of qualities 8 to 40 leaves, with colours in full resolution (ITU-T T.81)."""
    count, _, side, _ = images.shape
    quality = _QUALITIES[0] + (_QUALITIES[1] - _QUALITIES[0]) * u[:, 0, None, None, None]
    tables = torch.tensor((_LUMINANCE, _CHROMINANCE, _CHROMINANCE), device=images.device)
    # libjpeg's scale of the tables, for qualities below 50.
    steps = torch.floor((tables * torch.floor(5000 / quality) + 50) / 100).clamp(1, 255)
    cosines = _cosines().to(images.device)
    to_ycbcr = torch.tensor(_TO_YCBCR, device=images.device)
    values = torch.einsum("dc,nchw->ndhw", to_ycbcr, images * 255)
    values[:, 0] -= 128
    blocks = values.reshape(count, 3, side // BLOCK, BLOCK, side // BLOCK, BLOCK).transpose(3, 4)
    coefficients = cosines @ blocks @ cosines.T
    steps = steps[:, :, None, None]
    blocks = cosines.T @ ((coefficients / steps).round() * steps) @ cosines
    values = blocks.transpose(3, 4).reshape(count, 3, side, side)
    values[:, 0] += 128
    rgb = torch.einsum("dc,nchw->ndhw", to_ycbcr.double().inverse().to(values.dtype), values)
    return (rgb / 255).clamp(0, 1)


EDITS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    recolour,
    cover,
    tilt,
    beside_another,
    shrink,
    compress,
)
"""In the order of application: images and uniform numbers, [N, 21], to images."""


def _between(pixels: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """bool [N, S]"""
    return (pixels >= start[:, None]) & (pixels < (start + length)[:, None])


@cache
def _both_ways(side: int) -> Tensor:
    """Weights [sizes, side, side] that make an axis small and large again."""
    zero = torch.zeros(1)
    found = []
    for small in _SMALL:
        down = resample_matrix(zero, torch.tensor([float(side)]), side, small)
        up = resample_matrix(zero, torch.tensor([float(small)]), small, side)
        found.append(up @ down)
    return torch.cat(found)


@cache
def _cosines() -> Tensor:
    """The orthonormal DCT-II of 8 values, [8, 8]."""
    k = torch.arange(BLOCK)[:, None]
    basis = torch.cos(math.pi / BLOCK * (torch.arange(BLOCK) + 0.5) * k) * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    return basis
