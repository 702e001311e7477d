"""The real service as a process of its own, on a port that the system chooses."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx2

# Without the garbage collector the imports take a tenth less time, and there are many servers to start.
_COMMAND = """
import gc
gc.disable()
from service.server import run
from service.settings import Settings
gc.enable()
run(Settings())
"""
_START_S = 60.0


class ServerProcess:
    """Ready when the constructor returns. As a context manager it leaves no process behind."""

    def __init__(self, data: Path, models: Path, port: int = 0, **settings: object) -> None:
        """`settings` are those of service.settings, by name."""
        chosen = {"data": data, "models": models, "port": port, "provider": "cpu", "threads": 1} | settings
        self.process = start_process(chosen)
        self.events: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(_START_S) or not self.url:
            self.kill()
            raise AssertionError("the server did not start:\n" + "".join(self.lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()

    @property
    def url(self) -> str:
        return next((str(event["url"]) for event in self.events if event["event"] == "ready"), "")

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=30, **options)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        """SIGTERM, as an orchestrator would; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; returns the exit status."""
        status = self.process.wait(30)
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            try:
                self.events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
            if self.events[-1]["event"] == "ready":
                self._ready.set()
        self._ready.set()


def start_process(settings: Mapping[str, object]) -> "subprocess.Popen[str]":
    """A server process that may or may not come up."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STOCHCON_")}
    chosen = {f"STOCHCON_{key.upper()}": str(value) for key, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND],
        env=kept | chosen,
        cwd=Path(__file__).resolve().parent.parent,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Any, timeout_s: float = 20.0) -> None:
    """Poll until `condition()` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
