from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny_images import make_png, write_parquet
from trainer.sources import fingerprint, open_source


def fill_folder(root: Path) -> Path:
    for name, label in (("red/b.png", 0), ("red/a.PNG", 0), ("blue/deep/c.png", 2)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_png(label, 0))
    (root / "red" / "notes.txt").write_text("not an image")
    return root


def test_a_folder_gives_its_images_in_order_with_sub_folders_as_labels(tmp_path: Path) -> None:
    source = open_source([fill_folder(tmp_path)])
    assert [source.name(i) for i in range(len(source))] == ["blue/deep/c.png", "red/a.PNG", "red/b.png"]
    assert source.classes == ["blue", "red"]
    assert [source.label(i) for i in range(3)] == [0, 1, 1]
    assert source.read(0) == make_png(2, 0)


def test_a_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(make_png(0, 0))
    source = open_source([tmp_path])
    assert source.classes is None
    assert source.label(0) is None


def test_a_parquet_file_gives_bytes_labels_and_class_names(coloured: Path) -> None:
    source = open_source([coloured])
    assert len(source) == 48
    assert source.classes == ["red", "green", "blue"]
    assert [source.label(i) for i in range(4)] == [0, 1, 2, 0]
    assert source.read(4) == make_png(1, 4)


def test_an_unlabelled_parquet_file_is_read(tmp_path: Path) -> None:
    source = open_source([write_parquet(tmp_path / "plain.parquet", [make_png(0, 0), None])])
    assert source.classes is None
    assert source.read(1) == b""


def test_several_sources_are_one_and_keep_labels_that_agree(tmp_path: Path, coloured: Path) -> None:
    both = open_source([coloured, coloured])
    assert len(both) == 96
    assert both.classes == ["red", "green", "blue"]
    assert both.label(49) == 1
    assert both.read(49) == make_png(1, 1)
    mixed = open_source([coloured, fill_folder(tmp_path / "folder")])
    assert len(mixed) == 51
    assert mixed.classes is None
    assert mixed.label(0) is None


def test_wrong_paths_are_named(tmp_path: Path) -> None:
    text = tmp_path / "list.txt"
    text.write_text("x")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 nothing of the kind")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, message in (
        (tmp_path / "missing", "does not exist"),
        (text, "neither a folder nor"),
        (broken, "cannot be read as Parquet"),
        (empty, "holds no images"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            open_source([path])
        assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match="--images"):
        open_source([])


def test_a_parquet_file_of_several_row_groups_is_read_across_them(tmp_path: Path) -> None:
    images = [make_png(0, i) for i in range(6)]
    path = write_parquet(tmp_path / "x.parquet", images, [0, 1, 2, 0, 1, 2])
    pq.write_table(pq.read_table(path), path, row_group_size=4)
    assert pq.read_table(path).column("image").num_chunks > 1
    source = open_source([path])
    assert [source.read(i) for i in range(6)] == images
    assert [source.label(i) for i in range(6)] == [0, 1, 2, 0, 1, 2]


def test_a_parquet_file_without_images_says_what_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "urls.parquet")
    with pytest.raises(ValueError, match="its columns are url"):
        open_source([tmp_path / "urls.parquet"])


def test_parquet_columns_of_other_types_are_told(tmp_path: Path) -> None:
    image = pa.array([{"bytes": b"x", "path": "x"}])
    for name, table, message in (
        ("paths", pa.table({"image": pa.array([{"path": "x"}])}), r"no column image\{bytes,path\}"),
        ("text", pa.table({"image": image, "label": pa.array(["cat"])}), "labels of type string"),
        ("empty", pa.table({"image": image}).slice(0, 0), "has no rows"),
    ):
        pq.write_table(table, tmp_path / f"{name}.parquet")
        with pytest.raises(ValueError, match=message):
            open_source([tmp_path / f"{name}.parquet"])


def test_labels_without_a_name_are_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [make_png(0, 0)], [3])
    with pytest.raises(ValueError, match="names 3 classes, and its largest label is 3"):
        open_source([path])


def test_a_fingerprint_tells_sources_apart(tmp_path: Path, coloured: Path) -> None:
    images = [make_png(i % 3, i) for i in range(48)]
    same = open_source([write_parquet(tmp_path / "renamed.parquet", images)])
    fewer = open_source([write_parquet(tmp_path / "fewer.parquet", images[:-1])])
    other = open_source([write_parquet(tmp_path / "other.parquet", [make_png(0, 99), *images[1:]])])
    expected = fingerprint(open_source([coloured]))
    assert fingerprint(same) == expected
    assert fingerprint(fewer) != expected
    assert fingerprint(other) != expected
