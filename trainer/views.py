"""Random views of a batch, t ~ T of Algorithm 1: crops and colour, batched, on the images' device.

Every choice comes from the sample's key (`trainer.randomness`), so a view does not depend on the
batch around it. Crops and blurs are separable linear maps, one small matrix per image and axis, which
gives an antialiased resize for any crop in two matrix products. Colour follows torchvision's formulas.
Only the order of the four colour operations is drawn once for the whole view, not for each image.
"""

import itertools
import math

import torch
from torch import Tensor

from trainer.randomness import uniform
from trainer.recipe import View

_LUMA = (0.299, 0.587, 0.114)
_RATIOS = (3 / 4, 4 / 3)
_ORDERS = tuple(itertools.permutations(range(4)))
_NUM_UNIFORM = 16


def make_view(images: Tensor, aspects: Tensor, key: Tensor, order_key: Tensor, view: View) -> Tensor:
    """One view, float32 [N, 3, size, size] in [0, 1].

    `images` is float [N, 3, S, S] in [0, 1], each squashed to a square; `aspects` is [N], the width by
    the height before that; `key` is int64 [N] and `order_key` int64 [1], shared by the batch.
    """
    u = uniform(key, _NUM_UNIFORM).unbind(dim=1)
    crop = crop_boxes(view.scale, aspects, u[0], u[1], u[2], u[3])
    mirrored = u[4] < view.flip
    side = images.shape[-1]
    rows = resample_matrix(crop[1] * side, crop[3] * side, side, view.size)
    columns = resample_matrix(crop[0] * side, crop[2] * side, side, view.size)
    columns = torch.where(mirrored[:, None, None], columns.flip(1), columns)
    out = _separable(images, rows, columns).clamp_(0, 1)

    order = _ORDERS[int(uniform(order_key, 1).item() * len(_ORDERS))]
    jittered = (u[5] < view.jitter).to(out.dtype)
    for operation in order:
        if operation == 0 and view.brightness:
            out = adjust_brightness(out, _factor(u[6], view.brightness, jittered))
        elif operation == 1 and view.contrast:
            out = adjust_contrast(out, _factor(u[7], view.contrast, jittered))
        elif operation == 2 and view.saturation:
            out = adjust_saturation(out, _factor(u[8], view.saturation, jittered))
        elif operation == 3 and view.hue:
            out = adjust_hue(out, (2 * u[9] - 1) * view.hue * jittered)
    if view.grey:
        out = torch.where((u[10] < view.grey)[:, None, None, None], grey(out), out)
    if view.blur:
        low, high = view.blur_sigma
        sigma = torch.where(u[11] < view.blur, low + (high - low) * u[12], torch.zeros_like(u[12]))
        blur = blur_matrix(sigma, view.size)
        out = _separable(out, blur, blur)
    if view.solarize:
        inverted = (u[13] < view.solarize)[:, None, None, None] & (out >= 0.5)
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


def resample_matrix(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Weights [N, size, side] that scale the span [start, start + length) of an axis to `size` pixels.

    `start` and `length` are in pixels, [N]. The filter is the antialiased triangle of Pillow's
    `Image.resize(..., BILINEAR, box=...)`.
    """
    step = (length / size)[:, None, None]
    support = step.clamp(min=1)
    centres = start[:, None, None] + (torch.arange(size, device=start.device)[:, None] + 0.5) * step
    pixels = torch.arange(side, device=start.device) + 0.5
    weights = (1 - (pixels - centres).abs_() / support).clamp_(min=0)
    return weights / weights.sum(dim=2, keepdim=True)


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Weights [N, size, size] of a Gaussian blur, sigma in pixels [N]; the identity where it is 0.

    At the border the weights inside the image are scaled to sum to one.
    """
    pixels = torch.arange(size, device=sigma.device)
    distance = (pixels[:, None] - pixels).to(sigma.dtype)
    weights = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3)[:, None, None]) ** 2)
    return weights / weights.sum(dim=2, keepdim=True)


def grey(images: Tensor) -> Tensor:
    """ITU-R 601 luma, repeated over the channels."""
    return _luma(images).expand_as(images)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black; `factor` is [N, 1, 1, 1]."""
    return (images * factor).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean luma."""
    mean = _luma(images).mean(dim=(2, 3), keepdim=True)
    return torch.lerp(mean, images, factor).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image."""
    return torch.lerp(_luma(images).expand_as(images), images, factor).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of HSV by `shift`, [N], in turns."""
    red, green, blue = images.unbind(dim=1)
    value = images.amax(dim=1)
    chroma = value - images.amin(dim=1)
    inverse = torch.where(chroma > 0, 1 / chroma, chroma)
    hue = torch.where(
        value == red,
        (green - blue) * inverse,
        torch.where(value == green, 2 + (blue - red) * inverse, 4 + (red - green) * inverse),
    )
    hue += 6 * shift[:, None, None]
    out = torch.empty_like(images)
    for channel, offset in enumerate((5.0, 3.0, 1.0)):
        k = torch.remainder(hue + offset, 6)
        weight = torch.minimum(k, 4 - k).clamp_(0, 1)
        torch.addcmul(value, chroma, weight, value=-1, out=out[:, channel])
    return out


def _separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ image @ columns^T for each image and channel."""
    count, channels, height, width = images.shape
    # The channels lie side by side, so that each axis is one batched product.
    tall = torch.bmm(rows, images.permute(0, 2, 1, 3).reshape(count, height, channels * width))
    tall = tall.view(count, rows.shape[1], channels, width).permute(0, 2, 1, 3)
    wide = torch.bmm(tall.reshape(count, channels * rows.shape[1], width), columns.transpose(1, 2))
    return wide.view(count, channels, rows.shape[1], columns.shape[1])


def _luma(images: Tensor) -> Tensor:
    luma: Tensor = _LUMA[0] * images[:, :1] + _LUMA[1] * images[:, 1:2] + _LUMA[2] * images[:, 2:]
    return luma


def _factor(u: Tensor, strength: float, jittered: Tensor) -> Tensor:
    """Uniform in [1 - strength, 1 + strength] and not below 0; 1 where there is no jitter."""
    low = max(0.0, 1 - strength)
    factor = low + (1 + strength - low) * u
    return (1 + (factor - 1) * jittered)[:, None, None, None]
