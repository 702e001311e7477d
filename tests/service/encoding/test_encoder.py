import threading
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

from contracts.codes import pack_logits
from contracts.errors import BackendUnavailable, InvalidImage, Overloaded, StochConError, TooLarge
from contracts.manifest import Preprocessing
from contracts.model_file import read_manifest
from contracts.pixels import load_pixels
from service.encoding.encoder import Encoder, EncoderSettings
from service.encoding.encoding import Encoding
from service.encoding.session import MAX_BATCH, Session
from tests import image_files
from tests.image_files import png
from tests.server_process import wait_until
from tests.tiny_model import reference_logits, write_tiny_model

SIZE = Preprocessing(height=32, width=32)


class Gate:
    """An observer that can hold the model's threads back, and remembers batches."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.is_open.set()
        self.batches: list[int] = []
        self.stages: list[str] = []
        self.failure: Exception | None = None

    def stage(self, name: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(name)
        if name == "wait":  # On a thread of the model, with a batch taken and not yet run.
            self.is_open.wait(20)
            if self.failure is not None:
                raise self.failure

    def batch(self, num_images: int) -> None:
        self.batches.append(num_images)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.fixture
def gate() -> Gate:
    return Gate()


def open_encoder(model: Path, gate: Gate | None = None, **settings: object) -> Encoder:
    chosen = EncoderSettings(**{"provider": "cpu", "num_threads": 1} | settings)
    return Encoder(model, read_manifest(model), chosen, gate)


@pytest.fixture
def encoder(model: Path, gate: Gate) -> Iterator[Encoder]:
    opened = open_encoder(model, gate, max_queue_images=100)
    yield opened
    gate.is_open.set()
    opened.close()


def expected_logits(data: bytes) -> np.ndarray:
    return reference_logits(load_pixels(data, SIZE)[None])[0]


def assert_encodes(encoding: Encoding, data: bytes) -> None:
    logits = expected_logits(data)
    np.testing.assert_allclose(encoding.logits, logits, atol=1e-5)
    assert encoding.code == pack_logits(logits).tobytes()


def test_codes_are_those_of_the_reference(encoder: Encoder) -> None:
    for seed in range(5):
        assert_encodes(encoder.submit(png(seed)).result(10), png(seed))


def test_results_do_not_depend_on_the_batch(encoder: Encoder, gate: Gate) -> None:
    images = [png(seed) for seed in range(70)]
    alone = [encoder.submit(data).result(10) for data in images]
    gate.batches.clear()
    gate.is_open.clear()
    futures = encoder.submit_all(images)
    wait_until(lambda: gate.stages.count("decode") == 140)
    gate.is_open.set()
    together = [future.result(10) for future in futures]
    assert max(gate.batches) == MAX_BATCH
    assert [one.code for one in together] == [one.code for one in alone]


def test_a_lone_image_is_not_held_back_for_others(encoder: Encoder, gate: Gate) -> None:
    encoder.submit(png()).result(10)
    assert gate.batches == [1]


def test_batches_fill_while_the_model_is_busy(encoder: Encoder, gate: Gate) -> None:
    gate.is_open.clear()
    futures = [encoder.submit(png(0))]
    wait_until(lambda: "wait" in gate.stages)
    futures += encoder.submit_all([png(seed) for seed in range(1, 41)])
    wait_until(lambda: gate.stages.count("decode") == 41)
    gate.is_open.set()
    wait(futures, 10)
    assert gate.batches == [1, 32, 8]


def test_each_core_has_a_batch_of_its_own_and_takes_its_share(model: Path, gate: Gate) -> None:
    encoder = open_encoder(model, gate, num_threads=2)
    gate.is_open.clear()
    images = [png(seed) for seed in range(12)]
    futures = encoder.submit_all(images[:2])
    wait_until(lambda: gate.stages.count("wait") == 2)  # both are under way at once
    futures += encoder.submit_all(images[2:])
    wait_until(lambda: gate.stages.count("decode") == 12)
    gate.is_open.set()
    for future, data in zip(futures, images, strict=True):
        assert_encodes(future.result(10), data)
    assert sum(gate.batches) == 12
    # Of ten images that are decoded half is five, and a core takes four at most.
    assert max(gate.batches) == 4
    encoder.close()


def test_an_image_that_is_alone_has_all_cores(
    model: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    run = Session.run

    def noted(self: Session, pixels: np.ndarray, *, alone: bool = False) -> tuple[np.ndarray, np.ndarray]:
        asked.append(alone)
        return run(self, pixels, alone=alone)

    encoder = open_encoder(model, gate, num_threads=2)
    monkeypatch.setattr(Session, "run", noted)
    assert_encodes(encoder.submit(png(1)).result(10), png(1))
    assert asked == [True]
    asked.clear()
    gate.is_open.clear()
    futures = encoder.submit_all([png(seed) for seed in range(2)])
    wait_until(lambda: gate.stages.count("wait") == 3)
    gate.is_open.set()
    wait(futures, 10)
    assert asked[0] is False
    encoder.close()


@pytest.mark.parametrize("kind", image_files.INVALID)
def test_a_bad_image_fails_alone(encoder: Encoder, kind: str) -> None:
    futures = encoder.submit_all([png(1), image_files.INVALID[kind], png(2)])
    with pytest.raises(InvalidImage):
        futures[1].result(10)
    assert_encodes(futures[0].result(10), png(1))
    assert_encodes(futures[2].result(10), png(2))
    assert_encodes(encoder.submit(png(3)).result(10), png(3))


def test_a_batch_of_bad_images_only_harms_nothing(encoder: Encoder) -> None:
    bad = [*image_files.INVALID.values(), *image_files.TOO_LARGE.values()] * 3
    for future in encoder.submit_all(bad):
        assert isinstance(future.exception(10), InvalidImage | TooLarge)
    assert encoder.num_pending == 0
    assert_encodes(encoder.submit(png(3)).result(10), png(3))


def test_a_queue_at_its_bound_says_when_to_come_back(encoder: Encoder, gate: Gate) -> None:
    gate.is_open.clear()
    waiting = encoder.submit_all([png(0)] * 99)
    with pytest.raises(Overloaded, match="99 images") as info:
        encoder.submit_all([png(0)] * 2)
    assert 1 <= info.value.retry_after_s <= 30
    waiting.append(encoder.submit(png(0)))
    gate.is_open.set()
    wait(waiting, 10)
    assert_encodes(encoder.submit(png(1)).result(10), png(1))


def test_the_queue_is_bounded_by_bytes(model: Path, gate: Gate) -> None:
    data = png(0)
    encoder = open_encoder(model, gate, max_queue_bytes=2 * len(data), num_threads=1)
    gate.is_open.clear()
    # The one thread of the pool is held in an observer, so that what follows cannot be decoded.
    hold = threading.Event()
    gate.stage = lambda name, seconds: hold.wait(20) and None  # type: ignore[method-assign]
    futures = encoder.submit_all([data, data])
    with pytest.raises(Overloaded, match="bytes"):
        encoder.submit(data)
    hold.set()
    wait(futures, 10)
    encoder.close()


def test_all_of_a_request_is_queued_or_none(encoder: Encoder, gate: Gate) -> None:
    gate.is_open.clear()
    waiting = encoder.submit_all([png(0)] * 60)
    with pytest.raises(Overloaded):
        encoder.submit_all([png(0)] * 60)
    assert encoder.num_pending == 60
    gate.is_open.set()
    wait(waiting, 10)


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits(encoder: Encoder) -> None:
    futures = encoder.submit_all([png(0)] * 130)
    assert len({future.result(10).code for future in futures}) == 1


def test_work_that_is_cancelled_is_dropped(encoder: Encoder, gate: Gate) -> None:
    gate.is_open.clear()
    first = encoder.submit(png(0))
    wait_until(lambda: "wait" in gate.stages)
    dropped = encoder.submit_all([png(1)] * 20)
    kept = encoder.submit(png(2))
    assert all(future.cancel() for future in dropped)
    gate.is_open.set()
    assert_encodes(kept.result(10), png(2))
    first.result(10)
    wait_until(lambda: encoder.num_pending == 0)
    assert gate.batches == [1, 1]


@pytest.mark.parametrize("num_threads", [1, 2])
def test_when_the_model_fails_everyone_who_waits_is_told(model: Path, gate: Gate, num_threads: int) -> None:
    encoder = open_encoder(model, gate, num_threads=num_threads)
    gate.is_open.clear()
    waiting = encoder.submit_all([png(seed) for seed in range(40)])
    gate.failure = RuntimeError("the accelerator fell off the bus")
    gate.is_open.set()
    for future in waiting:
        with pytest.raises(BackendUnavailable, match="fell off the bus"):
            future.result(10)
    assert encoder.failure is gate.failure
    with pytest.raises(BackendUnavailable, match="restart"):
        encoder.submit(png(0))
    with pytest.raises(BackendUnavailable, match="restart"):
        list(encoder.encode_many([png(0)]))
    encoder.close()


def test_closing_finishes_what_waits_and_takes_no_more(model: Path) -> None:
    encoder = open_encoder(model)
    futures = encoder.submit_all([png(seed) for seed in range(50)])
    encoder.close()
    assert all(future.done() for future in futures)
    assert_encodes(futures[49].result(), png(49))
    with pytest.raises(BackendUnavailable, match="closed"):
        encoder.submit(png(0))


def test_a_stream_is_encoded_in_order_with_errors_in_their_places(encoder: Encoder) -> None:
    images = [png(seed % 7) if seed % 10 else b"no image" for seed in range(500)]
    results = list(encoder.encode_many(iter(images)))
    assert len(results) == 500
    for seed, result in enumerate(results):
        if seed % 10:
            assert isinstance(result, Encoding)
            assert result.code == pack_logits(expected_logits(images[seed])).tobytes()
        else:
            assert isinstance(result, InvalidImage)


def test_a_stream_is_read_only_as_far_as_needed(encoder: Encoder) -> None:
    num_read = 0

    def endless() -> Iterator[bytes]:
        nonlocal num_read
        while True:
            num_read += 1
            yield png(0)

    results = encoder.encode_many(endless())
    for _ in range(20):
        next(results)
    assert num_read < 400
    assert encoder.num_pending <= 100
    results.close()
    wait_until(lambda: encoder.num_pending == 0)


def test_a_stream_waits_for_room_instead_of_failing(encoder: Encoder, gate: Gate) -> None:
    gate.is_open.clear()
    waiting = encoder.submit_all([png(0)] * 100)
    results: list[Encoding | StochConError] = []
    thread = threading.Thread(target=lambda: results.extend(encoder.encode_many([png(1)] * 30)))
    thread.start()
    gate.is_open.set()
    thread.join(20)
    assert len(results) == 30
    wait(waiting, 10)


LARGE = image_files.huge_png(3400, 3000)
"""Just over what is decoded among small images."""


def test_small_images_go_past_large_ones(model: Path) -> None:
    encoder = open_encoder(model, num_threads=1)
    large = encoder.submit_all([LARGE] * 6)
    assert_encodes(encoder.submit(png(0)).result(20), png(0))
    assert not large[1].done()
    encoder.close()  # Finishes what is in either lane.
    assert_encodes(large[5].result(0), LARGE)


def test_large_images_that_are_cancelled_are_dropped(encoder: Encoder, gate: Gate) -> None:
    large = encoder.submit_all([LARGE] * 6)
    encoder.submit(png(0)).result(20)
    assert all(future.cancel() for future in large[1:])
    wait_until(lambda: encoder.num_pending == 0)
    assert gate.stages.count("decode") <= 2


def test_a_stream_keeps_its_order_around_large_images(encoder: Encoder) -> None:
    images = [png(1), LARGE, png(2), LARGE[:-100], png(3)]
    results = list(encoder.encode_many(images))
    assert isinstance(results.pop(3), InvalidImage)
    for result, data in zip(results, [png(1), LARGE, png(2), png(3)], strict=True):
        assert isinstance(result, Encoding)
        assert_encodes(result, data)
