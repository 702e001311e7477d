import datetime
import decimal
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from index.items import is_metadata_value
from stochcon.sources.opening import open_source
from stochcon.sources.source import (
    Failure,
    SourceImage,
    SourceOptions,
    SourceUnavailable,
    read_image,
    walk,
)
from tests.tiny_images import write_parquet

BERLIN = datetime.timezone(datetime.timedelta(hours=2))


def entries(path: Path, **options: object) -> list[SourceImage | Failure]:
    return list(walk(open_source(path, SourceOptions(**options))))


def write(path: Path, columns: dict[str, object], metadata: dict[str, str] | None = None) -> Path:
    """Rows with these columns, beside an image each."""
    num_rows = len(next(iter(columns.values())))
    images = pa.array([{"bytes": b"%d" % i, "path": f"{i}.png"} for i in range(num_rows)])
    pq.write_table(pa.table({"image": images, **columns}).replace_schema_metadata(metadata), path)
    return path


def test_rows_come_with_the_names_of_their_labels(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [b"one", b"two", None], [2, 0, 1])
    one, two, three = entries(path)
    assert (one.id, one.label, read_image(one)) == ("0.png", "blue", b"one")
    assert (two.id, two.label, read_image(two)) == ("1.png", "red", b"two")
    assert two.uri == f"{path.resolve().as_uri()}#row=1"
    assert two.uri.startswith(open_source(path).uri_prefix)
    assert three == Failure("2.png", "row 2 has no image.bytes", 2)
    assert open_source(path).count() == 3


def test_rows_with_other_bytes_have_another_version(tmp_path):
    versions = []
    for data in (b"one", b"two", b"one"):
        (image,) = entries(write_parquet(tmp_path / "a.parquet", [data]))
        assert image.label is None
        versions.append(image.version)
    assert versions[0] == versions[2] != versions[1]


def test_rows_without_a_path_are_numbered(tmp_path):
    for kind in (
        pa.struct([("bytes", pa.binary())]),
        pa.struct([("bytes", pa.binary()), ("path", pa.int8())]),
    ):
        images = pa.array([{"bytes": b"a"}, {"bytes": b"b"}], kind)
        pq.write_table(pa.table({"image": images, "label": ["cat", None]}), tmp_path / "a.parquet")
        found = entries(tmp_path / "a.parquet", prefix="x/")
        assert [(image.id, image.label) for image in found] == [
            ("x/a.parquet/000000000", "cat"),
            ("x/a.parquet/000000001", None),
        ]


