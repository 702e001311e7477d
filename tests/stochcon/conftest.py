from collections.abc import Iterator
from pathlib import Path

import pytest

from stochcon import Client
from tests.image_files import jpeg
from tests.server_process import ServerProcess
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model of 64 bits."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "tiny.onnx")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """12 photos in two folders and one that is not an image."""
    for i in range(12):
        path = tmp_path / "photos" / ("cats", "dogs")[i % 2] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed=i))
    (tmp_path / "photos" / "broken.jpg").write_text("no image, whatever its name says")
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path_factory.mktemp("data"), models, api_key="secret")
    yield running
    running.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.url, "secret") as opened:
        yield opened
        for info in opened.collections():
            opened.delete_collection(info.name)
