import decimal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.manifest import Preprocessing
from tests.tiny_images import make_png, write_parquet
from trainer.dataset import Dataset
from trainer.sources import order as order_module
from trainer.sources import parquet as parquet_module
from trainer.sources.parquet import ParquetSource


def noise(number: int, size: int = 4000) -> bytes:
    """Bytes that nothing compresses."""
    return np.random.default_rng(number).bytes(size)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """4.8 MB in three files of 40 row groups each, where 600 kB may be held in memory."""
    monkeypatch.setattr(parquet_module, "KEEP_BYTES", 600_000)
    monkeypatch.setattr(order_module, "RUN_BYTES", 100_000)
    paths = []
    for file in range(3):
        path = write_parquet(tmp_path / f"{file}.parquet", [noise(400 * file + i) for i in range(400)])
        pq.write_table(pq.read_table(path), path, row_group_size=10)
        paths.append(path)
    return paths


def test_a_file_gives_bytes_labels_and_class_names(coloured: Path) -> None:
    source = ParquetSource([coloured])
    assert len(source) == 48
    assert source.classes == ["red", "green", "blue"]
    assert [source.label(i) for i in range(4)] == [0, 1, 2, 0]
    assert source.read(4) == make_png(1, 4)
    assert source.name(4) == "coloured.parquet, row 4"


def test_an_unlabelled_file_is_read(tmp_path: Path) -> None:
    source = ParquetSource([write_parquet(tmp_path / "plain.parquet", [make_png(0, 0), None])])
    assert source.classes is None
    assert source.label(0) is None
    assert source.read(1) == b""


def test_row_groups_and_files_are_read_across(tmp_path: Path) -> None:
    images = [make_png(0, i) for i in range(9)]
    paths = []
    for i, part in enumerate((images[:6], images[6:])):
        path = write_parquet(tmp_path / f"{i}.parquet", part, [0, 1, 2, 0, 1, 2][: len(part)])
        pq.write_table(pq.read_table(path), path, row_group_size=4)
        paths.append(path)
    source = ParquetSource(paths)
    assert [source.read(i) for i in range(9)] == images
    assert [source.label(i) for i in range(9)] == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert [source.name(i) for i in (5, 6)] == ["0.parquet, row 5", "1.parquet, row 0"]


def test_an_epochs_order_of_a_set_that_fits_is_a_plain_permutation(coloured: Path) -> None:
    expected = np.random.default_rng([3, 4]).permutation(48)
    np.testing.assert_array_equal(ParquetSource([coloured]).epoch_order(3, 4), expected)


