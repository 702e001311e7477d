"""Labelled images as a trained model sees them: what every measurement starts from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from contracts.codes import Codes, pack_logits
from contracts.manifest import Preprocessing
from trainer.classifier import Classifier
from trainer.dataset import Dataset
from trainer.frozen import FrozenEncoder
from trainer.model import StochCon
from trainer.runs import load_run
from trainer.sources import Source

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Seen:
    """n images as a model sees them; None for what it does not give."""

    features: Tensor | None = None
    """h, float32 [n, num_features]."""
    codes: Codes | None = None
    """uint8 [n, num_bits / 8]."""
    entropy: Tensor | None = None
    """Of all bits given the image, in bits: float32 [n]."""
    means: Tensor | None = None
    """Of a Gaussian latent, float32 [n, num_bits]."""
    variances: Tensor | None = None
    """Of the same, float32 [n, num_bits]."""
    predicted: Tensor | None = None
    """Places in the classes of the model: int64 [n]."""


class Encoder(Protocol):
    """A trained model, ready to encode."""

    preprocessing: Preprocessing
    classes: list[str]
    """Names of the classes that it tells apart; may be empty."""

    def __call__(self, images: Tensor) -> Seen:
        """Encode uint8 images [n, H, W, 3], preprocessed."""
        ...


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The labelled images of a source, and how a model sees them."""

    classes: list[str]
    """Names of the labels."""
    labels: Tensor
    """int64 [n]: places in `classes`."""
    broken: list[str]
    """Names of images that could not be read, with the reason; they are not among the n."""
    pixels: Tensor
    """float32 [n, width] in [0, 1], averaged down to at most 32x32, which more memory would not improve."""
    seen: Seen
    model_classes: list[str]
    """Those of the encoder."""


class RunEncoder:
    """The model of a run's checkpoint, in float32 evaluation mode."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.trained = load_run(folder)
        self.preprocessing = self.trained.recipe.preprocessing
        self.classes = self.trained.classes
        self._model = self.trained.model.to(device)
        self._frozen = FrozenEncoder(self._model, "fp32")

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Seen:
        x = images.to(self._frozen.device).permute(0, 3, 1, 2).float().div_(255)
        encoded = self._frozen(x)
        codes = entropy = means = variances = predicted = None
        if self.trained.recipe.latent == "bernoulli":
            assert encoded.latent is not None
            codes, entropy = pack_logits(encoded.latent.cpu().numpy()), entropy_of(encoded.latent).cpu()
        elif self.trained.recipe.latent == "gaussian":
            means, variances = (moment.cpu() for moment in self._model.moments(encoded.h))
        if self.classes:
            assert isinstance(self._model, Classifier | StochCon)
            predicted = self._model.class_logits(encoded.h).argmax(1).cpu()
        return Seen(encoded.h.cpu(), codes, entropy, means, variances, predicted)


class FileEncoder:
    """An exported ONNX file, run by onnxruntime: what users will get."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        from contracts.model_file import read_manifest

        manifest = read_manifest(path)
        self.preprocessing = manifest.preprocessing
        self.classes = manifest.labels or []
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, images: Tensor) -> Seen:
        found = dict(
            zip(self._outputs, self._session.run(self._outputs, {"image": images.numpy()}), strict=True)
        )
        floats = {name: torch.from_numpy(value) for name, value in found.items() if name != "code"}
        return Seen(
            features=floats.get("features"),
            codes=found.get("code"),
            entropy=entropy_of(floats["logits"]) if "logits" in floats else None,
            predicted=floats["class_logits"].argmax(1) if "class_logits" in floats else None,
        )


def embed(encoder: Encoder, source: Source, max_images: int | None = None) -> Embeddings:
    """Every labelled image of `source`, cropped as the service does, or `max_images` at equal distances.

    Raises ValueError if there is none.
    """
    if source.classes is None:
        raise ValueError("the images have no labels, and k-NN and mAP need them: give labelled --images")
    labelled = np.array([i for i in range(len(source)) if source.label(i) is not None], np.int64)
    numbers = _evenly(labelled, max_images)
    parts: list[Seen] = []
    pixels: list[Tensor] = []
    samples: list[Tensor] = []
    with Dataset(source, encoder.preprocessing) as dataset:
        for batch in dataset.batches(_chunks(numbers)):
            if len(batch.samples):
                parts.append(encoder(batch.images))
                pixels.append(_raw_pixels(batch.images))
                samples.append(batch.samples)
        broken = list(dataset.broken.values())
    if not parts:
        raise ValueError(
            f"of {len(source)} images {len(labelled)} have labels and {len(broken)} of those cannot be read: "
            "none is left to evaluate" + (f"; the first: {broken[0]}" if broken else "")
        )
    labels = [source.label(int(number)) for number in torch.cat(samples)]
    return Embeddings(
        classes=source.classes,
        labels=torch.tensor(labels, dtype=torch.int64),
        broken=broken,
        pixels=torch.cat(pixels),
        seen=_together(parts),
        model_classes=encoder.classes,
    )


def entropy_of(logits: Tensor) -> Tensor:
    """Sum of the entropies of Bernoulli bits, in bits: float32 [n] of logits [n, num_bits].

    In nats it is log(1 + exp(-|l|)) + |l| sigmoid(-|l|) for a logit l, which nothing overflows.
    """
    size = logits.float().abs()
    nats = F.softplus(-size) + size * torch.sigmoid(-size)
    return nats.sum(1) / math.log(2)


def _together(parts: list[Seen]) -> Seen:
    def joined(name: str) -> Tensor | None:
        found = [value for part in parts if (value := getattr(part, name)) is not None]
        return torch.cat(found) if found else None

    codes = [part.codes for part in parts if part.codes is not None]
    return Seen(
        features=joined("features"),
        codes=np.concatenate(codes) if codes else None,
        entropy=joined("entropy"),
        means=joined("means"),
        variances=joined("variances"),
        predicted=joined("predicted"),
    )


def _raw_pixels(images: Tensor) -> Tensor:
    """uint8 [n, H, W, 3] to float32 [n, h * w * 3] in [0, 1], with h and w at most 32."""
    height, width = images.shape[1:3]
    planes = images.permute(0, 3, 1, 2).float().div_(255)
    if max(height, width) > 32:
        planes = F.adaptive_avg_pool2d(planes, (min(height, 32), min(width, 32)))
    return planes.flatten(1)


def _evenly(numbers: npt.NDArray[np.int64], at_most: int | None) -> npt.NDArray[np.int64]:
    if at_most is None or len(numbers) <= at_most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, at_most).round().astype(np.int64)]


def _chunks(numbers: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(numbers), _BATCH):
        yield numbers[start : start + _BATCH]
