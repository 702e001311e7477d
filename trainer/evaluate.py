"""What a model's codes are worth: beside its own float features, raw pixels and random projections."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from contracts.codes import Codes, active_bits, pack_logits, unpack
from contracts.manifest import Preprocessing
from trainer import checkpoint as checkpoints
from trainer.dataset import Dataset
from trainer.model import StochCon
from trainer.recipe import Recipe
from trainer.retrieval import Retrieval, evaluate_codes, evaluate_floats
from trainer.sources import Source

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The labelled images of a source as a model sees them."""

    classes: list[str]
    """Names of the labels."""
    labels: Tensor
    """int64 [n]: places in `classes`."""
    broken: list[str]
    """Names of images that could not be read, with the reason; they are not among the n."""
    pixels: Tensor
    """float32 [n, width] in [0, 1], averaged down to at most 32x32, which more memory would not improve."""
    features: Tensor | None
    """h, float32 [n, num_features]; None for an exported model that gives codes instead."""
    logits: Tensor | None
    """float32 [n, num_bits]; None without a latent."""
    codes: Codes | None
    """uint8 [n, num_bits / 8]; None without a latent."""


class Encoder(Protocol):
    """uint8 images [N, H, W, 3], preprocessed, to features, logits and codes."""

    preprocessing: Preprocessing

    def __call__(self, images: Tensor) -> tuple[Tensor | None, Tensor | None, Codes | None]: ...


class RunEncoder:
    """The model of a run's checkpoint, in float32 evaluation mode."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.recipe, self.model = load_run(folder)
        self.preprocessing = self.recipe.preprocessing
        self._device = device
        self.model.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor | None, Tensor | None, Codes | None]:
        x = images.to(self._device).permute(0, 3, 1, 2).float().div(255)
        h = self.model.features(x.contiguous(memory_format=torch.channels_last))
        if self.recipe.latent == "none":
            return h.cpu(), None, None
        logits = self.model.logits(h).cpu()
        return h.cpu(), logits, pack_logits(logits.numpy())


class FileEncoder:
    """An exported ONNX file, run by onnxruntime: the codes (or features) that users will get."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        from contracts.model_file import read_manifest

        manifest = read_manifest(path)
        self.preprocessing = manifest.preprocessing
        self._makes_codes = manifest.latent == "bernoulli"
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def __call__(self, images: Tensor) -> tuple[Tensor | None, Tensor | None, Codes | None]:
        inputs = {"image": images.numpy()}
        if not self._makes_codes:
            (features,) = self._session.run(["features"], inputs)
            return torch.from_numpy(features), None, None
        code, logits = self._session.run(["code", "logits"], inputs)
        return None, torch.from_numpy(logits), code


def load_run(folder: Path) -> tuple[Recipe, StochCon]:
    """Recipe and model of a run's last checkpoint, in evaluation mode. Raises ValueError if there is none."""
    checkpoint = checkpoints.load(folder)
    if checkpoint is None:
        raise ValueError(f"{folder} holds no {checkpoints.CHECKPOINT}: train with `stochcon train` first")
    model = StochCon(checkpoint.recipe, len(checkpoint.classes))
    model.load_state_dict(checkpoint.model)
    return checkpoint.recipe, model.eval()


def embed(encoder: Encoder, source: Source) -> Embeddings:
    """Every labelled image of `source`, cropped as the service does. Raises ValueError if there is none."""
    if source.classes is None:
        raise ValueError("the images have no labels, and k-NN and mAP need them: give labelled --images")
    labelled = np.array([i for i in range(len(source)) if source.label(i) is not None], np.int64)
    parts: list[tuple[Tensor, Tensor | None, Tensor | None, Codes | None]] = []
    numbers: list[Tensor] = []
    with Dataset(source, encoder.preprocessing) as dataset:
        for batch in dataset.batches(_chunks(labelled)):
            if len(batch.samples):
                parts.append((_raw_pixels(batch.images), *encoder(batch.images)))
                numbers.append(batch.samples)
        broken = list(dataset.broken.values())
    if not parts:
        raise ValueError(
            f"of {len(source)} images {len(labelled)} have labels and {len(broken)} of those cannot be read: "
            "none is left to evaluate" + (f"; the first: {broken[0]}" if broken else "")
        )
    features = [h for _, h, _, _ in parts if h is not None]
    logits = [x for _, _, x, _ in parts if x is not None]
    codes = [c for _, _, _, c in parts if c is not None]
    labels = [source.label(int(number)) for number in torch.cat(numbers)]
    return Embeddings(
        classes=source.classes,
        labels=torch.tensor(labels, dtype=torch.int64),
        broken=broken,
        pixels=torch.cat([pixels for pixels, _, _, _ in parts]),
        features=torch.cat(features) if features else None,
        logits=torch.cat(logits) if logits else None,
        codes=np.concatenate(codes) if codes else None,
    )


