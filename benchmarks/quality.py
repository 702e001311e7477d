"""Codes of photographs: hard near-duplicates and semantics, beside every rival of equal size, in one run.

    python -m benchmarks.quality --photos DIR --distractors val.parquet --weights lite0.pth [--cifar10 DIR]
        [--model MODEL ...] [--json FILE]

Near-duplicates: queries are edits (`benchmarks/edits.py`) of the photos with an odd number in sorted order,
counted from 0; the gallery is every photo and the distractors. Recall@1 is the share of queries whose
nearest item is the photo that was edited. The true-positive rate is that at a false-positive rate of 1e-4:
the threshold is the distance below which that share of the pairs of a query and another photo lie, one for
all edits. The other half of a collage is of a photo in the gallery too, and counts neither as found nor as
a mistake. Semantics: 20-NN top-1 and mAP on CIFAR-10, scaled to the model's size.

`--weights` is the untouched backbone: its floats by cosine, and codes of them that take no training.
`--model` is a trained one, an exported file or a run: its floats, its learned codes, and the same codes of
its own floats. Perceptual hashes are `imagehash` (phash) and PDQ, of 256 bits. ITQ and projections are fitted
on the gallery. Everything is fp32 and seeded.
"""

import argparse
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmarks.edits import COLLAGES, HARD
from contracts.codes import Codes, pack_logits, unpack
from contracts.manifest import Preprocessing
from contracts.model_file import read_manifest
from contracts.pixels import resize
from trainer.efficientnet import PIXEL_MEAN, PIXEL_STD
from trainer.frozen import FrozenEncoder
from trainer.hashing import Planes, fit_itq, fit_projection, fit_whitened
from trainer.initial_weights import Weights, take_weights
from trainer.memory import keep_freed_memory
from trainer.model import Encoder, StochCon
from trainer.recipe import Recipe, View
from trainer.retrieval import Retrieval, evaluate_codes, evaluate_floats
from trainer.runs import load_run

SEED = 0
FALSE_POSITIVES = 1e-4
SIZES = (64, 256, 2048)
_BATCH = 64

Picture = Callable[[], Image.Image]
"""An image, opened when it is asked for."""

Embedding = Codes | Tensor
"""uint8 [n, bytes], compared by Hamming distance, or float32 [n, width], compared by cosine."""


@dataclass(frozen=True, slots=True)
class Photos:
    """The gallery, and what is asked of it."""

    gallery: Sequence[Picture]
    num_photos: int
    """Of the gallery's images, the first."""
    queries: Sequence[Picture]
    edits: npt.NDArray[np.int64]
    """Number of the edit of each query."""
    answers: npt.NDArray[np.int64]
    """Which photo each query is made of."""
    partners: npt.NDArray[np.int64]
    """Which photo each query also holds a part of, -1 for none: it is no answer, and no mistake either."""


@dataclass(frozen=True, slots=True)
class Method:
    """What a way to describe images makes of them."""

    name: str
    num_bytes: int
    gallery: Embedding
    queries: Embedding


def read_photos(folder: Path, distractors: Path, num_distractors: int) -> Photos:
    """Photos and distractors, opened when they are asked for."""
    paths = sorted(folder.glob("*.jpg"))
    asked = [number for number in range(len(paths)) if number % 2 == 1]
    others = pq.read_table(distractors, columns=["image"])["image"].slice(0, num_distractors).to_pylist()
    gallery: list[Picture] = [partial(_open, path) for path in paths]
    gallery += [partial(_open_bytes, image["bytes"]) for image in others]
    partners = asked[1:] + asked[:1]
    queries = [
        partial(_edit, name, paths[number], paths[partner], number)
        for name in HARD
        for number, partner in zip(asked, partners, strict=True)
    ]
    return Photos(
        gallery,
        len(paths),
        queries,
        np.repeat(np.arange(len(HARD)), len(asked)),
        np.tile(np.array(asked), len(HARD)),
        np.concatenate([np.where(name in COLLAGES, partners, -1) for name in HARD]),
    )


def _open(path: Path) -> Image.Image:
    return _open_bytes(path.read_bytes())


