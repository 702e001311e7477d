"""WebDataset shards: samples in .tar files, read at their places.

What is kept of an image is where it lies, some 20 bytes, so memory does not grow with the bytes of a set.
A large set is read in a local order (`trainer.sources.order`), of which the kernel is told in advance.
"""

import os
import tarfile
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from trainer.sources.labels import LabelBuilder
from trainer.sources.order import local_permutation, permutation, run_starts
from trainer.sources.samples import read_name, read_samples
from trainer.sources.shard import Shard
from trainer.sources.source import no_column, printable

WINDOW_BYTES = 2**30
"""Images are shuffled within this much; smaller sets, which stay in the kernel's cache, freely."""

_LABELS = frozenset({"cls", "json"})

_STREAMED_AFTER = 4
"""Reads of a run after which the rest of it is asked for: a few images from all over a set do not count."""

_MAX_OPEN = 256
"""Shards held open."""


class TarSource:
    """The samples with an image of all `paths`, one after the other. Raises ValueError."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        offsets, sizes, headers, labels = array("q"), array("I"), array("I"), LabelBuilder()
        starts = [0]
        for path in self._paths:
            for sample in read_samples(path, _LABELS):
                image = sample.image
                offsets.append(image.offset_data)
                # What is larger is far above the limit of images, and still is when cut.
                sizes.append(min(image.size, 2**32 - 1))
                headers.append(image.offset_data - image.offset)
                labels.add(sample.label(), sample.where)
            if len(offsets) == starts[-1]:
                raise ValueError(
                    f"{path} holds no images: looked for members such as 0001.jpg or 0001.png, "
                    "with one dot in their name"
                )
            starts.append(len(offsets))
        self._starts = starts
        self._offsets = np.array(offsets, np.int64)
        self._sizes = np.array(sizes, np.uint32)
        self._headers = np.array(headers, np.uint32)
        self._labels, self.classes = labels.finish()
        self._total_bytes = int(self._sizes.sum(dtype=np.int64))
        self._open = lru_cache(_MAX_OPEN)(Shard)

        self._runs = run_starts(self._offsets, starts[:-1])
        self._reads: OrderedDict[int, int] = OrderedDict()
        """Reads of each run in use, the one read last at the end."""
        self._lock = Lock()
        # The window, and as much before it is taken for used up; in runs, which are of about one size.
        self._max_in_use = 2 * WINDOW_BYTES * len(self._runs) // max(1, self._total_bytes) + 1
        self._forgets = self._total_bytes > _memory_bytes() // 2
        """Whether the kernel could not keep the set till the next epoch anyway."""

    def __len__(self) -> int:
        return len(self._offsets)

    def name(self, number: int) -> str:
        shard = self._shard(number)
        offset = int(self._offsets[number])
        try:
            name = read_name(self._paths[shard], offset - int(self._headers[number]))
        except (OSError, tarfile.TarError):  # Broken images are named, and the shard may be gone by now.
            name = f"image at byte {offset}"
        return printable(f"{self._paths[shard].name}, {name}")

    def label(self, number: int) -> int | None:
        label = int(self._labels[number])
        return None if label < 0 else label

    def read(self, number: int) -> bytes:
        shard = self._open(self._paths[self._shard(number)])
        self._advise(number)
        return shard.read(int(self._offsets[number]), int(self._sizes[number]))

    def epoch_order(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        if self._total_bytes <= WINDOW_BYTES:
            return permutation(seed, epoch, len(self))
        window = WINDOW_BYTES * len(self) // self._total_bytes  # in images
        return local_permutation(seed, epoch, np.diff(self._runs, append=len(self)), window)

    def targets(self, column: str) -> npt.NDArray[np.float64]:
        """From the fields `json`, for which the shards are gone through again."""
        values = np.full(len(self), np.nan)
        there_are: set[str] = set()
        for path, start, stop in zip(self._paths, self._starts, self._starts[1:], strict=False):
            found = []
            for sample in read_samples(path, frozenset({"json"})):
                metadata = sample.metadata()
                there_are.update(metadata)
                found.append(_target(metadata.get(column), column, sample.where))
            if len(found) != stop - start:
                raise ValueError(f"{path} had {stop - start} images when opened and has {len(found)} now")
            values[start:stop] = found
        if column not in there_are:
            shards = self._paths[0] if len(self._paths) == 1 else f"{self._paths[0]} and the other shards"
            raise no_column(f"the .json beside the images of {shards}", column, sorted(there_are))
        return values

    def _shard(self, number: int) -> int:
        return bisect_right(self._starts, number) - 1

    def _advise(self, number: int) -> None:
        """Tell the kernel of the run that an image is in, once it is being streamed, and of one used up."""
        run = bisect_right(self._runs, number) - 1
        used_up = None
        with self._lock:
            reads = self._reads.pop(run, 0) + 1
            self._reads[run] = reads
            if len(self._reads) > self._max_in_use:
                used_up, _ = self._reads.popitem(last=False)
        if reads == _STREAMED_AFTER:
            shard, start, stop = self._span(run)
            shard.will_need(start, stop)
        if used_up is not None and self._forgets:
            shard, start, stop = self._span(used_up)
            shard.wont_need(start, stop)

    def _span(self, run: int) -> tuple[Shard, int, int]:
        """Where the images of a run lie: in which shard, from which byte to which."""
        first = self._runs[run]
        last = (self._runs[run + 1] if run + 1 < len(self._runs) else len(self)) - 1
        shard = self._open(self._paths[self._shard(first)])
        return shard, int(self._offsets[first]), int(self._offsets[last]) + int(self._sizes[last])


def _target(value: object, column: str, where: str) -> float:
    if value is None:
        return np.nan
    if isinstance(value, int | float):
        return float(value)
    raise ValueError(f"{where}.json has {column} of type {type(value).__name__}: targets are numbers")


def _memory_bytes() -> int:
    """How much memory the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
