"""Maps of an image that are one matrix for each axis: resizing and blurring."""

import torch
from torch import Tensor


def resample_matrix(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Weights [N, size, side] that scale the span [start, start + length) of an axis to `size` pixels.

    `start` and `length` are in pixels, [N]; a span of negative length is read backwards. The filter is the
    antialiased triangle of Pillow's `Image.resize(..., BILINEAR, box=...)`.
    """
    step = (length / size)[:, None]
    scale = 1 / step.abs().clamp_(min=1)
    centres = start[:, None] + (torch.arange(size, device=start.device) + 0.5) * step
    pixels = torch.arange(side, device=start.device) + 0.5
    distances = ((centres * scale)[:, :, None] - (pixels * scale)[:, None]).abs_()
    weights = distances.sub_(1).clamp_(max=0)  # all negated, and so is their sum
    return weights.div_(weights.sum(dim=2, keepdim=True))


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Weights [N, size, size] of a Gaussian blur, sigma in pixels [N]; the identity where it is 0.

    At the border the weights inside the image are scaled to sum to one.
    """
    pixels = torch.arange(size, device=sigma.device)
    distance = (pixels[:, None] - pixels).to(sigma.dtype)
    weights = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3)[:, None, None]) ** 2)
    return weights / weights.sum(dim=2, keepdim=True)


def apply_separably(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ image @ columns^T for each image and channel: [N, C, H, W] by [N, H', H] and [N, W', W]."""
    count, channels, height, width = images.shape
    # The channels lie side by side, so that each axis is one batched product.
    tall = torch.bmm(rows, images.transpose(1, 2).reshape(count, height, channels * width))
    tall = tall.view(count, -1, channels, width).transpose(1, 2).reshape(count, -1, width)
    return torch.bmm(tall, columns.transpose(1, 2)).view(count, channels, rows.shape[1], columns.shape[1])