def test_rows_that_are_null_are_failures(tmp_path):
    images = pa.array(
        [None, {"bytes": b"b", "path": None}], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    null, unnamed = entries(tmp_path / "a.parquet")
    assert null == Failure("a.parquet/000000000", "row 0 has no image.bytes", 0)
    assert (unnamed.id, read_image(unnamed)) == ("a.parquet/000000001", b"b")


def test_label_numbers_without_names_stay_numbers(tmp_path):
    for metadata in ({}, {"huggingface": "not json"}, {"huggingface": '{"info": {"features": []}}'}):
        path = write(tmp_path / "a.parquet", {"label": [7, 1]}, metadata)
        assert [image.label for image in entries(path)] == ["7", "1"]


def test_a_column_of_another_name_has_labels_of_its_own_names(tmp_path):
    features = {"label": {"names": ["no", "never"]}, "fine": {"names": ["wolf", "bear"]}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    columns = {"label": [0, 0, 0, 0], "fine": [1, 0, None, 2], "text": ["x", None, "z", "é"]}
    path = write(tmp_path / "a.parquet", columns, metadata)
    assert [image.label for image in entries(path, label_column="fine")] == ["bear", "wolf", None, "2"]
    assert [image.label for image in entries(path, label_column="text")] == ["x", None, "z", "é"]


def test_a_label_column_that_is_not_there_or_holds_none_is_told(tmp_path):
    path = write(tmp_path / "a.parquet", {"boxes": [[1], [2]], "text": ["x", "y"]})
    with pytest.raises(SourceUnavailable, match=r"no column 'species', .*its columns are image, boxes, text"):
        open_source(path, SourceOptions(label_column="species"))
    with pytest.raises(SourceUnavailable, match=r"'boxes' of .* is list.*name one of strings or integers"):
        open_source(path, SourceOptions(label_column="boxes"))


def test_a_default_label_column_that_holds_no_labels_is_left_alone(tmp_path):
    path = write(tmp_path / "a.parquet", {"label": [[1], [2]]})
    assert [image.label for image in entries(path)] == [None, None]


def test_folders_of_paths_are_labels_where_there_are_no_others(tmp_path):
    images = pa.array([{"bytes": b"a", "path": "cats/a.jpg"}, {"bytes": b"b", "path": "b.jpg"}])
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    assert [image.label for image in entries(tmp_path / "a.parquet", labels="folders")] == ["cats", None]


def test_columns_become_metadata(tmp_path):
    moment = datetime.datetime(2024, 2, 29, 23, 59, 58, 123456)
    columns = {
        "text": (pa.array(["x", None]), "x"),
        "flag": (pa.array([True, None]), True),
        "int": (pa.array([-5, None], pa.int16()), -5),
        "real": (pa.array([0.5, float("nan")], pa.float32()), 0.5),
        "half": (pa.array([0.5, float("inf")], pa.float16()), 0.5),
        "decimal": (pa.array([decimal.Decimal("1.25"), None]), 1.25),
        "date": (pa.array([datetime.date(2024, 2, 29), None]), "2024-02-29"),
        "time": (pa.array([datetime.time(1, 2, 3), None], pa.time32("s")), "01:02:03.000"),
        "stamp": (pa.array([moment, None]), "2024-02-29T23:59:58.123456"),
        "nanos": (
            pa.array([1_700_000_000_000_000_001, None], pa.timestamp("ns")),
            "2023-11-14T22:13:20.000000001",
        ),
        "utc": (pa.array([moment, None], pa.timestamp("s", "UTC"), safe=False), "2024-02-29T23:59:58.000Z"),
        "tags": (pa.array([["a", "b"], None]), ["a", "b"]),
        "word": (pa.array(["x y", None]).dictionary_encode(), "x y"),
        "nothing": (pa.nulls(2), None),
    }
    path = write(tmp_path / "a.parquet", {name: column for name, (column, _) in columns.items()})
    first, second = entries(path, metadata_columns=tuple(columns))
    assert first.metadata == {name: value for name, (_, value) in columns.items()}
    assert second.metadata == dict.fromkeys(columns)
    assert all(is_metadata_value(value) for value in first.metadata.values())


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("image", "metadata cannot hold"),
        ("boxes", r"'boxes' of .* is list<element: int64>, which metadata cannot hold: name one of strings"),
        ("raw", "is binary"),
        ("my column", r"'my column' of .* cannot be metadata: rename it"),
        ("year", r"no column 'year', .*its columns are image, boxes, raw, my column"),
    ],
)
def test_columns_that_metadata_cannot_hold_are_refused_at_opening(tmp_path, column, reason):
    path = write(tmp_path / "a.parquet", {"boxes": [[1]], "raw": [b"x"], "my column": [1]})
    with pytest.raises(SourceUnavailable, match=reason):
        open_source(path, SourceOptions(metadata_columns=("boxes",) if column == "boxes" else (column,)))


def test_a_column_may_be_both_label_and_metadata(tmp_path):
    path = write(tmp_path / "a.parquet", {"label": ["cat"]})
    (image,) = entries(path, metadata_columns=("label", "label"))
    assert (image.label, image.metadata) == ("cat", {"label": "cat"})


