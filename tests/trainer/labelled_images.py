"""What the tests of probing and fine-tuning share: a network, and labelled images that are awkward."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from tests.tiny_images import make_png, write_parquet
from trainer.model import StochCon
from trainer.randomness import keys
from trainer.recipe import Recipe, View
from trainer.sources import Source
from trainer.views import make_view

NUM_BITS = 64


def make_network(recipe: Recipe, seed: int = 0) -> StochCon:
    """A network whose BatchNorm has seen images, so that it has statistics, and not those of any batch."""
    torch.manual_seed(seed)
    network = StochCon(recipe)
    with torch.no_grad():
        for name, parameter in network.backbone.named_parameters():
            if name.endswith("bn2.weight"):  # zero at first, which would leave branches out
                parameter.fill_(0.5)
        for _ in range(20):
            network.features(torch.rand(24, 3, 1, 1) + 0.1 * torch.rand(24, 3, 16, 16))
    return network.to(memory_format=torch.channels_last)


def write_labelled(path: Path, labels: Sequence[int], first_seed: int = 0) -> Path:
    """An image for each label, in its colour; those of label -1 have none."""
    images = [make_png(max(label, 0), first_seed + i) for i, label in enumerate(labels)]
    return write_parquet(path, images, list(labels))


def write_numbered(path: Path, images: list[bytes], columns: dict[str, pa.Array]) -> Path:
    """Images beside columns."""
    structs = pa.array(
        [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    pq.write_table(pa.table({"image": structs, **columns}), path)
    return path


def plain_png(colour: Sequence[int], side: int = 16) -> bytes:
    """One colour all over, so that no crop and no flip changes it."""
    encoded = io.BytesIO()
    Image.new("RGB", (side, side), tuple(colour)).save(encoded, "PNG")
    return encoded.getvalue()


def pixels_of(source: Source, numbers: Sequence[int]) -> Tensor:
    """Images of the recipe's size, float [N, 3, H, W] in [0, 1]."""
    arrays = [np.array(Image.open(io.BytesIO(source.read(number)))) for number in numbers]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def augmented(source: Source, numbers: Sequence[int], seed: int, step: int) -> Tensor:
    """Random-resized crop of 8 to 100 % and flip, with no colour touched."""
    view = View(size=16, scale=(0.08, 1.0), flip=0.5, jitter=0, grey=0, blur=0, solarize=0)
    key = keys(seed, step, torch.tensor(numbers), 0)
    images = pixels_of(source, numbers)
    made = make_view(images, torch.ones(len(images)), key, torch.zeros(1, dtype=torch.int64), view)
    return made.contiguous(memory_format=torch.channels_last)


class Adam:
    """Kingma and Ba 2015, Algorithm 1."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]
        self.t = 0

    @torch.no_grad()
    def step(self, lr: float) -> None:
        self.t += 1
        for p, m, v in zip(self.parameters, self.m, self.v, strict=True):
            if p.grad is None:
                continue
            m.mul_(0.9).add_(0.1 * p.grad)
            v.mul_(0.999).add_(0.001 * p.grad**2)
            m_hat, v_hat = m / (1 - 0.9**self.t), v / (1 - 0.999**self.t)
            p -= lr * m_hat / (v_hat.sqrt() + 1e-8)
            p.grad = None
