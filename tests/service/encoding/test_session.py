import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from contracts.codes import pack_logits
from contracts.errors import BackendUnavailable, InvalidModel
from contracts.manifest import Preprocessing
from contracts.model_file import read_manifest, write_manifest
from service.encoding import providers
from service.encoding.session import BUCKETS, MAX_BATCH, Session, known_images, open_session
from tests.tiny_model import make_manifest, reference_logits, write_tiny_model


def noise(num_images: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)


def opened(path: Path, choice: str = "cpu") -> Session:
    return open_session(path, read_manifest(path), choice, 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.mark.parametrize("num_images", [1, 3, 8, MAX_BATCH])
def test_codes_and_logits_are_those_of_the_model(model: Path, num_images: int) -> None:
    pixels = noise(num_images)
    codes, logits = opened(model).run(pixels)
    np.testing.assert_allclose(logits, reference_logits(pixels), atol=1e-5)
    assert np.array_equal(codes, pack_logits(logits))


@pytest.mark.parametrize("num_images", range(1, MAX_BATCH + 1))
def test_padding_to_a_bucket_changes_no_result(model: Path, num_images: int) -> None:
    plain = opened(model)
    padded = Session(plain.runtime, plain.provider, plain.num_bits, BUCKETS, BUCKETS)
    pixels = noise(num_images)
    codes, logits = padded.run(pixels)
    assert codes.shape == (num_images, 8)
    np.testing.assert_allclose(logits, reference_logits(pixels), atol=1e-5)


@pytest.mark.parametrize(
    ("start_s", "expected"),
    [
        # A batch takes as long as its images: padding is lost time.
        (0.0, {1: 1, 3: 2, 7: 4, 8: 8, 31: 16, 33: 32}),
        # A batch takes as long as four images more: a little padding is better than a batch left behind.
        (4.0, {1: 1, 3: 3, 7: 7, 9: 8, 31: 31, 33: 32}),
    ],
)
def test_a_padded_batch_is_taken_only_where_it_does_more_in_a_second(
    model: Path, start_s: float, expected: dict[int, int]
) -> None:
    took = tuple(start_s + bucket for bucket in BUCKETS)
    session = dataclasses.replace(opened(model), buckets=BUCKETS, bucket_s=took)
    assert {num_ready: session.share(num_ready) for num_ready in expected} == expected


@pytest.mark.parametrize(
    ("workers", "num_ready", "expected"), [(1, 40, 32), (2, 1, 1), (2, 5, 3), (2, 40, 4)]
)
def test_workers_on_plain_cpu_share_what_is_ready(
    model: Path, workers: int, num_ready: int, expected: int
) -> None:
    plain = opened(model)
    assert dataclasses.replace(plain, workers=workers).share(num_ready) == expected


def test_auto_finds_a_provider_and_says_why_others_are_not_used(model: Path) -> None:
    session = opened(model, "auto")
    assert session.provider in ("cpu-fp32", "openvino-bf16", "openvino-fp32", "cuda-fp32")
    codes, _ = session.run(known_images(Preprocessing(height=32, width=32)))
    assert codes.shape == (4, 8)
    if session.provider == "cpu-fp32" and providers.is_installed("openvino"):
        assert any("openvino" in note.lower() for note in session.notes)


def test_a_provider_asked_for_runs_or_is_an_error(model: Path) -> None:
    for choice in ("openvino", "cuda"):
        outcome: Session | BackendUnavailable
        try:
            outcome = opened(model, choice)
        except BackendUnavailable as exc:
            outcome = exc
        if isinstance(outcome, Session):
            assert outcome.provider.startswith(choice)
        else:
            assert "--provider cpu" in str(outcome)


def test_cuda_without_its_package_is_an_error_that_names_the_extra(model: Path) -> None:
    if providers.is_installed("cuda"):
        pytest.skip("onnxruntime-gpu is installed")
    with pytest.raises(BackendUnavailable, match=r"stochcon\[gpu\]"):
        opened(model, "cuda")


def test_openvino_without_its_package_is_an_error_that_names_the_extra(model: Path) -> None:
    script = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if 'openvino' in name else find(name, *a)\n"
        "from pathlib import Path\n"
        "from contracts.model_file import read_manifest\n"
        "from service.encoding.session import open_session\n"
        f"path = Path({str(model)!r})\n"
        "open_session(path, read_manifest(path), 'openvino', 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "BackendUnavailable" in done.stderr
    assert "stochcon[cpu]" in done.stderr


@pytest.mark.parametrize("latent", ["gaussian", "none"])
def test_a_model_that_makes_no_codes_is_refused_by_name(tmp_path: Path, latent: str) -> None:
    path = write_tiny_model(tmp_path / "m.onnx", latent=latent, name="plain-simclr")
    with pytest.raises(InvalidModel, match=f"plain-simclr.*{latent}"):
        opened(path)


def test_a_manifest_that_does_not_fit_the_graph_is_refused(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx", num_bits=64)
    write_manifest(path, make_manifest(num_bits=128))
    with pytest.raises(InvalidModel, match=r"code is .*\[N, 16\]"):
        opened(path)


def test_a_damaged_graph_is_an_invalid_model(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    manifest = read_manifest(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        open_session(path, manifest, "cpu", 1)


def test_known_images_are_the_same_at_every_start_and_differ_from_each_other() -> None:
    size = Preprocessing(height=24, width=40)
    images = known_images(size)
    assert images.shape == (4, 24, 40, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images, known_images(size))
    assert len({image.tobytes() for image in images}) == 4
    assert (images.std(axis=(1, 2, 3)) > 20).all()
