"""What a collection's codes are like, against plain counting, and as a real service tells it."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from contracts.codes import hamming
from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef
from service.drift import Baselines, measure
from tests.image_files import jpeg
from tests.server_process import ServerProcess, wait_until

MODEL = ModelRef("a" * 64, "tiny", 64)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore.open(tmp_path, num_threads=1, segment_slots=64) as opened:
        yield opened


def fill(store: EmbeddedStore, count: int) -> np.ndarray:
    codes = np.random.default_rng(1).integers(0, 256, (count, 8), dtype=np.uint8)
    store.upsert("c", [Item(str(n), code.tobytes()) for n, code in enumerate(codes)], MODEL)
    return codes


def test_a_sample_is_of_living_items_each_as_likely(store: EmbeddedStore) -> None:
    codes = fill(store, 200)
    store.delete("c", [str(n) for n in range(0, 200, 2)])
    sample = store.sample("c", 20_000, seed=0)
    living = {code.tobytes() for code in codes[1::2]}
    values, counts = np.unique(sample, axis=0, return_counts=True)
    assert {value.tobytes() for value in values} == living
    # Binomial: 200 expected each, deviation 14.
    assert counts.min() > 200 - 6 * 14
    assert counts.max() < 200 + 6 * 14


def test_a_baseline_is_what_counting_gives(store: EmbeddedStore) -> None:
    codes = fill(store, 150)
    baseline = measure(store, "c", 150)
    assert baseline is not None
    sample = store.sample("c", 256, seed=0)
    nearest = [sorted(hamming(one[None], codes)[0])[1] for one in sample]
    assert baseline.nearest_distance_share == pytest.approx(np.mean(nearest) / 64)
    assert baseline.active_share == pytest.approx(np.unpackbits(sample).mean())


@pytest.mark.parametrize("count", [0, 1])
def test_a_collection_of_nothing_or_one_has_none(store: EmbeddedStore, count: int) -> None:
    store.create_collection("c", MODEL)
    fill(store, count)
    assert measure(store, "c", count) is None


def test_baselines_are_measured_in_the_background_and_again_when_they_are_old(store: EmbeddedStore) -> None:
    baselines = Baselines(store, interval_s=0.0)
    assert list(baselines.latest()) == []
    fill(store, 10)
    wait_until(lambda: [baseline.collection for baseline in baselines.latest()] == ["c"])
    store.delete_collection("c")
    wait_until(lambda: not baselines.latest())


def metric(text: str, name: str) -> float:
    for line in text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return math.nan


def test_a_service_tells_how_far_new_images_are_from_what_it_has(tmp_path: Path, model_folder: Path) -> None:
    with ServerProcess(tmp_path, model_folder) as server, server.client() as client:
        for number in range(20):
            files = {"image": jpeg(seed=number)}
            assert client.put(f"/items/{number}", files=files).status_code == 200
        for seed in (3, 100):  # One that is there, and one that is not.
            hit = client.post("/search", files={"image": jpeg(seed=seed)}).json()["hits"][0]
        client.post("/search", params={"radius": 64}, files={"image": jpeg(seed=3)})
        client.post("/search", json={"id": "3"})
        encoded = client.post("/encode", files={"image": jpeg(seed=5)}).json()["results"][0]
        text = client.get("/metrics").text
        assert metric(text, 'stochcon_nearest_distance_share_count{collection="default"}') == 2
        total = metric(text, 'stochcon_nearest_distance_share_sum{collection="default"}')
        assert total == pytest.approx(hit["distance"] / 64)
        assert metric(text, 'stochcon_image_entropy_share_count{use="write"}') == 20
        assert metric(text, 'stochcon_image_entropy_share_count{use="search"}') == 3
        entropy = metric(text, 'stochcon_image_entropy_share_sum{use="encode"}')
        assert entropy == pytest.approx(encoded["entropy_bits"] / 64)
        active = metric(text, 'stochcon_image_active_share_sum{use="encode"}')
        assert active == pytest.approx(encoded["active_bits"] / 64)
        # Measured in the background since the first look.
        name = 'stochcon_collection_nearest_distance_share{collection="default"}'
        wait_until(lambda: metric(client.get("/metrics").text, name) > 0)
