import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stochcon.sources import Failure, SourceImage, open_source, read_image
from tests.tiny_images import write_parquet


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def ids(path: Path, **options: str) -> list[str]:
    return [entry.id for entry in open_source(path, **options).walk()]


def failures(path: Path) -> dict[str, str]:
    return {entry.id: entry.reason for entry in open_source(path).walk() if isinstance(entry, Failure)}


def test_a_folder_gives_what_looks_like_an_image_by_its_path(tmp_path):
    make(tmp_path, "b.JPG", "sub/deep/a.png", "c.webp", "notes.txt", "archive.zip", "Makefile", "d.jpeg.part")
    assert ids(tmp_path) == ["b.JPG", "c.webp", "sub/deep/a.png"]
    assert open_source(tmp_path).count() == 3


def test_ids_come_in_the_order_of_their_bytes(tmp_path):
    names = [
        "a.jpg",
        "a/b.jpg",
        "a0.jpg",
        "a/b/c.jpg",
        "a.b/c.jpg",
        "B.jpg",
        "é.jpg",
        "z.jpg",
        "a-b/x.jpg",
        "\U0001f600.jpg",
    ]
    make(tmp_path, *names)
    assert ids(tmp_path) == sorted(names, key=str.encode)


def test_hidden_files_and_folders_are_left_out(tmp_path):
    make(tmp_path, "a.jpg", ".hidden.jpg", "._a.jpg", ".thumbnails/a.jpg")
    assert ids(tmp_path) == ["a.jpg"]


def test_an_image_has_an_absolute_uri_a_size_and_a_time(tmp_path, monkeypatch):
    make(tmp_path, "my photos/ä b.jpg")
    monkeypatch.chdir(tmp_path)
    (image,) = open_source(Path("my photos")).walk()
    path = tmp_path / "my photos" / "ä b.jpg"
    assert image.uri == path.resolve().as_uri() == f"file://{tmp_path.resolve()}/my%20photos/%C3%A4%20b.jpg"
    assert image.uri.startswith(open_source(Path("my photos")).uri_prefix)
    assert image.version == {"file_bytes": path.stat().st_size, "file_mtime_s": path.stat().st_mtime}
    assert read_image(image) == path.read_bytes()


def test_labels_are_the_first_sub_folder_only_when_asked_for(tmp_path):
    make(tmp_path, "top.jpg", "cats/a.jpg", "cats/kittens/b.jpg", "dogs/c.jpg")
    assert [image.label for image in open_source(tmp_path).walk()] == [None] * 4
    labels = {image.id: image.label for image in open_source(tmp_path, "folders").walk()}
    assert labels == {
        "top.jpg": None,
        "cats/a.jpg": "cats",
        "cats/kittens/b.jpg": "cats",
        "dogs/c.jpg": "dogs",
    }


def test_a_prefix_is_put_before_every_id(tmp_path):
    make(tmp_path, "a.jpg", "b/c.jpg")
    assert ids(tmp_path, prefix="2024/") == ["2024/a.jpg", "2024/b/c.jpg"]


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path):
    make(tmp_path, "real/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "folder.jpg").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "real" / "linked.jpg").symlink_to(tmp_path / "elsewhere" / "b.jpg")
    assert ids(tmp_path / "real") == ["a.jpg", "linked.jpg"]


def test_a_link_that_leads_nowhere_or_to_itself_is_a_failure(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    found = failures(tmp_path)
    assert found.keys() == {"gone.jpg", "self.jpg"}
    assert "No such file" in found["gone.jpg"]


def test_a_name_that_is_not_utf8_is_a_failure(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    ((id, reason),) = failures(tmp_path).items()
    assert "UTF-8" in reason
    assert id.isascii()


def test_a_device_or_a_pipe_named_like_an_image_is_a_failure_and_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert failures(tmp_path) == {"pipe.jpg": "not a regular file"}


def test_a_file_that_goes_between_walk_and_read_is_a_failure(tmp_path):
    make(tmp_path, "a.jpg")
    (image,) = open_source(tmp_path).walk()
    (tmp_path / "a.jpg").unlink()
    assert "No such file" in read_image(image).reason


def test_a_file_far_over_any_limit_is_not_read(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(2**40)
    (image,) = open_source(tmp_path).walk()
    assert "1099511627776 bytes" in read_image(image).reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_failure(tmp_path):
    make(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    assert failures(tmp_path) == {"closed": "the folder cannot be read: Permission denied"}


def test_a_single_file_is_a_source_whatever_its_name(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg", "scan")
    assert ids(tmp_path / "a.jpg") == ["a.jpg"]
    assert ids(tmp_path / "scan") == ["scan"]
    assert open_source(tmp_path / "a.jpg").count() == 1


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match="nothing does not exist"):
        open_source(tmp_path / "nothing")


def test_parquet_gives_its_rows_with_the_names_of_their_labels(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [b"one", b"two", None], [2, 0, 1])
    one, two, three = open_source(path).walk()
    assert (one.id, one.label, read_image(one)) == ("0.png", "blue", b"one")
    assert (two.id, two.label, read_image(two)) == ("1.png", "red", b"two")
    assert two.uri == f"{path.resolve().as_uri()}#row=1"
    assert two.uri.startswith(open_source(path).uri_prefix)
    assert three == Failure("2.png", "row 2 has no image.bytes")
    assert open_source(path).count() == 3


def test_parquet_rows_with_other_bytes_have_another_version(tmp_path):
    versions = []
    for data in (b"one", b"two", b"one"):
        (image,) = open_source(write_parquet(tmp_path / "a.parquet", [data])).walk()
        assert image.label is None
        versions.append(image.version)
    assert versions[0] == versions[2] != versions[1]


def test_parquet_rows_without_a_path_are_numbered(tmp_path):
    images = pa.array([{"bytes": b"a"}, {"bytes": b"b"}], pa.struct([("bytes", pa.binary())]))
    pq.write_table(pa.table({"image": images, "label": ["cat", None]}), tmp_path / "a.parquet")
    found = list(open_source(tmp_path / "a.parquet", prefix="x/").walk())
    assert [(image.id, image.label) for image in found] == [
        ("x/a.parquet/000000000", "cat"),
        ("x/a.parquet/000000001", None),
    ]


def test_label_numbers_without_names_stay_numbers(tmp_path):
    images = pa.array([{"bytes": b"a", "path": "a"}] * 2)
    table = pa.table({"image": images, "label": [7, 1]})
    for metadata in ({}, {"huggingface": "not json"}, {"huggingface": '{"info": {"features": []}}'}):
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
        assert [image.label for image in open_source(tmp_path / "a.parquet").walk()] == ["7", "1"]


def test_parquet_of_another_shape_is_told_with_its_columns(tmp_path):
    pq.write_table(pa.table({"picture": [b"a"], "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="picture, label"):
        open_source(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("no Parquet")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        open_source(tmp_path / "b.parquet")


def test_damage_within_parquet_is_a_failure_after_the_rows_before_it(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [{"bytes": os.urandom(1000), "path": f"{i}"} for i in range(512)]
    pq.write_table(pa.table({"image": pa.array(rows)}), path, row_group_size=256, compression="snappy")
    content = bytearray(path.read_bytes())
    middle = len(content) * 3 // 4
    content[middle : middle + 100_000] = bytes(100_000)
    path.write_bytes(content)
    entries = list(open_source(path).walk())
    assert isinstance(entries[0], SourceImage)
    assert isinstance(entries[-1], Failure)
