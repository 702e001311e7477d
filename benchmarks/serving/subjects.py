"""The servers that are compared, each with the settings that are tried to make it its best."""

import re
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from benchmarks.serving.connections import request_body
from benchmarks.serving.processes import NotServing, Server, environment_with, free_port, poll

OURS = "ours"
FASTAPI, FASTAPI_THREADS, LITSERVE, BENTOML = "FastAPI", "FastAPI in threads", "LitServe", "BentoML"
PEERS = (FASTAPI, FASTAPI_THREADS, LITSERVE, BENTOML)
"""FastAPI as tutorials have it, the work in an `async def`; and in a `def`, which its thread pool runs."""

_PARTS = {OURS: "image", FASTAPI: "image", FASTAPI_THREADS: "image", LITSERVE: "request", BENTOML: "images"}
"""Name of the multipart part that holds the photo."""

_START_S = 120.0

Settings = dict[str, Any]

SETTINGS: dict[str, list[Settings]] = {
    OURS: [{}],
    FASTAPI: [{"handler": "async"}],
    FASTAPI_THREADS: [{"handler": "def"}],
    LITSERVE: [
        {"batch": 16, "wait_ms": 10, "workers": 2},
        {"batch": 16, "wait_ms": 10, "workers": 1},
        {"batch": 4, "wait_ms": 2, "workers": 2},
        {"batch": 32, "wait_ms": 50, "workers": 2},
    ],
    BENTOML: [
        {"batch": 16, "latency_ms": 10_000, "workers": 2},
        {"batch": 16, "latency_ms": 10_000, "workers": 1},
        {"batch": 4, "latency_ms": 10_000, "workers": 2},
        {"batch": 32, "latency_ms": 10_000, "workers": 2},
        {"batch": 16, "latency_ms": 1000, "workers": 2},
    ],
}
"""The first is what a rehearsal takes. One worker a core, and a batch that is not waited for long, are what
the projects' documentation recommends on processors; the rest are the neighbours."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of server with settings and a model."""

    kind: str
    model: Path
    settings: Settings = field(default_factory=dict)
    our_session: bool = False
    """Whether a peer is given our provider and session options."""

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.kind}, our session" if self.our_session else self.kind

    @property
    def part(self) -> str:
        """Name of the multipart part that holds the photo."""
        return _PARTS[self.kind]

    def start(self, folder: Path, first: Path) -> tuple[Server, bytes]:
        """Start it, its files in `folder`; returns when it has answered the photo `first`, with the code.

        Raises NotServing if it does not.
        """
        port = free_port()
        command, environment = self._command(port, folder)
        log = folder / f"{re.sub('[^a-z]+', '-', self.name.lower())}-{port}.log"
        server = Server(command, port, log, environment_with(**environment))
        try:
            for _ in poll(_START_S):
                server.check()
                with suppress(OSError, HTTPException):
                    return server, ask(port, self.part, first)
            raise NotServing(f"{self.name} did not answer in {_START_S:g} s:\n{server.output()}")
        except BaseException:
            server.stop()
            raise

    def _command(self, port: int, folder: Path) -> tuple[Sequence[str], dict[str, str]]:
        python, model = sys.executable, str(self.model)
        chosen = self.settings
        if self.kind == OURS:
            options = ["--data", str(folder / f"store-{port}"), "--port", str(port), "--model", model]
            return [python, "-m", "stochcon", "serve", *options], {}
        if self.kind == BENTOML:
            service = "benchmarks.serving.peers.bentoml_app:Encode"
            environment = {f"PEER_{key.upper()}": str(value) for key, value in chosen.items()}
            environment |= {"PEER_MODEL": model, "PEER_OUR_SESSION": str(int(self.our_session))}
            # Else it reports each start to its makers.
            environment |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "bentoml")}
            options = ["--host", "127.0.0.1", "--port", str(port)]
            return [python, "-m", "bentoml", "serve", service, *options], environment
        module = "litserve_app" if self.kind == LITSERVE else "fastapi_app"
        options = [f"--{key.replace('_', '-')}={value}" for key, value in chosen.items()]
        options += ["--our-session"] * self.our_session
        return [
            *(python, "-m", f"benchmarks.serving.peers.{module}", model, "--port", str(port)),
            *options,
        ], {}


def ask(port: int, part: str, photo: Path) -> bytes:
    """The code of one photo, in base64. Raises OSError unless the answer is a success."""
    body, content_type = request_body(part, photo.read_bytes())
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    with closing(connection):
        connection.request("POST", "/encode", body, {"Content-Type": content_type})
        answer = connection.getresponse()
        found = re.search(rb'"code":\s*"([^"]+)"', answer.read())
    if answer.status != 200 or found is None:
        raise OSError(f"status {answer.status}" if answer.status != 200 else "an answer without a code")
    return found[1]
