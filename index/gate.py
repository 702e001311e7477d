"""Counting who is inside, so that closing can wait for them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Open until `shut`, which lets nobody else in and waits for those inside to leave."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._num_inside = 0
        self._is_shut = False

    @contextmanager
    def entered(self) -> Iterator[bool]:
        """Whether the gate was open; if so, it stays up until the block ends."""
        with self._condition:
            is_open = not self._is_shut
            self._num_inside += is_open
        try:
            yield is_open
        finally:
            if is_open:
                with self._condition:
                    self._num_inside -= 1
                    self._condition.notify_all()

    def shut(self) -> None:
        """Let nobody else in, and return when nobody is inside."""
        with self._condition:
            self._is_shut = True
            self._condition.wait_for(lambda: not self._num_inside)