@pytest.mark.parametrize("kind", [pa.string(), pa.list_(pa.uint8())])
def test_a_file_of_another_shape_is_told_with_its_columns(tmp_path, kind):
    pq.write_table(pa.table({"picture": [b"a"], "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(SourceUnavailable, match=r"its columns are picture \(binary\), label \(int64\)"):
        open_source(tmp_path / "a.parquet")
    images = pa.array([{"bytes": None}], pa.struct([("bytes", kind)]))
    pq.write_table(pa.table({"image": images}), tmp_path / "b.parquet")
    with pytest.raises(SourceUnavailable, match=r"no column image\{bytes,path\} with bytes that are binary"):
        open_source(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_text("no Parquet")
    with pytest.raises(SourceUnavailable, match="cannot be read as Parquet"):
        open_source(tmp_path / "c.parquet")


def test_without_pyarrow_the_command_that_installs_it_is_told(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [b"a"])
    # In a process of its own, where it can be hidden.
    code = (
        "import sys\n"
        "sys.modules['pyarrow'] = None\n"
        "from stochcon.sources.opening import open_source\n"
        "try: open_source(sys.argv[1])\n"
        "except Exception as exc: print(type(exc).__name__, exc)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("SourceUnavailable")
    assert "pip install pyarrow" in done.stdout


@pytest.mark.parametrize("kind", [pa.large_binary(), pa.binary_view()])
def test_other_types_of_bytes_are_read(tmp_path, kind):
    images = pa.array(
        [{"bytes": b"x", "path": "a"}], pa.struct([("bytes", kind), ("path", pa.large_string())])
    )
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    (image,) = entries(tmp_path / "a.parquet")
    assert (image.id, read_image(image)) == ("a", b"x")


def write_groups(path: Path, num_rows: int, group_rows: int, damaged: tuple[int, ...] = ()) -> list[bytes]:
    """Row groups of random bytes, and noise in the middle of the damaged ones; returns what was written."""
    data = [os.urandom(1000) for _ in range(num_rows)]
    images = pa.array([{"bytes": data[i], "path": f"{i}"} for i in range(num_rows)])
    pq.write_table(
        pa.table({"image": images}),
        path,
        row_group_size=group_rows,
        write_page_checksum=True,
        compression="none",
    )
    content = bytearray(path.read_bytes())
    for group in damaged:
        content[content.index(data[group * group_rows + group_rows // 2]) + 500] ^= 1
    path.write_bytes(content)
    return data


def test_damage_of_a_row_group_fails_its_rows_and_leaves_the_others(tmp_path):
    data = write_groups(tmp_path / "a.parquet", 500, 100, damaged=(1, 3))
    found = entries(tmp_path / "a.parquet")
    assert [entry.place for entry in found] == list(range(500))
    failed = {entry.place for entry in found if isinstance(entry, Failure)}
    assert failed == {*range(100, 200), *range(300, 400)}
    assert all("cannot be read" in entry.reason for entry in found if isinstance(entry, Failure))
    assert all(read_image(entry) == data[entry.place] for entry in found if isinstance(entry, SourceImage))


def test_text_that_is_not_utf8_fails_its_row_alone(tmp_path):
    paths = pa.array([b"a.jpg", b"caf\xe9.jpg", b"c.jpg"]).view(pa.string())
    images = pa.StructArray.from_arrays([pa.array([b"a", b"b", b"c"]), paths], ["bytes", "path"])
    pq.write_table(pa.table({"image": images}), tmp_path / "x.parquet")
    first, failure, last = entries(tmp_path / "x.parquet")
    assert (first.id, last.id) == ("a.jpg", "c.jpg")
    assert (failure.id, failure.place) == ("x.parquet/000000001", 1)
    assert "decode" in failure.reason


def test_places_far_apart_are_read_without_what_lies_between(tmp_path):
    data = write_groups(tmp_path / "a.parquet", 400, 50, damaged=(2, 3))
    source = open_source(tmp_path / "a.parquet")
    places = [3, 49, 50, 99, 250, 251, 399]
    images = list(source.images(places))
    assert [(image.place, read_image(image)) for image in images] == [(i, data[i]) for i in places]


def test_a_row_group_is_not_read_as_a_whole(tmp_path):
    write_groups(tmp_path / "a.parquet", 30_000, 30_000)
    source = open_source(tmp_path / "a.parquet")
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    images = source.images(range(30_000))
    for _ in range(200):
        next(images)
    assert pa.total_allocated_bytes() - before < 10 * 2**20
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
