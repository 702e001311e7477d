from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny_images import make_png, write_parquet
from trainer.sources.concat import ConcatSource
from trainer.sources.parquet import ParquetSource


def part(path: Path, labels: list[int], seed: int, age: float | None = None) -> ParquetSource:
    write_parquet(path, [make_png(label, seed + i) for i, label in enumerate(labels)], labels)
    if age is not None:
        table = pq.read_table(path)
        pq.write_table(table.append_column("age", pa.array([age] * len(labels))), path)
    return ParquetSource([path])


def test_images_come_one_source_after_the_other(tmp_path: Path) -> None:
    parts = [part(tmp_path / f"{i}.parquet", [i, 1], 10 * i) for i in range(3)]
    source = ConcatSource(parts)
    assert len(source) == 6
    assert source.classes == ["red", "green", "blue"]
    assert [source.label(i) for i in range(6)] == [0, 1, 1, 1, 2, 1]
    assert [source.read(i) for i in range(6)] == [p.read(i) for p in parts for i in range(2)]
    assert [source.name(i) for i in (0, 1, 5)] == ["0.parquet, row 0", "0.parquet, row 1", "2.parquet, row 1"]


def test_labels_of_other_classes_are_dropped(tmp_path: Path) -> None:
    plain = ParquetSource([write_parquet(tmp_path / "plain.parquet", [make_png(0, 0)])])
    source = ConcatSource([part(tmp_path / "x.parquet", [0, 1], 0), plain])
    assert source.classes is None
    assert source.label(0) is None


def test_an_epochs_order_is_over_all_and_keeps_each_sources_own(tmp_path: Path) -> None:
    parts = [part(tmp_path / f"{i}.parquet", [0] * count, 0) for i, count in enumerate((40, 40, 5))]
    source = ConcatSource(parts)
    order = source.epoch_order(1, 2)
    assert sorted(order) == list(range(85))
    np.testing.assert_array_equal(order, source.epoch_order(1, 2))
    assert not np.array_equal(order, source.epoch_order(1, 3))
    # Mixed: every stretch has images of both large sources, and not at the same places in them.
    for start in range(0, 80, 20):
        assert 3 <= np.sum(order[start : start + 20] < 40) <= 17
    first, second = order[order < 40], order[(order >= 40) & (order < 80)] - 40
    assert not np.array_equal(first, second)


def test_targets_are_those_of_all_sources(tmp_path: Path) -> None:
    aged = [part(tmp_path / f"{i}.parquet", [0, 1], 0, age=float(i)) for i in range(2)]
    np.testing.assert_array_equal(ConcatSource(aged).targets("age"), [0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"2\.parquet has no column age"):
        ConcatSource([*aged, part(tmp_path / "2.parquet", [0], 0)]).targets("age")
