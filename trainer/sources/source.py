"""What a source of images is, to those who train and evaluate on one."""

import hashlib
from contextlib import suppress
from typing import Protocol

import numpy as np
import numpy.typing as npt

_FINGERPRINT_IMAGES = 64


class Source(Protocol):
    """Numbered encoded images, with labels where there are any. Safe to read from several threads."""

    @property
    def classes(self) -> list[str] | None:
        """Names of the labels, or None if the images are unlabelled."""
        ...

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """What to call an image in a message."""
        ...

    def label(self, number: int) -> int | None:
        """Class number of an image, or None if it has none."""
        ...

    def read(self, number: int) -> bytes:
        """The encoded image. Raises OSError if its file is gone."""
        ...

    def epoch_order(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """Every image's number once, in the order of an epoch: the same wherever and whenever asked for."""
        ...

    def targets(self, column: str) -> npt.NDArray[np.float64]:
        """The numbers of a column, float64 [len], nan where an image has none.

        Raises ValueError if there is no such column, or one of anything but numbers.
        """
        ...


def fingerprint(source: Source) -> str:
    """SHA-256, in hex, over the number of images and a few of them: enough to tell two sources apart."""
    count = len(source)
    digest = hashlib.sha256(str(count).encode())
    for number in range(0, count, max(1, count // _FINGERPRINT_IMAGES)):
        with suppress(OSError):  # An image that is gone tells sources apart as well.
            digest.update(source.read(number))
        digest.update(b"\0")
    return digest.hexdigest()


def no_column(where: object, column: str, there_are: list[str]) -> ValueError:
    """The error for a target that is not there."""
    has = f"it has {', '.join(there_are)}" if there_are else "it has none"
    return ValueError(f"{where} has no column {column} to take targets from: {has}")


def printable(name: str) -> str:
    """A file's name without the surrogates that stand for bytes that are no UTF-8."""
    return name.encode(errors="backslashreplace").decode()
