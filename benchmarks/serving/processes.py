"""Servers as processes: started, held still while others are measured, and ended with all that they began.

Processor time and memory are those of the whole tree of processes, read from /proc.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_END_S = 10.0


class NotServing(Exception):
    """A server did not start, or ended by itself; says what it wrote."""


def tree(pid: int) -> list[int]:
    """A process and all its descendants that live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def processor_s(pid: int) -> float:
    """Processor seconds, own and kernel's, of a process and its descendants so far.

    Those of descendants that have ended count once they have been waited for.
    """
    fields = [fields for pid in tree(pid) if (fields := _stat(pid))]
    return sum(int(ticks) for entry in fields for ticks in entry[11:15]) / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; pages that they share count for each."""
    total = 0
    for member in tree(pid):
        try:
            lines = Path(f"/proc/{member}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    return total


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the name, which may hold anything; from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process was started, in ticks since the machine was; None if it lives no more."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else None


def environment_with(**variables: str) -> dict[str, str]:
    """This process's environment without settings of the service, which would change what is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STOCHCON_")}
    return kept | variables


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server process on a port of its own. As a context manager it leaves no process behind."""

    def __init__(
        self, command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start `command`, whose output goes to the file `log`."""
        self.port = port
        self._command = " ".join(command)
        self._log = log
        self._is_paused = False
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # Ctrl-C is for the benchmark, which then stops it. Not a session of its own: Linux shares the
                # processor out between sessions first, and the ceiling is measured in this one.
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process that was started; its descendants are of the server too."""
        return self._process.pid

    def check(self) -> None:
        """Raise NotServing if the process has ended."""
        if self._process.poll() is not None:
            raise NotServing(f"{self._command} ended with {self._process.returncode}:\n{self.output()}")

    def output(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-4000:]

    def pause(self) -> None:
        """Hold every process of it still: some poll, and would take time from the one that is measured."""
        self._signal(signal.SIGSTOP)
        self._is_paused = True

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)
        self._is_paused = False

    def stop(self) -> None:
        """End it as an orchestrator would, and what is left of it for good. Does nothing a second time."""
        if self._process.poll() is not None:
            return
        members = [(member, started) for member in tree(self.pid) if (started := _started(member))]
        if self._is_paused:
            self.resume()
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for member, started in members:
            if _started(member) == started:  # and not another that got its number
                _send(member, signal.SIGKILL)
        for _ in poll(_END_S, every_s=0.01):
            if not any(_started(member) == started for member, started in members):
                return

    def _signal(self, number: signal.Signals) -> None:
        for member in tree(self.pid):
            _send(member, number)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def poll(timeout_s: float, every_s: float = 0.1) -> Iterator[float]:
    """Go round until the time is up, pausing between; yields the seconds left."""
    until = time.monotonic() + timeout_s
    while (left_s := until - time.monotonic()) > 0:
        yield left_s
        time.sleep(every_s)
