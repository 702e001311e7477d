"""Real commands on real folders: `stochcon` as a process of its own, with and without the service."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.image_files import jpeg
from tests.tiny_model import write_tiny_model

ROOT = Path(__file__).resolve().parent.parent.parent


class CommandLine:
    """A folder to work in, and the environment that its commands see."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder = folder
        kept = {key: value for key, value in os.environ.items() if not key.startswith("STOCHCON_")}
        self.environment = kept | {
            "STOCHCON_MODELS": str(models),
            "STOCHCON_PROVIDER": "cpu",
            "STOCHCON_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def start(self, *arguments: object, **streams: int) -> "subprocess.Popen[str]":
        """A command that runs on."""
        command = [sys.executable, "-m", "stochcon", *map(str, arguments)]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **streams)

    def __call__(self, *arguments: object, code: int = 0) -> list[str]:
        """Run a command to its end, which must be with that exit code; the lines that it printed."""
        running = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = running.communicate(timeout=120)
        assert running.returncode == code, out + err
        assert "Traceback" not in err
        return out.splitlines()

    def index(self, *arguments: object) -> tuple[dict[str, int], dict[str, str]]:
        """Run `index --json`: the counts, and the failures by id."""
        *failures, counts = map(json.loads, self("index", *arguments, "--json"))
        return counts, {failure["id"]: failure["error"] for failure in failures}


class Service:
    """`stochcon serve` on a free port. Ready when constructed."""

    def __init__(self, stochcon: CommandLine, *arguments: object) -> None:
        self.process = stochcon.start("serve", "--port", 0, *arguments, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        self.log: list[str] = []
        for line in self.process.stderr:
            self.log.append(line)
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "ready":
                self.url = str(event["url"])
                return
        raise AssertionError("the service did not start:\n" + "".join(self.log))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "tiny.onnx")
    return folder


@pytest.fixture
def stochcon(tmp_path: Path, models: Path) -> CommandLine:
    return CommandLine(tmp_path, models)


@pytest.fixture
def serve(stochcon: CommandLine) -> Iterator[Callable[..., Service]]:
    """Start services that are stopped at the end."""
    started: list[Service] = []

    def start(*arguments: object) -> Service:
        started.append(Service(stochcon, *arguments))
        return started[-1]

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """12 photos in two folders, and one file that is no image."""
    folder = tmp_path / "photos"
    for i in range(12):
        path = folder / ("cats", "dogs")[i % 2] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed=i))
    (folder / "broken.jpg").write_text("no image, whatever its name says")
    return folder
