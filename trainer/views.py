"""Random views of a batch, t ~ T of Algorithm 1: crops and colour, batched, on the images' device.

Every choice comes from the sample's key (`trainer.randomness`), so a view does not depend on the
batch around it. Crops and blurs are separable linear maps, one small matrix per image and axis, which
gives an antialiased resize for any crop in two matrix products. Colour follows torchvision's formulas.
Only the order of the four colour operations is drawn once for the whole view, not for each image.

On a CPU the batch goes through all operations a few images at a time, since they do little work a byte
and a whole batch would travel to memory and back for each of them.
"""

import itertools
import math

import torch
from torch import Tensor

from trainer.edits import edit
from trainer.randomness import uniform
from trainer.recipe import View
from trainer.resampling import apply_separably, blur_matrix, resample_matrix

_LUMA = (0.299, 0.587, 0.114)
_RATIOS = (3 / 4, 4 / 3)
_ORDERS = tuple(itertools.permutations(range(4)))
_NUM_UNIFORM = 16
_CHUNK_PIXELS = 2**16
"""Pixels that a CPU thread takes through all operations at once, so that its cache holds them."""


def as_floats(images: Tensor) -> Tensor:
    """Bytes [N, S, S, 3] as float32 [N, 3, S, S] in [0, 1], stored by row, then channel, then column.

    In this order both axes of a crop are matrix products without a copy; `make_view` takes any order.
    """
    return images.transpose(2, 3).contiguous().float().div_(255).transpose(1, 2)


def make_view(images: Tensor, aspects: Tensor, key: Tensor, order_key: Tensor, view: View) -> Tensor:
    """One view, float32 [N, 3, size, size] in [0, 1], stored channels last.

    `images` is float [N, 3, S, S] in [0, 1], each squashed to a square; `aspects` is [N], the width by
    the height before that; `key` is int64 [N] and `order_key` int64 [1], shared by the batch. On a GPU
    `order_key` is best left on the CPU, since its value is needed there.
    """
    u = uniform(key, _NUM_UNIFORM)
    crop = torch.stack(crop_boxes(view.scale, aspects, *u[:, :4].unbind(dim=1)), dim=1)
    order = _ORDERS[int(uniform(order_key, 1).item() * len(_ORDERS))]
    count = len(images)
    shape = (count, 3, view.size, view.size)
    out = torch.empty(shape, device=images.device, memory_format=torch.channels_last)
    at_once = count if images.is_cuda else _CHUNK_PIXELS * torch.get_num_threads() // view.size**2
    at_once = max(1, at_once)
    for start in range(0, count, at_once):
        chunk = slice(start, start + at_once)
        cropped = _crop(images[chunk], crop[chunk], u[chunk, 4] < view.flip, view.size)
        made = _recolour(cropped, u[chunk], order, view)
        out[chunk] = edit(made, key[chunk], view.edits) if view.edits else made
    return out


