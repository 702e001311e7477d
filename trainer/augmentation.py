"""The augmentation of probes and of fine-tuning: random-resized crop and flip (appendix A.3)."""

import torch
from torch import Tensor

from trainer.dataset import Batch
from trainer.randomness import keys, uniform
from trainer.recipe import View
from trainer.views import as_floats, make_view

_NOISE_STREAM = 1


def crop_and_flip(batch: Batch, size: int, seed: int, step: int, device: torch.device) -> Tensor:
    """A random view of each image of a batch, float [N, 3, size, size] in [0, 1].

    8 to 100 % of the area, as is standard for ImageNet.
    """
    images = as_floats(batch.images.to(device))
    key = keys(seed, step, batch.samples.to(device), 0)
    order_key = torch.zeros(1, dtype=torch.int64)  # of operations on colour, of which there are none
    view = View(size=size, jitter=0, brightness=0, contrast=0, saturation=0, hue=0, grey=0)
    made = make_view(images, batch.aspects.to(device), key, order_key, view)
    return made.contiguous(memory_format=torch.channels_last)


def latent_noise(
    samples: Tensor, width: int, seed: int, step: int, view: int, device: torch.device
) -> Tensor:
    """Uniform numbers in (0, 1), [N, width], for images `samples`: `view` is 0 in training and 1 at test."""
    return uniform(keys(seed, step, samples.to(device), view), width, _NOISE_STREAM)
