"""Reading at places in a file, and telling the kernel which parts come next."""

import os
import sys
import weakref
from pathlib import Path

_ADVICE_BYTES = 128 * 2**10
"""Linux cuts each request to its limit for reading ahead, 128 KiB where nothing else is set."""


class Shard:
    """An open file, which is closed when the last of its readers has let go of it. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes."""
        data = os.pread(self._file, size, offset)
        while len(data) < size:  # Some file systems, and reads of over 2 GiB, give less at a time.
            more = os.pread(self._file, size - len(data), offset + len(data))
            if not more:
                raise OSError(f"{self._name} ends at byte {offset + len(data)}, within the image")
            data += more
        return data

    def will_need(self, start: int, stop: int) -> None:
        """Have the bytes from `start` to `stop` fetched from the disk, in order, while we go on."""
        if sys.platform == "linux":
            for offset in range(start, stop, _ADVICE_BYTES):
                size = min(_ADVICE_BYTES, stop - offset)
                os.posix_fadvise(self._file, offset, size, os.POSIX_FADV_WILLNEED)

    def wont_need(self, start: int, stop: int) -> None:
        """Have these bytes leave the kernel's cache before others do."""
        if sys.platform == "linux":
            os.posix_fadvise(self._file, start, stop - start, os.POSIX_FADV_DONTNEED)
