import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import shutil
import subprocess
import tarfile
import tracemalloc
from itertools import islice
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
from tests.tiny_images import write_tar


def entries(path: Path) -> list[SourceImage | Failure]:
    return list(walk(open_source(path)))


def ids(path: Path) -> list[str]:
    return [entry.id for entry in entries(path)]


def failures(path: Path) -> dict[str, str]:
    return {entry.id: entry.reason for entry in entries(path) if isinstance(entry, Failure)}


def write_members(path: Path, *members: tuple[tarfile.TarInfo, bytes], **options: int) -> Path:
    with tarfile.open(path, "w", **options) as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def member(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize("format", ["gnu", "pax", "ustar", "v7", "oldgnu"])
def test_what_gnu_tar_packs_is_read_as_it_was(tmp_path, format):
    files = {f"{'deep/' * 15}{i}.jpg": os.urandom(400 * i) for i in range(5)}
    if format in ("gnu", "pax", "oldgnu"):  # The others have no room for it.
        files["ü" * 120 + ".jpg"] = b"a long name"
    for name, data in files.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    archive = tmp_path / "photos.tar"
    command = ["tar", "-C", tmp_path / "photos", f"--format={format}", "-cf", archive, "."]
    subprocess.run(command, check=True)
    images = entries(archive)
    assert {image.id: read_image(image) for image in images} == files
    assert {image.version["file_mtime_s"] for image in images} == {1_600_000_000}


def test_an_image_has_the_uri_of_its_archive_and_its_name_percent_encoded(tmp_path):
    path = write_tar(tmp_path / "my photos.tar", [("./cats/a#1 ä.jpg", b"x")])
    (image,) = entries(path)
    assert image.id == "cats/a#1 ä.jpg"
    assert image.uri == f"file://{tmp_path.resolve()}/my%20photos.tar#member=cats/a%231%20%C3%A4.jpg"


def test_hidden_members_and_what_is_no_image_by_its_name_are_left_out(tmp_path):
    names = ["a.jpg", "._a.jpg", "x/.hidden/b.jpg", "notes.txt", "c", "x/b.JPEG", "./.c.png"]
    path = write_tar(tmp_path / "a.tar", [(name, b"x") for name in names])
    assert ids(path) == ["a.jpg", "x/b.JPEG"]


def test_names_that_lead_elsewhere_are_only_names(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("../../up.jpg", b"up"), ("/etc/root.jpg", b"root")])
    options = SourceOptions(labels="folders")
    assert [(i.id, i.label, read_image(i)) for i in walk(open_source(path, options))] == [
        ("../../up.jpg", "..", b"up"),
        ("/etc/root.jpg", None, b"root"),
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


def test_links_devices_and_sparse_files_named_like_images_are_failures(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"image")
    (tmp_path / "b.jpg").hardlink_to(tmp_path / "a.jpg")
    (tmp_path / "c.jpg").symlink_to("a.jpg")
    os.mkfifo(tmp_path / "d.jpg")
    (tmp_path / "e.jpg").mkdir()
    with (tmp_path / "f.jpg").open("wb") as file:
        file.truncate(2**20)
        file.seek(0, os.SEEK_END)
        file.write(b"end")
    for options in (["--format=gnu"], ["--format=pax"]):
        names = [f"{letter}.jpg" for letter in "abcdef"]
        subprocess.run(["tar", "-C", tmp_path, *options, "-S", "-cf", tmp_path / "x.tar", *names], check=True)
        found = failures(tmp_path / "x.tar")
        assert found.keys() == {"b.jpg", "c.jpg", "d.jpg", "f.jpg"}
        assert "link" in found["b.jpg"]
        assert "link" in found["c.jpg"]
        assert found["d.jpg"] == "not a regular file"
        assert "sparse" in found["f.jpg"]
        assert ids(tmp_path / "x.tar")[0] == "a.jpg"


def test_a_name_that_is_not_utf8_is_a_failure(tmp_path):
    path = write_members(
        tmp_path / "a.tar",
        (member(os.fsdecode(b"caf\xe9.jpg")), b"x"),
        (member("b.jpg"), b"y"),
        format=tarfile.GNU_FORMAT,
    )
    ((id, reason),) = failures(path).items()
    assert "UTF-8" in reason
    assert id.isascii()
    assert ids(path)[-1] == "b.jpg"


def test_other_bytes_are_another_version_even_of_the_same_size_and_time(tmp_path):
    versions = []
    for data in (b"one", b"two", b"one"):
        (image,) = entries(write_tar(tmp_path / "a.tar", [("a.jpg", data)]))
        versions.append(image.version)
    assert versions[0] == versions[2] != versions[1]
    assert versions[1]["file_blake2"] == hashlib.blake2b(b"two", digest_size=8).hexdigest()


def test_members_of_one_name_all_come_in_their_order(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"old"), ("b.jpg", b"x"), ("a.jpg", b"new")])
    images = entries(path)
    assert [(image.id, read_image(image)) for image in images] == [
        ("a.jpg", b"old"), ("b.jpg", b"x"), ("a.jpg", b"new"),
    ]  # fmt: skip
    assert images[0].place != images[2].place


def test_an_archive_that_was_added_to_has_another_version_and_keeps_its_places(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"a"), ("b.jpg", b"b")])
    before = open_source(path)
    places = [entry.place for entry in before.scan()]
    with tarfile.open(path, "a") as archive:
        archive.addfile(member("c.jpg"))
    after = open_source(path)
    assert after.version != before.version
    assert [entry.id for entry in after.scan(places[-1])] == ["c.jpg"]


