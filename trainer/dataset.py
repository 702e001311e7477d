"""Decoded images by number: a pool of decoding threads, and a cache where the set is small.

Training holds images as squares of the recipe's image size with their aspect ratio beside them, so that
one decoding serves every view. A broken image is counted, named and skipped; it never ends a run.
"""

import os
import time
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
from contracts.pixels import ImageLimits, open_image, resize, to_rgb
from trainer.sources import Source
from trainer.sources.order import permutation

CACHE_BYTES = 2 * 2**30
"""Sets that fit are decoded once and kept."""

_AHEAD = 2
"""Batches decoded ahead of the one in use."""

_CHUNK = 32
"""Images that one task of a decoding thread takes."""


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
        self.wait_s = 0.0
        """Seconds that the consumers of `batches` have waited for them so far."""
        self._preprocessing = preprocessing
        self._limits = ImageLimits()
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode")
        self._cache: _Rows | None = None
        if len(source) * preprocessing.height * preprocessing.width * 3 <= CACHE_BYTES:
            self._cache = _Rows(len(source), preprocessing)

    def __enter__(self) -> "Dataset":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the decoding threads."""
        self._pool.shutdown(cancel_futures=True)

    def batches(self, numbers: Iterable[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        """One batch for each array of image numbers, in order, the next ones decoded meanwhile."""
        batches = self._batches(numbers)
        while True:
            asked_s = time.perf_counter()
            batch = next(batches, None)
            self.wait_s += time.perf_counter() - asked_s
            if batch is None:
                return
            yield batch

    def _batches(self, numbers: Iterable[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        queue: deque[_Pending] = deque()
        for wanted in numbers:
            queue.append(self._start(wanted))
            if len(queue) > _AHEAD:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()

    def _start(self, wanted: npt.NDArray[np.int64]) -> "_Pending":
        """Have the images decoded that are not there yet: into the cache, or into room of their own."""
        if self._cache is not None:
            rows, places = self._cache, wanted
            missing = np.flatnonzero(~rows.filled[wanted])
        else:
            rows, places = _Rows(len(wanted), self._preprocessing), np.arange(len(wanted))
            missing = places
        chunks = [missing[i : i + _CHUNK] for i in range(0, len(missing), _CHUNK)]
        tasks = [self._pool.submit(self._decode, wanted[chunk], rows, places[chunk]) for chunk in chunks]
        return _Pending(wanted, rows, places, rows is self._cache, tasks)

    def _decode(self, numbers: npt.NDArray[np.int64], rows: "_Rows", places: npt.NDArray[np.int64]) -> None:
        for number, place in zip(numbers.tolist(), places.tolist(), strict=True):
            if number in self.broken:
                continue
            try:
                image = to_rgb(open_image(self.source.read(number), self._limits))
            except (StochConError, OSError) as exc:
                self.broken[number] = f"{self.source.name(number)}: {exc}"
                continue
            rows.pixels[place] = resize(image, self._preprocessing)
            rows.aspects[place] = image.width / image.height
            rows.filled[place] = True  # last: another batch may be looking


class _Rows:
    """Room for decoded images, and which rows hold one. Memory is taken as rows are filled."""

    def __init__(self, count: int, preprocessing: Preprocessing) -> None:
        self.pixels = np.empty((count, preprocessing.height, preprocessing.width, 3), np.uint8)
        self.aspects = np.empty(count, np.float32)
        self.filled = np.zeros(count, np.bool_)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A batch whose images are being decoded."""

    wanted: npt.NDArray[np.int64]
    rows: _Rows
    places: npt.NDArray[np.int64]
    """Rows of the images `wanted`, which stay empty where they are broken."""
    shared: bool
    """Whether the rows are the cache's, so that a batch must be a copy."""
    tasks: list[Future[None]]

    def result(self) -> Batch:
        for task in self.tasks:
            task.result()
        good = self.rows.filled[self.places]
        pixels, aspects = self.rows.pixels, self.rows.aspects
        if self.shared or not good.all():
            places = self.places[good]
            pixels, aspects = pixels[places], aspects[places]
        return Batch(
            samples=torch.from_numpy(self.wanted[good]),
            images=torch.from_numpy(pixels),
            aspects=torch.from_numpy(aspects),
        )


def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order of the images in an epoch: the same wherever and whenever it is asked for."""
    return permutation(seed, epoch, count)
