"""An encoder that only looks: a copy in evaluation mode, made fast, of a network that stays as it is."""

import copy
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.classifier import Encoded, latent_of
from trainer.dataset import Batch, Dataset
from trainer.fusion import fuse_batchnorm
from trainer.model import Encoder
from trainer.recipe import Precision

_BATCH = 500


class FrozenEncoder:
    """f and pi of a network with BatchNorm by its running statistics, folded into the convolutions.

    The network itself is never run, so neither its weights nor its statistics can change. In bf16 the
    backbone computes with weights of bf16, and pi, which decides bits, with float32.
    """

    def __init__(self, encoder: Encoder, precision: Precision) -> None:
        self.recipe = encoder.recipe
        self._encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
        fuse_batchnorm(self._encoder.backbone)
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._encoder.backbone.to(dtype=self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def device(self) -> torch.device:
        """Where images have to be."""
        return self._encoder.mean.device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Encoded:
        """Encode float images [N, 3, H, W] in [0, 1]."""
        x = ((images - self._encoder.mean) / self._encoder.std).to(self._dtype)
        h = self._encoder.backbone(x.contiguous(memory_format=torch.channels_last)).float()
        return Encoded(h, latent_of(self._encoder, h))

    def encode(self, dataset: Dataset, numbers: npt.NDArray[np.int64]) -> tuple[Encoded, Tensor]:
        """Every image of `numbers` that can be read, without augmentation; and their numbers, int64 [N].

        Raises ValueError if none can.
        """
        chunks = (numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH))
        parts: list[tuple[Encoded, Tensor]] = [
            (self(to_unit(batch, self.device)), batch.samples) for batch in _filled(dataset.batches(chunks))
        ]
        if not parts:
            raise ValueError(f"none of the {len(numbers)} labelled images can be read")
        latents = [encoded.latent for encoded, _ in parts if encoded.latent is not None]
        together = Encoded(
            torch.cat([encoded.h for encoded, _ in parts]), torch.cat(latents) if latents else None
        )
        return together, torch.cat([samples for _, samples in parts])


def to_unit(batch: Batch, device: torch.device) -> Tensor:
    """The images of a batch as floats in [0, 1], [N, 3, H, W]."""
    return batch.images.to(device).permute(0, 3, 1, 2).float().div_(255)


def _filled(batches: Iterator[Batch]) -> Iterator[Batch]:
    return (batch for batch in batches if len(batch.samples))
