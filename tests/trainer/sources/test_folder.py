from pathlib import Path

import numpy as np
import pytest

from tests.tiny_images import make_png
from trainer.sources import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for name, label in (("red/b.png", 0), ("red/a.PNG", 0), ("blue/deep/c.png", 2)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_png(label, 0))
    (root / "red" / "notes.txt").write_text("not an image")
    return root


def test_a_folder_gives_its_images_in_order_with_sub_folders_as_labels(folder: Path) -> None:
    source = open_source([folder])
    assert [source.name(i) for i in range(len(source))] == ["blue/deep/c.png", "red/a.PNG", "red/b.png"]
    assert source.classes == ["blue", "red"]
    assert [source.label(i) for i in range(3)] == [0, 1, 1]
    assert source.read(0) == make_png(2, 0)


def test_a_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(make_png(0, 0))
    source = open_source([tmp_path])
    assert source.classes is None
    assert source.label(0) is None


def test_an_epochs_order_is_a_plain_permutation(folder: Path) -> None:
    expected = np.random.default_rng([3, 4]).permutation(3)
    np.testing.assert_array_equal(open_source([folder]).epoch_order(3, 4), expected)


def test_targets_are_columns_of_metadata_csv(folder: Path) -> None:
    (folder / "metadata.csv").write_text(
        "\ufefffile_name,age,note\nred/b.png,3.5,old\nblue/deep/c.png, -1e3 ,\nred/gone.png,9,\nred/a.PNG,,\n"
    )
    source = open_source([folder])
    np.testing.assert_array_equal(source.targets("age"), [-1000.0, np.nan, 3.5])
    with pytest.raises(ValueError, match=r"has no column size .*: it has file_name, age, note"):
        source.targets("size")
    with pytest.raises(ValueError, match="line 2: note is the text 'old'"):
        source.targets("note")


def test_wrong_tables_are_told(folder: Path) -> None:
    source = open_source([folder])
    with pytest.raises(ValueError, match=r"metadata\.csv does not exist"):
        source.targets("age")
    for text, message in (
        ("name,age\nred/b.png,1\n", "has no column file_name .*: it has name, age"),
        ("", "has no column file_name .*: it has none"),
        ("file_name,age\nb.png,1\n", "names none of the images"),
    ):
        (folder / "metadata.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            source.targets("age")
    (folder / "metadata.csv").write_bytes(b"file_name,age\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        source.targets("age")