def _crop(images: Tensor, crop: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """The box `crop` [N, 4] of each image (left, top, width, height as shares), scaled to `size` pixels."""
    side = images.shape[-1]
    left, top, width, height = (crop * side).unbind(dim=1)
    # A mirrored image is one whose columns are read backwards.
    left, width = torch.where(mirrored, left + width, left), torch.where(mirrored, -width, width)
    both = resample_matrix(torch.cat([top, left]), torch.cat([height, width]), side, size)
    return apply_separably(images, *both.chunk(2))


def _recolour(images: Tensor, u: Tensor, order: tuple[int, ...], view: View) -> Tensor:
    """Colour jitter in the order given, then loss of colour, blur and solarisation, each by chance."""
    jittered = (u[:, 5] < view.jitter).to(images.dtype)
    out = images
    for operation in order if view.jitter else ():
        if operation == 0 and view.brightness:
            out = adjust_brightness(out, _factor(u[:, 6], view.brightness, jittered))
        elif operation == 1 and view.contrast:
            out = adjust_contrast(out, _factor(u[:, 7], view.contrast, jittered))
        elif operation == 2 and view.saturation:
            out = adjust_saturation(out, _factor(u[:, 8], view.saturation, jittered))
        elif operation == 3 and view.hue:
            out = adjust_hue(out, (2 * u[:, 9] - 1) * view.hue * jittered)
    if view.grey:
        coloured = (u[:, 10] >= view.grey).to(out.dtype)
        out = adjust_saturation(out, coloured[:, None, None, None])
    if view.blur:
        low, high = view.blur_sigma
        sigma = torch.where(u[:, 11] < view.blur, low + (high - low) * u[:, 12], torch.zeros_like(u[:, 12]))
        blur = blur_matrix(sigma, view.size)
        out = apply_separably(out, blur, blur)
    if view.solarize:
        inverted = (u[:, 13] < view.solarize)[:, None, None, None] & (out >= 0.5)
        out = torch.where(inverted, 1 - out, out)
    return out


def crop_boxes(
    scale: tuple[float, float], aspects: Tensor, u_area: Tensor, u_ratio: Tensor, u_x: Tensor, u_y: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """left, top, width, height of random crops as shares of the image, [N] each.

    The area is uniform in `scale` and the aspect ratio log-uniform in 3/4 to 4/3 as in torchvision's
    RandomResizedCrop; where such a box does not fit, its long side is cut to the image instead of drawn anew.
    """
    area = scale[0] + (scale[1] - scale[0]) * u_area
    low, high = math.log(_RATIOS[0]), math.log(_RATIOS[1])
    ratio = torch.exp(low + (high - low) * u_ratio) / aspects
    width = torch.sqrt(area * ratio).clamp_(max=1)
    height = torch.sqrt(area / ratio).clamp_(max=1)
    return u_x * (1 - width), u_y * (1 - height), width, height


def grey(images: Tensor) -> Tensor:
    """ITU-R 601 luma, repeated over the channels."""
    return _luma(images).expand_as(images)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black; `factor` is [N, 1, 1, 1]."""
    return (images * factor).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean luma."""
    mean = _luma(images.mean(dim=(2, 3), keepdim=True))
    return (images * factor).add_(mean.mul_(1 - factor)).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image."""
    return torch.lerp(_luma(images), images, factor).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of HSV by `shift`, [N], from -0.5 to 0.5 turns.

    Seen from red, and counted in sixths of a turn, a hue lies 1 + (g + b - r - min) / chroma away, on
    the side of the larger of green and blue. So no pixel needs to be told which channel is its largest.
    """
    red, green, blue = images.unbind(dim=1)
    low = torch.minimum(red, green).minimum(blue)
    chroma = torch.maximum(red, green).maximum(blue).sub_(low)
    hue = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=1e-6)).add_(1)
    hue.copysign_(green - blue)
    hue = hue.mul_(1 / 6).add_((shift + 1)[:, None, None]).frac_().mul_(6)
    # Each channel is a trapezium over the hue in [0, 6): red is full at 0, green at 2, blue at 4.
    out = torch.empty_like(images)
    red, green, blue = out.unbind(dim=1)
    torch.sub(hue, 3, out=red).abs_().sub_(1)
    torch.sub(hue, 2, out=green).abs_().neg_().add_(2)
    torch.sub(hue, 4, out=blue).abs_().neg_().add_(2)
    return out.clamp_(0, 1).mul_(chroma[:, None]).add_(low[:, None])


def _luma(images: Tensor) -> Tensor:
    """Weighted sum [N, 1, H, W] of the channels, in memory of its own."""
    luma = images[:, :1] * _LUMA[0]
    return luma.add_(images[:, 1:2], alpha=_LUMA[1]).add_(images[:, 2:], alpha=_LUMA[2])


def _factor(u: Tensor, strength: float, jittered: Tensor) -> Tensor:
    """Uniform in [1 - strength, 1 + strength] and not below 0; 1 where there is no jitter."""
    low = max(0.0, 1 - strength)
    factor = low + (1 + strength - low) * u
    return (1 + (factor - 1) * jittered)[:, None, None, None]