@pytest.mark.parametrize("cut", [512 + 100, 512, 2 * 512, 4 * 512 + 1])
def test_an_archive_that_is_cut_short_is_a_failure_after_what_is_whole(tmp_path, cut):
    names = ["a.jpg", "b.jpg", "c.jpg"]
    path = write_tar(tmp_path / "a.tar", [(name, b"x" * 500) for name in names])
    path.write_bytes(path.read_bytes()[:cut])
    *whole, last = entries(path)
    assert [image.id for image in whole] == names[: cut // 1024]
    assert last.id == "a.tar"
    assert "cut short" in last.reason
    assert last.place is None


def test_a_damaged_header_is_a_failure_after_the_members_before_it(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"{i}.jpg", b"x" * 500) for i in range(4)])
    content = bytearray(path.read_bytes())
    content[2 * 1024 : 2 * 1024 + 100] = os.urandom(100)
    path.write_bytes(content)
    assert ids(path) == ["0.jpg", "1.jpg", "a.tar"]
    assert "after byte 2048" in failures(path)["a.tar"]


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path):
    path = tmp_path / "a.tar"
    bomb = member("x", type=tarfile.GNUTYPE_LONGNAME, size=8 * 2**30)
    first = member("a.jpg").tobuf()
    with path.open("wb") as file:
        file.write(first + bomb.tobuf(tarfile.GNU_FORMAT))
        file.truncate(9 * 2**30)
    tracemalloc.start()
    assert ids(path) == ["a.jpg", "a.tar"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


def test_a_member_of_negative_size_does_not_send_a_scan_back(tmp_path):
    path = tmp_path / "a.tar"
    header = member("b.jpg", size=-512).tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(member("a.jpg").tobuf() + header + bytes(10240))
    found = list(islice(open_source(path).scan(), 10))
    assert [entry.id for entry in found] == ["a.jpg", "a.tar"]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_damage_anywhere_neither_raises_nor_goes_on_for_ever(tmp_path, suffix):
    members = [(f"{'long/' * (i * 10)}{i}.jpg", b"x" * 300 * i) for i in range(6)]
    content = write_tar(tmp_path / "whole.tar", members).read_bytes()[: 25 * 512]
    content = gzip.compress(content, mtime=0) if suffix == ".tar.gz" else content
    path = tmp_path / f"a{suffix}"
    rng = random.Random(0)
    opened = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 4, 64])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            source = open_source(path)
        except SourceUnavailable:
            continue
        opened += 1
        found = [entry for entry in source.scan() if isinstance(entry, Found)]
        images = list(source.images(entry.place for entry in found))
        assert [image.id for image in images] == [entry.id for entry in found]
        for image in images:
            if isinstance(image, SourceImage):
                read_image(image)
    assert opened > 50


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_damage_of_a_compressed_archive_fails_all_images_after_it_and_none_before(tmp_path, compress):
    members = [(f"{i}.jpg", os.urandom(300_000)) for i in range(12)]
    whole = compress(write_tar(tmp_path / "a.tar", members).read_bytes())
    path = tmp_path / "a.tar.gz"  # Whichever it is, its first bytes tell.
    path.write_bytes(whole)
    found = list(open_source(path).scan())
    path.write_bytes(whole[: len(whole) // 2])
    images = list(open_source(path).images(entry.place for entry in found))
    assert [image.id for image in images] == [name for name, _ in members]
    good = [image for image in images if isinstance(image, SourceImage)]
    assert 0 < len(good) < len(images)
    assert images[: len(good)] == good
    assert [read_image(image) for image in good] == [data for _, data in members[: len(good)]]
    assert failures(path).keys() >= {"a.tar.gz"}


def test_a_compressed_archive_is_not_unpacked_again_for_each_image(tmp_path):
    content = write_tar(tmp_path / "a.tar", [("a.jpg", b"a"), ("b.jpg", b"b")]).read_bytes()
    path = tmp_path / "a.tgz"
    path.write_bytes(gzip.compress(content, mtime=0))
    images = entries(path)
    path.unlink()
    assert [read_image(image) for image in images] == [b"a", b"b"]


def test_an_archive_that_is_compressed_by_zstd_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(SourceUnavailable, match=r"a\.tar\.zst is compressed with zstd.*unpack"):
        open_source(tmp_path / "a.tar.zst")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff\xe0 an image" * 100, b"text", gzip.compress(b"text", mtime=0)]
)
def test_what_is_no_tar_file_is_refused(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(SourceUnavailable, match=r"a\.tar cannot be read as a tar file"):
        open_source(tmp_path / "a.tar")


def test_an_archive_without_members_has_no_images(tmp_path):
    assert ids(write_tar(tmp_path / "a.tar", [])) == []


def test_a_member_far_over_any_limit_is_not_read(tmp_path):
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(member("a.jpg", size=2**30).tobuf())
        file.truncate(512 + 2**30 + 1024)
    tracemalloc.start()
    (image,) = entries(path)
    assert "1073741824 bytes" in read_image(image).reason
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


def test_a_scan_holds_no_members_in_memory(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"{i}.jpg", b"") for i in range(5000)])
    source = open_source(path)
    tracemalloc.start()
    assert sum(1 for _ in source.scan()) == 5000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_an_archive_that_goes_away_is_not_so_many_missing_images(tmp_path):
    source = open_source(write_tar(tmp_path / "a.tar", [("a.jpg", b"x")]))
    (image,) = walk(source)
    shutil.move(tmp_path / "a.tar", tmp_path / "b.tar")
    assert "No such file" in read_image(image).reason
    with pytest.raises(SourceUnavailable, match="cannot be read any more"):
        list(source.images([image.place]))