def test_an_epoch_of_a_large_set_reads_each_row_group_once_and_holds_few(
    large: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[tuple[Path, int]] = Counter()
    read_images = parquet_module.read_images

    def counting(path: Path, group: int) -> pa.ChunkedArray:
        reads[path, group] += 1
        return read_images(path, group)

    monkeypatch.setattr(parquet_module, "read_images", counting)
    source = ParquetSource(large)
    order = source.epoch_order(0, 0)
    assert sorted(order) == list(range(1200))
    before, most = pa.total_allocated_bytes(), 0
    for number in order.tolist():
        assert source.read(number) == noise(number)
        most = max(most, pa.total_allocated_bytes() - before)
    assert len(reads) == 120
    assert set(reads.values()) == {1}
    # The 600 kB, two row groups, and their offsets.
    assert 400_000 < most < 750_000


def test_a_large_set_gives_the_same_images_to_many_threads(large: list[Path]) -> None:
    source = ParquetSource(large)
    order = source.epoch_order(1, 0)[:300]
    together = threading.Barrier(4)

    def read(_: int) -> list[bytes]:
        together.wait()
        return [source.read(number) for number in order.tolist()]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(read, range(4)):
            assert found == [noise(number) for number in order.tolist()]


def test_a_damaged_row_group_is_broken_images(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [make_png(i % 3, i) for i in range(20)])
    pq.write_table(pq.read_table(path), path, row_group_size=10, compression="snappy")
    column = pq.read_metadata(path).row_group(0).column(0)
    damaged = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    damaged[start : start + 40] = bytes(40)
    path.write_bytes(damaged)
    with Dataset(ParquetSource([path]), Preprocessing(height=16, width=16)) as dataset:
        (batch,) = dataset.batches([np.arange(20)])
    assert batch.samples.tolist() == list(range(10, 20))
    assert "x.parquet, row 3: row group 0 of" in dataset.broken[3]


def test_files_without_images_say_what_they_have(tmp_path: Path) -> None:
    image = pa.array([{"bytes": b"x", "path": "x"}])
    for name, table, message in (
        ("urls", pa.table({"url": ["x"]}), r"its columns are url \(string\)"),
        ("paths", pa.table({"image": pa.array([{"path": "x"}])}), r"no column image\{bytes,path\}"),
        ("texts", pa.table({"image": pa.array([{"bytes": "x"}])}), r"no column image\{bytes,path\}"),
        ("text", pa.table({"image": image, "label": pa.array(["cat"])}), "labels of type string"),
        ("ids", pa.table({"image": image, "label": pa.array([10**7])}), "label 10000000, and the largest"),
        ("empty", pa.table({"image": image}).slice(0, 0), "has no rows"),
    ):
        pq.write_table(table, tmp_path / f"{name}.parquet")
        with pytest.raises(ValueError, match=message):
            ParquetSource([tmp_path / f"{name}.parquet"])


def test_labels_without_a_name_are_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [make_png(0, 0)], [3])
    with pytest.raises(ValueError, match="names 3 classes, and its largest label is 3"):
        ParquetSource([path])


def labelled(path: Path, labels: list[int | None]) -> Path:
    image = pa.array([{"bytes": b"x", "path": "x"}] * len(labels))
    pq.write_table(pa.table({"image": image, "label": pa.array(labels, pa.int64())}), path)
    return path


def test_numbers_without_names_are_classes_of_all_files(tmp_path: Path) -> None:
    first = labelled(tmp_path / "a.parquet", [0, None, -1])
    second = labelled(tmp_path / "b.parquet", [2])
    source = ParquetSource([first, second])
    assert source.classes == ["0", "1", "2"]
    assert [source.label(i) for i in range(4)] == [0, None, None, 2]


def test_labels_are_dropped_where_files_differ(tmp_path: Path, coloured: Path) -> None:
    hidden = labelled(tmp_path / "a.parquet", [None, -1])
    assert ParquetSource([hidden]).classes is None
    plain = write_parquet(tmp_path / "plain.parquet", [b"x"])
    for other in (hidden, plain):
        source = ParquetSource([coloured, other])
        assert source.classes is None
        assert source.label(0) is None


def test_targets_are_numeric_columns(tmp_path: Path) -> None:
    image = pa.array([{"bytes": b"x", "path": "x"}] * 3)
    columns = {
        "whole": pa.array([1, None, 3], pa.int32()),
        "half": pa.array([0.5, 1.5, None], pa.float32()),
        "flag": pa.array([True, False, None]),
        "price": pa.array([decimal.Decimal("1.25"), None, None]),
        "word": pa.array(["a", "b", "c"]),
        "list": pa.array([[1], [2], [3]]),
    }
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": image, **columns}), path)
    source = ParquetSource([path, path])
    nan = np.nan
    for column, expected in (
        ("whole", [1, nan, 3]),
        ("half", [0.5, 1.5, nan]),
        ("flag", [1, 0, nan]),
        ("price", [1.25, nan, nan]),
    ):
        found = source.targets(column)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, expected * 2)
    for column, message in (
        ("word", r"x\.parquet has word of type string: targets are numbers"),
        ("list", "has list of type list<"),
        ("size", r"has no column size .*: it has image \(struct<.*whole \(int32\), half \(float\)"),
    ):
        with pytest.raises(ValueError, match=message):
            source.targets(column)
