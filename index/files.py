"""Files that are there as a whole or not at all, and the system's errors as ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.errors import BackendUnavailable


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, content: bytes) -> None:
    """Replace a small file, as a whole and durably. Raises OSError."""
    partial = path.with_name(f"{path.name}.part")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


@contextmanager
def translated_files(path: Path) -> Iterator[None]:
    """Raise the system's errors about files at or below `path` as BackendUnavailable."""
    try:
        yield
    except OSError as exc:
        raise BackendUnavailable(
            f"{path} could not be used ({exc.strerror}): check the disk and the permissions"
        ) from exc
