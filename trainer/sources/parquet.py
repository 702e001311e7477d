"""Parquet files with a column `image{bytes,path}` and, if labelled, an integer `label`.

A row group is read when one of its images is asked for, and as many are kept as fit in `KEEP_BYTES`. A set
that fits is read once; a larger one is read in a local order (`trainer.sources.order`), in which an epoch
reads each row group once.
"""

import itertools
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainer.sources.order import local_permutation, permutation, run_starts
from trainer.sources.parquet_file import inspect, read_images, read_labels, read_targets

KEEP_BYTES = 2**30
"""Encoded images held in memory, and the two row groups that an order is leaving and entering."""


class ParquetSource:
    """The rows of all `paths`, one after the other. Raises ValueError.

    Labels are kept if all files have the same classes; their names come from the schema's `huggingface`
    metadata.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [inspect(path) for path in paths]
        rows = [num_rows for file in self._files for num_rows in file.group_rows]
        sizes = [num_bytes for file in self._files for num_bytes in file.group_bytes]
        self._file_starts = _starts([sum(file.group_rows) for file in self._files])
        self._group_starts = _starts(rows)
        groups = [(file.path, place) for file in self._files for place in range(len(file.group_rows))]
        self._groups = _RowGroups(groups, KEEP_BYTES + 2 * max(sizes))
        self._total_bytes = sum(sizes)

        offsets = np.concatenate([_starts(file.group_bytes)[:-1] for file in self._files])
        first_groups = _starts([len(file.group_rows) for file in self._files])[:-1]
        self._runs = [self._group_starts[group] for group in run_starts(offsets, first_groups)]
        self._labels, self.classes = read_labels(self._files)

    def __len__(self) -> int:
        return self._group_starts[-1]

    def name(self, number: int) -> str:
        place = bisect_right(self._file_starts, number) - 1
        return f"{self._files[place].path.name}, row {number - self._file_starts[place]}"

    def label(self, number: int) -> int | None:
        label = -1 if self._labels is None else int(self._labels[number])
        return None if label < 0 else label

    def read(self, number: int) -> bytes:
        place = bisect_right(self._group_starts, number) - 1
        encoded: bytes | None = self._groups[place][number - self._group_starts[place]].as_py()
        return encoded or b""

    def epoch_order(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        if self._total_bytes <= KEEP_BYTES:
            return permutation(seed, epoch, len(self))
        # In images. The other half is for those that batches decoded ahead have begun.
        window = KEEP_BYTES // 2 * len(self) // self._total_bytes
        return local_permutation(seed, epoch, np.diff(self._runs, append=len(self)), window)

    def targets(self, column: str) -> npt.NDArray[np.float64]:
        return np.concatenate([read_targets(file, column) for file in self._files])


class _RowGroups:
    """Encoded images by row group, those used last kept in memory."""

    def __init__(self, groups: Sequence[tuple[Path, int]], keep_bytes: int) -> None:
        self._groups = list(groups)
        self._keep_bytes = keep_bytes
        self._kept: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        self._kept_bytes = 0
        self._changing = Lock()
        self._reading = Lock()

    def __getitem__(self, number: int) -> pa.ChunkedArray:
        """Encoded images of a row group, in chunks. Raises OSError."""
        found = self._find(number)
        if found is not None:
            return found
        with self._reading:  # One at a time: others are likely to want the same one.
            found = self._find(number)
            if found is None:
                found = read_images(*self._groups[number])
                self._keep(number, found)
            return found

    def _find(self, number: int) -> pa.ChunkedArray | None:
        with self._changing:
            found = self._kept.get(number)
            if found is not None:
                self._kept.move_to_end(number)
            return found

    def _keep(self, number: int, images: pa.ChunkedArray) -> None:
        with self._changing:
            self._kept[number] = images
            self._kept_bytes += images.nbytes
            while self._kept_bytes > self._keep_bytes and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= dropped.nbytes


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where each of several parts begins, and at last where they end."""
    return list(itertools.accumulate(sizes, initial=0))