def _open_bytes(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _edit(name: str, path: Path, other: Path, number: int) -> Image.Image:
    random = np.random.default_rng([SEED, number, list(HARD).index(name)])
    return HARD[name](_open(path), random, _open(other))


def near_duplicates(method: Method, photos: Photos) -> dict[str, Any]:
    """Recall@1 and the true-positive rate, of each edit and on average."""
    distances = _distances(method.queries, method.gallery)
    rows = np.arange(len(distances))
    distances[rows[photos.partners >= 0], photos.partners[photos.partners >= 0]] = np.inf
    true = distances[rows, photos.answers]
    # Of a tie for the nearest, the photo has its share.
    nearest = distances.min(1)
    hits = (true == nearest) / (distances == nearest[:, None]).sum(1)
    others = distances[:, : photos.num_photos].copy()
    others[rows, photos.answers] = np.inf
    wrong = np.sort(others[np.isfinite(others)])
    threshold = wrong[int(FALSE_POSITIVES * len(wrong))]  # so many pairs are strictly nearer
    found = true < threshold
    names = list(HARD)
    return {
        "recall_at_1": {name: float(hits[photos.edits == i].mean()) for i, name in enumerate(names)},
        "tpr": {name: float(found[photos.edits == i].mean()) for i, name in enumerate(names)},
        "mean_recall_at_1": float(hits.mean()),
        "mean_tpr": float(found.mean()),
    }


def _distances(queries: Embedding, gallery: Embedding) -> npt.NDArray[np.float64]:
    """float64 [queries, gallery]"""
    if isinstance(queries, Tensor):
        assert isinstance(gallery, Tensor)
        return (1 - functional.normalize(queries.double()) @ functional.normalize(gallery.double()).T).numpy()
    assert not isinstance(gallery, Tensor)
    a, b = (torch.from_numpy(unpack(codes)).float() for codes in (queries, gallery))
    # Differing bits are |a| + |b| - 2ab, exact in float32.
    return (a.sum(1)[:, None] + b.sum(1) - 2 * (a @ b.T)).double().numpy()


class Network:
    """A backbone, and a latent if it is trained, over pictures."""

    def __init__(self, name: str, model: Encoder, preprocessing: Preprocessing) -> None:
        self.name = name
        self.is_trained = model.recipe.latent == "bernoulli"
        self.num_bits = model.recipe.num_bits
        self._encoder = FrozenEncoder(model, "fp32")
        self._preprocessing = preprocessing

    @classmethod
    def trained(cls, path: Path) -> "Network":
        """That of a run folder or of an exported model."""
        if path.is_dir():
            run = load_run(path)
            return cls(path.name, run.model, run.recipe.preprocessing)
        recipe = Recipe.from_dict(read_manifest(path).recipe)
        model = StochCon(recipe)
        take_weights(model, Weights.read(path))
        return cls(path.stem, model, recipe.preprocessing)

    @classmethod
    def untouched(cls, weights: Path, size: int, policy: Literal["crop", "squash"]) -> "Network":
        """EfficientNet-Lite0 as it was trained on ImageNet."""
        view = View(size)
        recipe = Recipe(
            name="untouched",
            image_size=size,
            global_views=(view, view),
            backbone="efficientnet-lite0",
            latent="none",
            pixel_mean=(PIXEL_MEAN,) * 3,
            pixel_std=(PIXEL_STD,) * 3,
        )
        model = StochCon(recipe)
        take_weights(model, Weights.read(weights))
        return cls("untouched", model, Preprocessing(height=size, width=size, resize=policy))

    def __call__(self, pictures: Sequence[Picture]) -> tuple[Tensor, Tensor | None]:
        """h, float32 [n, num_features], and logits, float32 [n, num_bits]."""
        features, latents = [], []
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for start in range(0, len(pictures), _BATCH):
                pixels = list(pool.map(self._pixels, pictures[start : start + _BATCH]))
                images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div(255)
                encoded = self._encoder(images)
                features.append(encoded.h)
                if encoded.latent is not None:
                    latents.append(encoded.latent)
        return torch.cat(features), torch.cat(latents) if latents else None

    def _pixels(self, picture: Picture) -> npt.NDArray[np.uint8]:
        return resize(picture(), self._preprocessing)


def codes_of(features: Tensor, fitted_on: Tensor) -> Iterator[tuple[str, int, Planes]]:
    """Codes of floats that take no training of a network."""
    for size in SIZES:
        yield f"random projection, {size}", size, fit_projection(fitted_on, size, SEED)
        yield f"whitened projection, {size}", size, fit_whitened(fitted_on, size, SEED)
        if size <= features.shape[1]:
            yield f"ITQ, {size}", size, fit_itq(fitted_on, size, seed=SEED)
    if SIZES[-1] > features.shape[1]:
        width = features.shape[1] // 8 * 8
        yield f"ITQ, {width}", width, fit_itq(fitted_on, width, seed=SEED)


def methods_of(network: Network, gallery: Sequence[Picture], queries: Sequence[Picture]) -> Iterator[Method]:
    """Floats of a network, its learned codes, and the rest."""
    name = network.name
    theirs, their_logits = network(gallery)
    ours, our_logits = network(queries)
    yield Method(f"{name}: floats", 4 * theirs.shape[1], theirs, ours)
    if network.is_trained:
        assert our_logits is not None
        assert their_logits is not None
        learned = pack_logits(their_logits.numpy()), pack_logits(our_logits.numpy())
        yield Method(f"{name}: learned, {network.num_bits}", network.num_bits // 8, *learned)
    for label, size, planes in codes_of(theirs, theirs):
        yield Method(f"{name}: {label}", size // 8, planes.encode(theirs), planes.encode(ours))


def perceptual_hashes(photos: Photos) -> Iterator[Method]:
    """phash of 16 x 16 bits, and PDQ."""
    import imagehash
    import pdqhash

    def phash(picture: Picture) -> npt.NDArray[np.uint8]:
        return np.packbits(imagehash.phash(picture(), hash_size=16).hash)

    def pdq(picture: Picture) -> npt.NDArray[np.uint8]:
        return np.packbits(pdqhash.compute(np.asarray(picture()))[0])

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, function in (("phash", phash), ("PDQ", pdq)):
            gallery, queries = (
                np.stack(list(pool.map(function, p))) for p in (photos.gallery, photos.queries)
            )
            yield Method(f"{name}, 256", 32, gallery, queries)


def semantics(network: Network, folder: Path, num_images: int) -> Iterator[tuple[str, Retrieval]]:
    """20-NN top-1 and mAP on CIFAR-10 of each method."""
    queries, asked = _labelled(folder / "test.parquet", num_images // 5)
    gallery, labels = _labelled(folder / "train.parquet", num_images)
    for method in methods_of(network, gallery, queries):
        if isinstance(method.queries, Tensor):
            assert isinstance(method.gallery, Tensor)
            yield method.name, evaluate_floats(method.queries, asked, method.gallery, labels)
        else:
            assert not isinstance(method.gallery, Tensor)
            yield method.name, evaluate_codes(method.queries, asked, method.gallery, labels)


def _labelled(path: Path, count: int) -> tuple[list[Picture], Tensor]:
    """Images of a Parquet file, evenly spaced, and their labels."""
    table = pq.read_table(path, columns=["image", "label"])
    table = table.take(np.linspace(0, len(table) - 1, min(count, len(table))).astype(np.int64))
    pictures = [partial(_open_bytes, image["bytes"]) for image in table["image"].to_pylist()]
    return pictures, torch.tensor(table["label"].to_pylist())


def main() -> None:
    """Measure everything, print two tables, and write the figures if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of .jpg files")
    parser.add_argument("--distractors", type=Path, required=True, help="a Parquet file of other images")
    parser.add_argument("--num-distractors", type=int, default=5000)
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet weights of EfficientNet-Lite0")
    parser.add_argument(
        "--model", type=Path, action="append", default=[], help="a run or an exported file; repeatable"
    )
    parser.add_argument("--cifar10", type=Path, help="folder of train.parquet and test.parquet")
    parser.add_argument(
        "--cifar10-images", type=int, default=10_000, help="of the gallery; queries are a fifth"
    )
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument(
        "--resize", choices=("crop", "squash"), default="squash", help="for the untouched one"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    keep_freed_memory()
    networks = [Network.untouched(options.weights, options.size, options.resize)]
    networks += [Network.trained(path) for path in options.model]

    photos = read_photos(options.photos, options.distractors, options.num_distractors)
    figures: dict[str, Any] = {"near_duplicates": {}, "semantics": {}}
    print(f"{len(photos.queries)} queries, {len(photos.gallery)} images in the gallery")
    print(f"{'method':48} {'bytes':>6} {'recall@1':>9} {'TPR':>7}")
    everything = [
        perceptual_hashes(photos),
        *(methods_of(network, photos.gallery, photos.queries) for network in networks),
    ]
    for method in (method for methods in everything for method in methods):
        found = near_duplicates(method, photos)
        figures["near_duplicates"][method.name] = {"bytes": method.num_bytes, **found}
        recall, tpr = found["mean_recall_at_1"], found["mean_tpr"]
        print(f"{method.name:48} {method.num_bytes:6} {recall:9.3f} {tpr:7.3f}", flush=True)
    if options.cifar10:
        print(f"{'CIFAR-10':55} {'20-NN':>9} {'mAP':>7}")
        for network in networks:
            for name, retrieval in semantics(network, options.cifar10, options.cifar10_images):
                figures["semantics"][name] = {"knn_top1": retrieval.knn_top1, "map": retrieval.mean_ap}
                print(f"{name:55} {retrieval.knn_top1:9.3f} {retrieval.mean_ap:7.3f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