def report(queries: Embeddings, gallery: Embeddings, k: int = 20) -> dict[str, float]:
    """Every comparison that can be made, as `<representation>_knn_top1` and `<representation>_map`.

    Raises ValueError for more neighbours than the gallery has, or a class of queries that it lacks.
    """
    if k > len(gallery.labels):
        raise ValueError(
            f"k is {k} and the gallery has {len(gallery.labels)} images: give --k of at most that"
        )
    found: dict[str, Retrieval] = {}
    labels = _in_classes_of(gallery, queries), gallery.labels
    found["pixels"] = evaluate_floats(queries.pixels, labels[0], gallery.pixels, labels[1], k)
    if queries.features is not None and gallery.features is not None:
        found["features"] = evaluate_floats(queries.features, labels[0], gallery.features, labels[1], k)
        projected = random_projection(gallery.features, [queries.features, gallery.features])
        found["projection2048"] = evaluate_codes(projected[0], labels[0], projected[1], labels[1], k)
    values: dict[str, float] = {}
    if queries.codes is not None and gallery.codes is not None:
        found["codes"] = evaluate_codes(queries.codes, labels[0], gallery.codes, labels[1], k)
        assert queries.logits is not None  # codes come from logits
        values |= bit_statistics(queries.codes, queries.logits)
    for name, retrieval in found.items():
        values |= {f"{name}_knn_top1": retrieval.knn_top1, f"{name}_map": retrieval.mean_ap}
    return values


def random_projection(
    fitted_on: Tensor, features: list[Tensor], num_bits: int = 2048, seed: int = 0
) -> list[Codes]:
    """Signs of a Gaussian random projection of centred features: the code that needs no training.

    Centred on the mean of `fitted_on`, without which every plane misses the cloud of ReLU features.
    """
    generator = torch.Generator().manual_seed(seed)
    planes = torch.randn(fitted_on.shape[1], num_bits, generator=generator)
    mean = fitted_on.mean(0)
    return [pack_logits(((h - mean) @ planes).numpy()) for h in features]


def bit_statistics(codes: Codes, logits: Tensor) -> dict[str, float]:
    """Countable metrics of section 4.3 on codes [n, num_bytes] and their logits [n, num_bits]."""
    p = torch.sigmoid(logits.double())
    entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / np.log(2)
    share = unpack(codes).mean(axis=0)
    return {
        "active_bits": float(active_bits(codes).mean()),
        "entropy_bits": float(entropy.sum(1).mean()),
        "dead_bits": float(((share == 0) | (share == 1)).sum()),
    }


def _raw_pixels(images: Tensor) -> Tensor:
    """uint8 [n, H, W, 3] to float32 [n, h * w * 3] in [0, 1], with h and w at most 32."""
    height, width = images.shape[1:3]
    planes = images.permute(0, 3, 1, 2).float().div_(255)
    return F.adaptive_avg_pool2d(planes, (min(height, 32), min(width, 32))).flatten(1)


def _in_classes_of(gallery: Embeddings, queries: Embeddings) -> Tensor:
    """Labels of `queries` as places in the gallery's classes: folders may hold other classes, or fewer."""
    places = {name: place for place, name in enumerate(gallery.classes)}
    present = {queries.classes[label] for label in queries.labels.tolist()}
    missing = sorted(present - set(places))
    if missing:
        raise ValueError(
            f"the queries have the class {missing[0]} and the gallery's are {', '.join(places)}: "
            "give --images and --queries of the same classes"
        )
    return torch.tensor([places.get(name, -1) for name in queries.classes])[queries.labels]


def _chunks(numbers: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(numbers), _BATCH):
        yield numbers[start : start + _BATCH]
