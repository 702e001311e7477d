import io
import os
import random
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from stochcon.sources.opening import open_source
from stochcon.sources.source import (
    Failure,
    Found,
    SourceImage,
    SourceOptions,
    SourceUnavailable,
    read_image,
    walk,
)


def write_zip(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def entries(path: Path) -> list[SourceImage | Failure]:
    return list(walk(open_source(path)))


def failures(path: Path) -> dict[str, str]:
    return {entry.id: entry.reason for entry in entries(path) if isinstance(entry, Failure)}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_as_they_were_packed(tmp_path, method):
    files = {f"x/{i} ä.jpg": os.urandom(1000 * i) for i in range(5)}
    path = write_zip(tmp_path / "a.zip", *files.items(), method=method)
    images = entries(path)
    assert {image.id: read_image(image) for image in images} == files
    assert images[1].uri == f"{path.resolve().as_uri()}#member=x/1%20%C3%A4.jpg"
    data = files["x/1 ä.jpg"]
    assert images[1].version == {"file_bytes": 1000, "file_crc32": f"{zlib.crc32(data):08x}"}


def test_hidden_members_folders_and_what_is_no_image_by_its_name_are_left_out(tmp_path):
    names = ["a.jpg", "__MACOSX/._a.jpg", ".x/b.jpg", "notes.txt", "folder.jpg/", "x/b.JPEG", "c"]
    path = write_zip(tmp_path / "a.zip", *((name, b"x" * bool(name[-1] != "/")) for name in names))
    assert [entry.id for entry in entries(path)] == ["a.jpg", "x/b.JPEG"]


def test_a_member_without_a_name_is_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"x")
    assert entries(tmp_path / "a.zip") == []


def test_names_that_lead_elsewhere_are_only_names(tmp_path):
    path = write_zip(
        tmp_path / "a.zip", ("../../up.jpg", b"up"), ("/etc/root.jpg", b"root"), ("./c.jpg", b"c")
    )
    options = SourceOptions(labels="folders")
    assert [(image.id, image.label) for image in walk(open_source(path, options))] == [
        ("../../up.jpg", ".."),
        ("/etc/root.jpg", None),
        ("c.jpg", None),
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_links_are_failures(tmp_path):
    link = zipfile.ZipInfo("link.jpg")
    link.create_system = 3
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "a.jpg")
        archive.writestr("a.jpg", b"x")
    assert "link" in failures(tmp_path / "a.zip")["link.jpg"]
    assert len(entries(tmp_path / "a.zip")) == 2


def test_an_encrypted_member_is_a_failure_and_the_others_are_read(tmp_path):
    path = write_zip(tmp_path / "a.zip", ("a.jpg", b"a"), ("b.jpg", b"b"))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1  # its general purpose flags
    path.write_bytes(content)
    assert failures(path) == {"a.jpg": "the member is encrypted: pack it without a password"}
    assert read_image(entries(path)[1]) == b"b"


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")])
def test_a_member_compressed_by_what_could_expand_without_bound_is_a_failure(tmp_path, method, name):
    path = write_zip(tmp_path / "a.zip", ("a.jpg", b"a"), method=method)
    assert failures(path) == {"a.jpg": f"the member is compressed by {name}: pack it with deflate"}


def test_a_member_that_expands_to_far_more_than_any_image_is_not_read(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.jpg", "w") as file:
        for _ in range(140):
            file.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    (image,) = entries(path)
    assert f"{140 * 2**20} bytes" in read_image(image).reason
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_member_that_expands_to_more_than_it_says_takes_no_more_memory(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(64 * 2**20))
    content = path.read_bytes().replace(struct.pack("<I", 64 * 2**20), struct.pack("<I", 1000))
    path.write_bytes(content)
    (image,) = entries(path)
    assert image.num_bytes == 1000
    tracemalloc.start()
    assert "Bad CRC" in read_image(image).reason
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_a_damaged_member_is_a_failure_and_its_neighbours_are_read(tmp_path):
    files = [(f"{i}.jpg", os.urandom(1000)) for i in range(3)]
    path = write_zip(tmp_path / "a.zip", *files, method=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(files[1][1]) + 500] ^= 1
    path.write_bytes(content)
    read = [read_image(image) for image in entries(path)]
    assert read[0] == files[0][1]
    assert "Bad CRC" in read[1].reason
    assert read[1].place == 1
    assert read[2] == files[2][1]


def test_damage_anywhere_neither_raises_nor_reads_anything_false(tmp_path):
    files = {f"x/{i}.jpg": os.urandom(300) + bytes(300) for i in range(5)}
    content = write_zip(tmp_path / "whole.zip", *files.items()).read_bytes()
    path = tmp_path / "a.zip"
    rng = random.Random(0)
    opened = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 2, 16])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            source = open_source(path)
        except SourceUnavailable:
            continue
        opened += 1
        found = [entry for entry in source.scan() if isinstance(entry, Found)]
        for image in source.images(entry.place for entry in found):
            data = read_image(image)
            assert isinstance(data, Failure) or data in files.values()
    assert opened > 50


def test_members_of_one_name_all_come_in_their_order(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"old")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.jpg", b"new")
    images = entries(tmp_path / "a.zip")
    assert [(image.id, read_image(image)) for image in images] == [("a.jpg", b"old"), ("a.jpg", b"new")]


def test_an_archive_behind_something_else_is_read(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.jpg", b"a")
    (tmp_path / "a.zip").write_bytes(b"#!/bin/sh\n" + packed.getvalue())
    assert [read_image(image) for image in entries(tmp_path / "a.zip")] == [b"a"]


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 an image" * 100, b"PK\x03\x04" + bytes(100)])
def test_what_is_no_zip_file_or_cut_short_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceUnavailable, match=r"a\.zip cannot be read as a zip file"):
        open_source(tmp_path / "a.zip")


def test_another_archive_has_another_version(tmp_path):
    path = write_zip(tmp_path / "a.zip", ("a.jpg", b"a"))
    before = open_source(path).version
    assert open_source(path).version == before
    write_zip(path, ("a.jpg", b"a"), ("b.jpg", b"b"))
    assert open_source(path).version != before
