import os
from pathlib import Path

import pytest

from stochcon.sources.opening import open_source
from stochcon.sources.source import (
    Failure,
    SourceImage,
    SourceOptions,
    SourceUnavailable,
    read_image,
    walk,
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a list beside it."""
    for name in ("a.jpg", "sub/b.png", "no suffix", "# c.jpg", " d.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "photos"


def write_list(folder: Path, *lines: str | bytes, end: bytes = b"\n") -> Path:
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    path = folder / "list.txt"
    path.write_bytes(end.join(encoded))
    return path


def entries(path: Path, **options: object) -> list[SourceImage | Failure]:
    return list(walk(open_source(path, **options)))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_each_line_is_a_path_beside_the_list_or_from_the_root(tmp_path, photos, end):
    path = write_list(photos, "a.jpg", "./sub/b.png", f"{photos}/a.jpg", "../photos/no suffix", end=end)
    images = entries(path)
    assert [image.id for image in images] == [
        "a.jpg", "sub/b.png", f"{photos}/a.jpg".lstrip("/"), "../photos/no suffix",
    ]  # fmt: skip
    assert [read_image(image) for image in images] == [b"a.jpg", b"sub/b.png", b"a.jpg", b"no suffix"]
    assert [image.uri for image in images] == [
        (photos.resolve() / name).as_uri() for name in ("a.jpg", "sub/b.png", "a.jpg", "no suffix")
    ]


def test_blank_lines_and_comments_are_left_out(photos):
    path = write_list(photos, "# my photos", "", "  ", "./# c.jpg", " d.jpg", "", "a.jpg", "")
    assert [(image.id, read_image(image)) for image in entries(path)] == [
        ("# c.jpg", b"# c.jpg"),
        (" d.jpg", b" d.jpg"),
        ("a.jpg", b"a.jpg"),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_path(photos):
    path = write_list(photos, b"\xef\xbb\xbfa.jpg", "sub/b.png")
    assert [image.id for image in entries(path)] == ["a.jpg", "sub/b.png"]
    source = open_source(path)
    (first, second) = source.scan()
    assert list(source.scan(first.place)) == [second]


def test_a_path_may_lead_out_of_the_lists_folder_only_where_files_may_be_read(tmp_path, photos):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (photos / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    names = ["../secret.jpg", "../missing.jpg", "link.jpg", f"{tmp_path}/secret.jpg", "sub/../a.jpg"]
    path = write_list(photos, *names)
    *outside, inside = entries(path, admits=lambda p: p.is_relative_to(photos.resolve()))
    # Of what lies outside not even whether it exists is told.
    assert {entry.reason for entry in outside} == {"the file lies outside of the folders that may be read"}
    assert read_image(inside) == b"a.jpg"


def test_a_file_that_is_not_there_or_is_none_is_a_failure(photos):
    os.mkfifo(photos / "pipe.jpg")
    (photos / "self.jpg").symlink_to(photos / "self.jpg")
    found = {e.id: e for e in entries(write_list(photos, "gone.jpg", "pipe.jpg", "sub", "self.jpg", "a.jpg"))}
    assert "No such file" in found["gone.jpg"].reason
    assert found["gone.jpg"].place == ["gone.jpg", 0]
    assert found["pipe.jpg"].reason == found["sub"].reason == "not a regular file"
    assert "symbolic links" in found["self.jpg"].reason
    assert read_image(found["a.jpg"]) == b"a.jpg"


def test_a_line_that_is_not_utf8_or_is_no_path_is_a_failure(photos):
    path = write_list(photos, b"caf\xe9.jpg", "a.jpg", "x" * 10_000, "sub/b.png", "y" * 300, "z" * 20_000)
    found = entries(path)
    reasons = {entry.id[:4]: entry.reason for entry in found if isinstance(entry, Failure)}
    assert reasons["b'ca"] == "the line at byte 0 is not UTF-8: save the list as UTF-8"
    assert reasons["xxxx"] == "the line at byte 15 is no path: give the path of one file"
    assert "name too long" in reasons["yyyy"]
    assert "is no path" in reasons["zzzz"]
    assert [entry.id for entry in found if not isinstance(entry, Failure)] == ["a.jpg", "sub/b.png"]


def test_files_have_sizes_times_and_labels(photos):
    path = write_list(photos, "sub/b.png")
    (image,) = entries(path, options=SourceOptions(prefix="p/", labels="folders"))
    facts = (photos / "sub/b.png").stat()
    assert (image.id, image.label) == ("p/sub/b.png", "sub")
    assert image.version == {"file_bytes": facts.st_size, "file_mtime_s": facts.st_mtime}


def test_another_list_has_another_version(photos):
    before = open_source(write_list(photos, "a.jpg")).version
    assert open_source(photos / "list.txt").version == before
    assert open_source(write_list(photos, "a.jpg", "sub/b.png")).version != before


@pytest.mark.parametrize(
    "content", [b"\xff\xd8\xff\xe0\x00\x10JFIF", "a.jpg\n".encode("utf-16")], ids=["image", "UTF-16"]
)
def test_what_is_no_utf8_text_is_refused(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(SourceUnavailable, match=r"a\.txt is not a list of paths: give a text in UTF-8"):
        open_source(tmp_path / "a.txt")


def test_a_nul_far_down_the_list_is_a_failure(photos):
    path = write_list(photos, *["a.jpg"] * 20_000, b"b\0.jpg", "sub/b.png")
    source = open_source(path)
    failures = [entry for entry in source.scan() if isinstance(entry, Failure)]
    assert [failure.id for failure in failures] == ["b\0.jpg"]
    assert source.count() == 20_002


def test_a_list_that_goes_away_is_not_so_many_missing_files(photos):
    source = open_source(write_list(photos, "a.jpg"))
    places = [entry.place for entry in source.scan()]
    (photos / "a.jpg").unlink()
    (photos / "list.txt").unlink()
    with pytest.raises(SourceUnavailable, match="No such file"):
        list(source.images(places))
