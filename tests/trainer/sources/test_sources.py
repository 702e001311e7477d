from pathlib import Path

import numpy as np
import pytest

from tests.tiny_images import make_png, write_parquet, write_tar
from trainer.sources import fingerprint, open_source


def test_several_sources_are_one_and_keep_labels_that_agree(tmp_path: Path, coloured: Path) -> None:
    both = open_source([coloured, coloured])
    assert len(both) == 96
    assert both.classes == ["red", "green", "blue"]
    assert both.label(49) == 1
    assert both.read(49) == make_png(1, 1)
    (tmp_path / "folder" / "red").mkdir(parents=True)
    (tmp_path / "folder" / "red" / "x.png").write_bytes(make_png(0, 7))
    mixed = open_source([coloured, tmp_path / "folder", coloured])
    assert len(mixed) == 97
    assert mixed.classes is None
    assert mixed.label(0) is None
    assert [mixed.read(i) for i in (47, 48, 49)] == [make_png(2, 47), make_png(0, 7), make_png(0, 0)]


def test_a_folder_of_shards_stands_for_them(tmp_path: Path) -> None:
    for i in (1, 0, 2):
        write_tar(tmp_path / f"{i}.tar", [("a.png", make_png(i, 0)), ("a.cls", b"%d" % i)])
    source = open_source([tmp_path])
    assert [source.read(i) for i in range(3)] == [make_png(i, 0) for i in range(3)]
    assert source.classes == ["0", "1", "2"]
    write_parquet(tmp_path / "3.parquet", [make_png(0, 3)])
    with pytest.raises(ValueError, match=r"holds \.tar as well as \.parquet shards"):
        open_source([tmp_path])
    # Those of ImageNet lie beside the folders that they were unpacked to.
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked" / "x.png").write_bytes(make_png(0, 4))
    assert len(open_source([tmp_path])) == 1


def test_parquet_files_are_shuffled_as_one_whether_in_a_folder_or_named(tmp_path: Path) -> None:
    paths = [write_parquet(tmp_path / f"{i}.parquet", [make_png(0, i)] * 20, [0] * 20) for i in range(3)]
    expected = np.random.default_rng([5, 6]).permutation(60)
    for named in (paths, [tmp_path]):
        np.testing.assert_array_equal(open_source(named).epoch_order(5, 6), expected)


def test_wrong_paths_are_named(tmp_path: Path) -> None:
    text = tmp_path / "list.txt"
    text.write_text("x")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 nothing of the kind")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, message in (
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "missing.tar", "does not exist"),
        (text, "neither a folder nor"),
        (broken, "cannot be read as Parquet"),
        (empty, r"holds no images.*\.tar"),
        (tmp_path / "x.tar.gz", "compressed, .* unpack it"),
        (tmp_path / "x.tgz", "compressed, .* unpack it"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            open_source([path])
        assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match="--images"):
        open_source([])


def test_a_fingerprint_tells_sources_apart(tmp_path: Path, coloured: Path) -> None:
    images = [make_png(i % 3, i) for i in range(48)]
    same = open_source([write_parquet(tmp_path / "renamed.parquet", images)])
    packed = open_source([write_tar(tmp_path / "x.tar", [(f"{i}.png", x) for i, x in enumerate(images)])])
    fewer = open_source([write_parquet(tmp_path / "fewer.parquet", images[:-1])])
    other = open_source([write_parquet(tmp_path / "other.parquet", [make_png(0, 99), *images[1:]])])
    expected = fingerprint(open_source([coloured]))
    assert fingerprint(same) == expected
    assert fingerprint(packed) == expected
    assert fingerprint(fewer) != expected
    assert fingerprint(other) != expected


def test_an_image_that_is_gone_changes_the_fingerprint(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(make_png(0, i))
    source = open_source([tmp_path])
    before = fingerprint(source)
    (tmp_path / "1.png").unlink()
    assert fingerprint(source) != before
