"""Damaged image files give a code or a clear error, in time and in bounded memory, whoever takes them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx2
import pytest

from contracts.errors import InvalidImage, TooLarge
from contracts.model_file import read_manifest
from service.encoding.encoder import Encoder, EncoderSettings
from tests.fuzz.__main__ import LIMITS, MAX_GROWTH_BYTES, Finding, Fuzzer, check_message, damaged
from tests.fuzz.mutations import SEEDS, mutate
from tests.server_process import ServerProcess
from tests.service.http_answers import assert_serves, part
from tests.tiny_model import write_tiny_model

ROOT = Path(__file__).resolve().parents[2]
NUM_EXAMPLES = 1000
NUM_REQUESTS = 100
REFUSALS = {InvalidImage.slug: 422, TooLarge.slug: 413}


def test_an_encoder_outlives_thousands_of_damaged_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--examples", str(NUM_EXAMPLES), "--found", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=240,
        check=False,
    )
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert done.returncode == 0, f"kept in {tmp_path}: {kept}\n{done.stdout}\n{done.stderr[-8000:]}"
    assert f"{NUM_EXAMPLES} files, 0 findings" in done.stdout
    assert kept == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    models = tmp_path_factory.mktemp("models")
    write_tiny_model(models / "tiny.onnx")
    limits = {"max_image_bytes": LIMITS.max_bytes, "max_image_pixels": LIMITS.max_pixels}
    with ServerProcess(tmp_path_factory.mktemp("data"), models, **limits) as started:
        yield started


def peak_bytes(server: ServerProcess) -> int:
    """Most memory that the server has held."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of another process is Linux's to say"
)
def test_a_service_answers_damaged_files_with_a_code_or_a_problem(server: ServerProcess) -> None:
    with server.client() as client:
        for data in SEEDS.values():
            client.post("/encode", files=[part(data)])
        assert_serves(client)
        before = peak_bytes(server)
        send_damaged_files(client)
        assert_serves(client)
        assert peak_bytes(server) - before < MAX_GROWTH_BYTES
    assert server.process.poll() is None


def send_damaged_files(client: httpx2.Client) -> None:
    @damaged(NUM_REQUESTS)
    def send_one(kind: str, random: Random) -> None:
        data = mutate(random, SEEDS[kind])
        response = client.post("/encode", files=[part(data, "cat.jpg")])
        content = response.json()
        if response.status_code == 200:
            assert len(content["results"][0]["code"]) == 12
        else:
            assert response.headers["content-type"] == "application/problem+json"
            assert REFUSALS[content["type"].removeprefix("urn:stochcon:")] == response.status_code, content
            check_message(content["detail"])
        assert_serves(client)

    send_one()


@pytest.mark.parametrize("kind", SEEDS)
def test_damage_is_the_same_each_time_and_differs_from_case_to_case(kind: str) -> None:
    cases = [mutate(Random(number), SEEDS[kind]) for number in range(20)]
    assert cases == [mutate(Random(number), SEEDS[kind]) for number in range(20)]
    assert len(set(cases)) > 12


@pytest.mark.parametrize(
    "message", ["it broke", "bad <x at 0x7f>: send another", "two\nlines: send another", ""]
)
def test_a_message_without_a_remedy_would_be_found(message: str) -> None:
    with pytest.raises(Finding):
        check_message(message)


def test_a_file_that_is_not_answered_is_kept(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    encoder = Encoder(model, read_manifest(model), EncoderSettings("cpu", 1, LIMITS))
    fuzzer = Fuzzer(encoder, tmp_path)
    fuzzer.warm()
    fuzzer.try_file("good", SEEDS["small jpeg"])
    encoder.close()
    with pytest.raises(Finding, match=r"unforeseen BackendUnavailable.* 4 bytes kept as") as info:
        fuzzer.try_file("bad", b"some")
    assert Path(str(info.value).rpartition(" kept as ")[2]).read_bytes() == b"some"
    assert (tmp_path / "current").read_bytes() == b"some"  # Where it lies if the process dies.
