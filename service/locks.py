"""A lock for each name."""

import threading


class NamedLocks:
    """Makes each lock when it is first asked for. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def of(self, name: str) -> threading.Lock:
        """The lock of that name, always the same."""
        with self._lock:
            return self._locks.setdefault(name, threading.Lock())
