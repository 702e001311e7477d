from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.server_process import ServerProcess
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one 64-bit model."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "tiny.onnx")
    return folder


@pytest.fixture(scope="module")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server; the tests of a module share it and keep to collections of their own."""
    with ServerProcess(tmp_path_factory.mktemp("data"), model_folder) as started:
        yield started
        assert started.process.poll() is None, "the server died during the tests"


@pytest.fixture(scope="module")
def locked_server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(
        tmp_path_factory.mktemp("data"), model_folder, api_key="s3cret", host="0.0.0.0"
    ) as started:
        yield started


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx2.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture
def collection(request: pytest.FixtureRequest) -> str:
    """A collection name of this test's own."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[-64:]
