"""The service's own workers: processes that are there while there are jobs.

A worker costs the memory of a model, so none is started before there is work, and each ends by itself once
there has been none for a while. One that dies is started again. Workers end when the service does, however
it ends: they read their standard input, which closes with it.
"""

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

import structlog

from contracts.errors import StochConError
from service.jobs.ledger import Ledger

POLL_S = 1.0
_LONGEST_PAUSE_S = 30.0
_SHORT_LIFE_S = 10.0

_log = structlog.get_logger("service")


class Supervisor:
    """Keeps up to `num_workers` processes of `command` while the ledger has work."""

    def __init__(
        self, ledger: Ledger, command: Sequence[str], environment: Mapping[str, str], num_workers: int
    ) -> None:
        self._ledger = ledger
        self._command = command
        self._environment = environment
        self._workers: list[_Slot] = [_Slot() for _ in range(num_workers)]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        """Look for work from now on."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Tell the workers to end, and wait until they have, or kill them when the time is over."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        deadline = time.monotonic() + timeout_s
        running = [slot.process for slot in self._workers if slot.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.warning("a worker did not end in time and is killed", pid=process.pid)
                process.kill()
                process.wait()

    @property
    def num_running(self) -> int:
        """Worker processes that are alive."""
        return sum(slot.is_running for slot in self._workers)

    def _watch(self) -> None:
        while not self._stopping.wait(POLL_S):
            for slot in self._workers:
                slot.note_end()
            if all(slot.is_running for slot in self._workers):
                continue
            try:
                has_work = self._ledger.has_work()
            except StochConError as exc:
                _log.warning("the ledger of jobs does not answer", reason=str(exc))
                continue
            if has_work:
                for slot in self._workers:
                    slot.start(self._command, self._environment)


class _Slot:
    """The place of one worker: its process, and how long to wait before another."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause_s = 0.0

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def note_end(self) -> None:
        """Look at how the process ended, if it has."""
        if self.process is None or self.process.poll() is None:
            return
        if self.process.returncode == 0:
            self._pause_s = 0.0
        else:
            # One that dies at once will do so again: the longer, the more often it did.
            is_short = time.monotonic() - self._started < _SHORT_LIFE_S + self._pause_s
            self._pause_s = min(max(1.0, 2 * self._pause_s), _LONGEST_PAUSE_S) if is_short else 0.0
            _log.error("a worker died", pid=self.process.pid, exit_code=self.process.returncode)
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process = None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a process unless there is one, or the last one died a moment ago."""
        if self.process is not None or time.monotonic() < self._started + self._pause_s:
            return
        self._started = time.monotonic()
        # A group of its own, so that Ctrl-C in a terminal reaches the service alone, which then tells its
        # workers. Not a session: Linux shares the processor out between sessions first, whatever their nice.
        try:
            self.process = subprocess.Popen(
                command, env=dict(environment), stdin=subprocess.PIPE, process_group=0
            )
        except OSError as exc:
            _log.error("a worker cannot be started", reason=str(exc))
            self._pause_s = _LONGEST_PAUSE_S
            return
        _log.info("a worker is started", pid=self.process.pid)
