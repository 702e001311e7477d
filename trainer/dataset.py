"""Decoded images by number: a pool of decoding threads, and a cache where the set is small.

Training holds images as squares of the recipe's image size with their aspect ratio beside them, so that
one decoding serves every view. A broken image is counted, named and skipped; it never ends a run.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from contracts.errors import StochConError
from contracts.manifest import Preprocessing
from contracts.pixels import ImageLimits, Pixels, open_image, resize, to_rgb
from trainer.sources import Source

CACHE_BYTES = 2 * 2**30
"""Sets that fit are decoded once and kept."""

_AHEAD = 2
"""Batches decoded ahead of the one in use."""

_CHUNK = 32
"""Images that one task of a decoding thread takes."""

_Loaded = tuple[Pixels, float]


@dataclass(frozen=True, slots=True)
class Batch:
    """Images that could be decoded, of those asked for."""

    samples: Tensor
    """int64 [N]: numbers in the source."""
    images: Tensor
    """uint8 [N, H, W, 3]."""
    aspects: Tensor
    """float32 [N]: width by height before resizing."""


class Dataset:
    """Decoded images of a source. Use as a context manager, or close it."""

    def __init__(self, source: Source, preprocessing: Preprocessing) -> None:
        self.source = source
        self.broken: dict[int, str] = {}
        """Numbers of images that could not be decoded, with the reason."""
        self._preprocessing = preprocessing
        self._limits = ImageLimits()
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode")
        self._cache: dict[int, _Loaded] | None = None
        if len(source) * preprocessing.height * preprocessing.width * 3 <= CACHE_BYTES:
            self._cache = {}

    def __enter__(self) -> "Dataset":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the decoding threads."""
        self._pool.shutdown(cancel_futures=True)

    def batches(self, numbers: Iterable[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        """One batch for each array of image numbers, in order, the next ones decoded meanwhile."""
        queue: deque[tuple[npt.NDArray[np.int64], list[Future[list[_Loaded | None]]]]] = deque()
        for wanted in numbers:
            chunks = [wanted[i : i + _CHUNK] for i in range(0, len(wanted), _CHUNK)]
            queue.append((wanted, [self._pool.submit(self._load_all, chunk) for chunk in chunks]))
            if len(queue) > _AHEAD:
                yield self._collect(*queue.popleft())
        while queue:
            yield self._collect(*queue.popleft())

    def _collect(self, wanted: npt.NDArray[np.int64], chunks: list[Future[list[_Loaded | None]]]) -> Batch:
        loaded = [image for chunk in chunks for image in chunk.result()]
        good = [(number, *image) for number, image in zip(wanted, loaded, strict=True) if image is not None]
        shape = (len(good), self._preprocessing.height, self._preprocessing.width, 3)
        images = np.empty(shape, np.uint8)
        for row, (_, pixels, _) in enumerate(good):
            images[row] = pixels
        return Batch(
            samples=torch.tensor([int(number) for number, _, _ in good], dtype=torch.int64),
            images=torch.from_numpy(images),
            aspects=torch.tensor([aspect for _, _, aspect in good], dtype=torch.float32),
        )

    def _load_all(self, numbers: npt.NDArray[np.int64]) -> list[_Loaded | None]:
        return [self._load(int(number)) for number in numbers]

    def _load(self, number: int) -> _Loaded | None:
        if self._cache is not None and number in self._cache:
            return self._cache[number]
        if number in self.broken:
            return None
        try:
            image = to_rgb(open_image(self.source.read(number), self._limits))
        except (StochConError, OSError) as exc:
            self.broken[number] = f"{self.source.name(number)}: {exc}"
            return None
        loaded = resize(image, self._preprocessing), image.width / image.height
        if self._cache is not None:
            self._cache[number] = loaded
        return loaded


def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order of the images in an epoch: the same wherever and whenever it is asked for."""
    return np.random.default_rng([seed, epoch]).permutation(count)
