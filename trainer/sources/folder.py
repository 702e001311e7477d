"""A folder of image files, whose sub-folders are labels."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.image_files import IMAGE_SUFFIXES
from trainer.sources.order import permutation
from trainer.sources.source import no_column, printable

METADATA = "metadata.csv"
"""The table of a folder's numbers, as Hugging Face's `imagefolder` has it: `file_name` and other columns."""


def image_paths(root: Path) -> Iterator[Path]:
    """Every image file below a folder, in no order."""
    return (path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


class FolderSource:
    """Every image below a folder, in sorted order; the first sub-folder is its label."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths = sorted(image_paths(root))
        if not self._paths:
            raise ValueError(
                f"{root} holds no images: looked for {', '.join(sorted(IMAGE_SUFFIXES))} below it, "
                "and for .tar and .parquet shards in it"
            )
        folders = [p.relative_to(root).parts[0] if p.parent != root else None for p in self._paths]
        labelled = None not in folders
        self.classes: list[str] | None = sorted({f for f in folders if f}) if labelled else None
        places = {name: place for place, name in enumerate(self.classes or ())}
        self._labels = [places.get(folder or "") for folder in folders]

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, number: int) -> str:
        return printable(self._paths[number].relative_to(self._root).as_posix())

    def label(self, number: int) -> int | None:
        return self._labels[number]

    def read(self, number: int) -> bytes:
        return self._paths[number].read_bytes()

    def epoch_order(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        return permutation(seed, epoch, len(self))

    def targets(self, column: str) -> npt.NDArray[np.float64]:
        """From `metadata.csv`: an image without a row, or with an empty cell, has nan."""
        numbers = {self.name(number): number for number in range(len(self))}
        path = self._root / METADATA
        values = np.full(len(self), np.nan)
        num_found = 0
        for file_name, value in _read_column(path, column):
            if file_name in numbers:
                values[numbers[file_name]] = value
                num_found += 1
        if num_found == 0:
            raise ValueError(
                f"{path} names none of the images beside a number in {column}: "
                f"give file_name as in {self.name(0)}"
            )
        return values


def _read_column(path: Path, column: str) -> Iterator[tuple[str, float]]:
    """File names and their numbers. Raises ValueError."""
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist: targets of a folder are its columns, beside a column file_name"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            names = list(table.fieldnames or ())
            if column not in names or "file_name" not in names:
                missing = column if "file_name" in names else "file_name"
                raise no_column(path, missing, names)
            for row in table:
                cell = (row[column] or "").strip()
                if cell:
                    yield row["file_name"], _number(cell, f"{path}, line {table.line_num}: {column}")
    except (csv.Error, UnicodeDecodeError) as exc:
        raise ValueError(f"{path} cannot be read as a table in UTF-8 with commas: {exc}") from exc


def _number(cell: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError as exc:
        raise ValueError(
            f"{where} is the text {cell!r}: give numbers, or leave the cell of an image without one empty"
        ) from exc
