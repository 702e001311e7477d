import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.manifest import Preprocessing
from contracts.pixels import load_pixels
from tests.tiny_images import make_png, write_parquet
from trainer import dataset as dataset_module
from trainer.dataset import Dataset, epoch_order
from trainer.sources import open_source
from trainer.sources.parquet import ParquetSource

SQUARE = Preprocessing(height=16, width=16, resize="squash")


class CountingSource(ParquetSource):
    """Counts the reads of each image, and takes its time over them."""

    def __init__(self, path: Path, delay_s: float = 0.0) -> None:
        super().__init__([path])
        self.reads = [0] * len(self)
        self._delay_s = delay_s

    def read(self, number: int) -> bytes:
        self.reads[number] += 1
        time.sleep(self._delay_s)
        return super().read(number)


@pytest.fixture(params=["cached", "streamed"])
def caching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "streamed":
        monkeypatch.setattr(dataset_module, "CACHE_BYTES", 0)


@pytest.mark.usefixtures("caching")
def test_batches_come_in_the_order_asked_for(coloured: Path) -> None:
    source = open_source([coloured])
    wanted = [np.array([40, 3]), np.array([3, 7, 9]), np.array([0]), np.array([47, 1])]
    with Dataset(source, SQUARE) as dataset:
        batches = list(dataset.batches(iter(wanted)))
    assert [batch.samples.tolist() for batch in batches] == [w.tolist() for w in wanted]
    for batch in batches:
        for sample, image in zip(batch.samples, batch.images, strict=True):
            np.testing.assert_array_equal(image.numpy(), load_pixels(source.read(int(sample)), SQUARE))


@pytest.mark.usefixtures("caching")
def test_broken_images_are_skipped_counted_and_named(tmp_path: Path) -> None:
    good = make_png(0, 0)
    path = write_parquet(tmp_path / "x.parquet", [good, good[:60], b"text", None, good])
    with Dataset(open_source([path]), SQUARE) as dataset:
        for _ in range(2):
            (batch,) = dataset.batches([np.arange(5)])
            assert batch.samples.tolist() == [0, 4]
            assert batch.images.shape == (2, 16, 16, 3)
        assert sorted(dataset.broken) == [1, 2, 3]
        assert all(f"x.parquet, row {i}: " in dataset.broken[i] for i in (1, 2, 3))


@pytest.mark.usefixtures("caching")
def test_a_batch_may_be_changed_in_place(coloured: Path) -> None:
    with Dataset(open_source([coloured]), SQUARE) as dataset:
        (first,) = dataset.batches([np.arange(5)])
        kept = first.images.clone()
        first.images.zero_()
        (again,) = dataset.batches([np.arange(5)])
    np.testing.assert_array_equal(again.images, kept)


def test_a_small_set_is_read_once(coloured: Path) -> None:
    source = CountingSource(coloured)
    with Dataset(source, SQUARE) as dataset:
        for _ in range(3):
            assert len(list(dataset.batches([np.arange(48)[::-1], np.arange(3)]))) == 2
        assert source.reads[3:] == [1] * 45
        # The second batch was asked for while the first was being decoded.
        assert max(source.reads[:3]) <= 2


def test_the_time_spent_waiting_for_batches_is_told(coloured: Path) -> None:
    source = CountingSource(coloured, delay_s=0.02)
    waited_s = 0.0
    with Dataset(source, SQUARE) as dataset:
        assert dataset.wait_s == 0
        batches = dataset.batches([np.arange(2), np.arange(2, 7)])
        for _ in range(2):
            asked_s = time.perf_counter()
            next(batches)
            waited_s += time.perf_counter() - asked_s
            told_s = dataset.wait_s
            time.sleep(0.1)  # what a training step takes is no waiting
            assert dataset.wait_s == told_s
    assert 0.04 <= dataset.wait_s <= waited_s


def test_a_batch_of_broken_images_is_empty(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [b"1", b"2"])
    with Dataset(open_source([path]), SQUARE) as dataset:
        (batch,) = dataset.batches([np.arange(2)])
    assert batch.images.shape == (0, 16, 16, 3)


def test_images_are_preprocessed_as_asked_and_keep_their_aspect_ratio_beside_them(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    source = open_source([write_parquet(tmp_path / "wide.parquet", [encoded.getvalue()])])
    with (
        Dataset(source, Preprocessing(height=10, width=10, resize="squash")) as training,
        Dataset(source, Preprocessing(height=10, width=10)) as evaluation,
    ):
        (squashed,) = training.batches([np.arange(1)])
        (cropped,) = evaluation.batches([np.arange(1)])
    assert squashed.aspects.tolist() == [3.0]
    assert 0.3 < squashed.images.float().mean() / 255 < 0.4
    assert cropped.images.float().mean() / 255 > 0.95


def test_an_epochs_order_is_a_permutation_fixed_by_seed_and_epoch() -> None:
    order = epoch_order(1, 2, 100)
    assert sorted(order) == list(range(100))
    np.testing.assert_array_equal(order, epoch_order(1, 2, 100))
    assert not np.array_equal(order, epoch_order(1, 3, 100))
    assert not np.array_equal(order, epoch_order(2, 2, 100))
