import os
import shutil
from pathlib import Path

import pytest

from stochcon.sources.opening import open_source
from stochcon.sources.source import Failure, SourceOptions, SourceUnavailable, read_image, walk


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def ids(path: Path, options: SourceOptions = SourceOptions()) -> list[str]:
    return [entry.id for entry in walk(open_source(path, options))]


def failures(path: Path) -> dict[str, str]:
    return {entry.id: entry.reason for entry in walk(open_source(path)) if isinstance(entry, Failure)}


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
    (image,) = walk(open_source(Path("my photos")))
    path = tmp_path / "my photos" / "ä b.jpg"
    assert image.uri == path.resolve().as_uri() == f"file://{tmp_path.resolve()}/my%20photos/%C3%A4%20b.jpg"
    assert image.uri.startswith(open_source(Path("my photos")).uri_prefix)
    assert image.version == {"file_bytes": path.stat().st_size, "file_mtime_s": path.stat().st_mtime}
    assert read_image(image) == path.read_bytes()


def test_labels_are_the_first_sub_folder_only_when_asked_for(tmp_path):
    make(tmp_path, "top.jpg", "cats/a.jpg", "cats/kittens/b.jpg", "dogs/c.jpg")
    assert [image.label for image in walk(open_source(tmp_path))] == [None] * 4
    source = open_source(tmp_path, SourceOptions(labels="folders"))
    labels = {image.id: image.label for image in walk(source)}
    assert labels == {
        "top.jpg": None,
        "cats/a.jpg": "cats",
        "cats/kittens/b.jpg": "cats",
        "dogs/c.jpg": "dogs",
    }


def test_a_prefix_is_put_before_every_id(tmp_path):
    make(tmp_path, "a.jpg", "b/c.jpg")
    assert ids(tmp_path, SourceOptions(prefix="2024/")) == ["2024/a.jpg", "2024/b/c.jpg"]


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
    (image,) = walk(open_source(tmp_path))
    (tmp_path / "a.jpg").unlink()
    assert "No such file" in read_image(image).reason


def test_a_file_far_over_any_limit_is_not_read(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(2**40)
    (image,) = walk(open_source(tmp_path))
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


def test_a_link_is_read_only_where_files_may_be_read(tmp_path):
    make(tmp_path, "photos/a.jpg", "secret.jpg")
    (tmp_path / "photos" / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "photos" / "c.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "photos" / "d.jpg").symlink_to(tmp_path / "missing.jpg")
    photos = (tmp_path / "photos").resolve()
    source = open_source(photos, admits=lambda path: path.resolve().is_relative_to(photos))
    found = {entry.id: entry for entry in walk(source)}
    assert read_image(found["b.jpg"]) == b"photos/a.jpg"
    # Of what lies outside not even whether it exists is told.
    assert found["c.jpg"].reason == found["d.jpg"].reason
    assert found["c.jpg"].reason == "the file lies outside of the folders that may be read"


def test_a_folder_whose_name_is_not_utf8_fails_its_images_by_a_printable_id(tmp_path):
    make(tmp_path, os.fsdecode(b"caf\xe9/a.jpg"))
    ((id, reason),) = failures(tmp_path).items()
    assert "UTF-8" in reason
    assert id.isascii()


def test_a_folder_that_goes_away_is_not_so_many_missing_files(tmp_path):
    make(tmp_path, "photos/a.jpg")
    source = open_source(tmp_path / "photos")
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(SourceUnavailable, match="no longer there"):
        list(source.images(["a.jpg"]))
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        list(source.scan())


def test_a_scan_goes_on_after_a_file_that_is_gone(tmp_path):
    make(tmp_path, "a.jpg", "b/c.jpg", "b/d.jpg", "e.jpg")
    source = open_source(tmp_path)
    (tmp_path / "b" / "c.jpg").unlink()
    assert [entry.id for entry in source.scan("b/c.jpg")] == ["b/d.jpg", "e.jpg"]
    shutil.rmtree(tmp_path / "b")
    assert [entry.id for entry in source.scan("b/c.jpg")] == ["e.jpg"]
