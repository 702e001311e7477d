"""Labels as class numbers, and the names of the classes."""

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

_MAX_CLASSES = 1_000_000

Labels = npt.NDArray[np.int32]
"""int32 [images]: class numbers, -1 where an image has none."""


class LabelBuilder:
    """Collects the labels of one image after the other, all numbers or all names."""

    def __init__(self) -> None:
        self._numbers = array("i")
        self._names: dict[str, int] = {}
        self._type: type | None = None

    def add(self, label: int | str | None, where: str) -> None:
        """Raises ValueError if `label` is a number among names, a name among numbers, or too large."""
        if isinstance(label, int) and label < 0:
            label = None  # so the hidden test sets of `datasets` have it
        if label is None:
            self._numbers.append(-1)
            return
        if self._type not in (None, type(label)):
            raise ValueError(
                f"{where} has the label {label!r}, and labels before it are of the other kind: "
                "give numbers throughout, or names throughout"
            )
        self._type = type(label)
        if isinstance(label, str):
            self._numbers.append(self._names.setdefault(label, len(self._names)))
        else:
            check_largest(label, where)
            self._numbers.append(label)

    def finish(self) -> tuple[Labels, list[str] | None]:
        """All labels, and the names of the classes in order, or None if no image has a label."""
        numbers = np.array(self._numbers, np.int32)
        if self._type is None:
            return numbers, None
        if self._type is int:
            return numbers, number_names(int(numbers.max()) + 1)
        names = sorted(self._names)
        places = {name: place for place, name in enumerate(names)}
        # From order of appearance to order of names; the last is for those without a label.
        moved = np.array([*(places[name] for name in self._names), -1], np.int32)
        return moved[numbers], names


def number_names(count: int) -> list[str]:
    """Names of classes that have numbers only."""
    return [str(number) for number in range(count)]


def check_largest(label: int, where: Any) -> None:
    """Raise ValueError if a number cannot be a class's, but is an identifier, perhaps."""
    if label >= _MAX_CLASSES:
        raise ValueError(
            f"{where} has the label {label}, and the largest class number is {_MAX_CLASSES - 1}: "
            "number the classes from 0"
        )
