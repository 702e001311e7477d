"""One process owns a store: an advisory lock that says who holds it.

The kernel gives the lock back when its owner dies, however it dies, so a stale lock cannot exist. The
file's text, the owner's pid and URL, only informs those who find the lock taken.
"""

import fcntl
import json
import os
from pathlib import Path

from contracts.errors import BackendUnavailable, StoreLocked

LOCK_NAME = "store.lock"


class StoreLock:
    """Held from construction to `release`. Raises StoreLocked if another holds it."""

    def __init__(self, data_dir: Path, owner_url: str | None) -> None:
        path = data_dir / LOCK_NAME
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            raise BackendUnavailable(
                f"the store's lock {path} cannot be opened ({exc.strerror}): choose a --data folder "
                "that can be written"
            ) from exc
        try:
            # flock belongs to the open file, not to the process: one process cannot open a store twice.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            owner = json.dumps({"pid": os.getpid(), "url": owner_url}).encode()
            os.pwrite(self._fd, owner, 0)
            os.ftruncate(self._fd, len(owner))
        except BlockingIOError as exc:
            pid, url = _read_owner(self._fd)
            os.close(self._fd)
            raise StoreLocked(_message(data_dir, pid, url), url) from exc
        except OSError as exc:
            os.close(self._fd)
            raise BackendUnavailable(f"the store's lock {path} cannot be taken ({exc.strerror})") from exc

    def release(self) -> None:
        """Give the lock back. The file stays: deleting it would let two owners lock two files."""
        os.close(self._fd)


def _read_owner(fd: int) -> tuple[int | None, str | None]:
    try:
        owner = json.loads(os.pread(fd, 4096, 0))
        return int(owner["pid"]), owner["url"]
    except (ValueError, KeyError, TypeError):
        return None, None  # Its owner took the lock a moment ago and has not signed it yet.


def _message(data_dir: Path, pid: int | None, url: str | None) -> str:
    owner = "another process" if pid is None else f"process {pid}"
    if url is None:
        return f"the store {data_dir} is in use by {owner}: wait for it, stop it, or choose another --data"
    return (
        f"the store {data_dir} is in use by {owner}, which serves it at {url}: go through it with --url {url}"
    )
