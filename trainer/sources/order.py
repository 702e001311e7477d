"""The order of the images in an epoch: a pure function of seed, epoch and sizes.

So a run goes on in the middle of an epoch, and ranks share one out, without anything being kept or sent.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RUN_BYTES = 64 * 2**20
"""Images that lie together are read together: long enough for a disk, short enough to mix well."""


def permutation(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """Any image may follow any other: for sets that are held in memory, or in files of their own."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def local_permutation(
    seed: int, epoch: int, run_sizes: npt.NDArray[np.int64], window: int
) -> npt.NDArray[np.int64]:
    """An order that reads a large set from slow disks nearly front to back.

    Images come in runs that lie together on the disk, `run_sizes` [runs] of them in each. Runs are put in
    random order, one after the other, and each image is then moved along that line, by up to half of `window`
    places, at random. So at any moment the runs in use are those within `window` places of the line, and a
    run that begins to be used is used up only a window later, which leaves time to fetch it.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(run_sizes))
    sizes = run_sizes[order]
    firsts = (np.cumsum(run_sizes) - run_sizes)[order]
    places = np.cumsum(sizes) - sizes  # of each run's first image in the line
    line = np.arange(run_sizes.sum())
    numbers: npt.NDArray[np.int64] = line + np.repeat(firsts - places, sizes)
    moved = line + window * (rng.random(len(line)) - 0.5)
    # Back from beyond the ends, or the first and last batches would have images of few runs.
    moved = len(line) - np.abs(len(line) - np.abs(moved))
    return numbers[np.argsort(moved, kind="stable")]


def run_starts(offsets: npt.NDArray[np.int64], file_starts: Sequence[int]) -> list[int]:
    """Cut files into runs of about `RUN_BYTES`: the first part of each run.

    `offsets` [parts] are the bytes at which the parts begin in their files, `file_starts` the first part of
    each file.
    """
    within = np.flatnonzero(np.diff(offsets // RUN_BYTES)) + 1
    starts: list[int] = np.union1d(within, file_starts).tolist()
    return starts
