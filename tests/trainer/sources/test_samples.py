import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest

from tests.tiny_images import write_tar
from trainer.sources.samples import Sample, read_name, read_samples

ALL = frozenset({"cls", "json"})

LONG = "long/" + "x" * 150 + "/" + "y" * 120

MEMBERS = [
    ("0001.jpg", b"a"),
    ("0001.cls", b"3"),
    ("0001.seg.png", b"mask"),
    ("README", b"no dot"),
    ("0002.JPEG", b"b" * 1000),
    ("train/0002.json", b"{}"),
    ("train/0002.png", b"c" * 512),
    ("./v1.0/0003.webp", b""),
    ("./v1.0/.hidden.png", b"x"),
    ("v1.0/0004.left.jpg", b"x"),
    ("v1.0/0004.cls", b"1"),
    (f"{LONG}.json", b"[]"),
    (f"{LONG}.png", b"d"),
    ("grün/bär.txt", b"text"),
    ("grün/bär.png", b"e" * 513),
    ("0001.jpg", b"again, far from the first"),
]


def naive_samples(path: Path) -> list[tuple[str, str, bytes, dict[str, bytes]]]:
    """Base name, image name, image and labels, of each group of neighbours that has an image."""
    groups: list[tuple[str, dict[str, tuple[str, bytes]]]] = []
    with tarfile.open(path) as shard:
        for member in shard.getmembers():
            folder, slash, last = member.name.rpartition("/")
            base, dot, field = last.partition(".")
            if not (member.isfile() and base and dot):
                continue
            if not groups or groups[-1][0] != folder + slash + base:
                groups.append((folder + slash + base, {}))
            groups[-1][1][field.lower()] = (member.name, shard.extractfile(member).read())
    found = []
    for base, fields in groups:
        for kind in ("jpg", "jpeg", "png", "webp"):
            if kind in fields:
                labels = {name: fields[name][1] for name in ("cls", "json") if name in fields}
                found.append((base, *fields[kind], labels))
    return found


def content(path: Path, sample: Sample) -> bytes:
    return path.read_bytes()[sample.image.offset_data :][: sample.image.size]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_are_neighbours_of_one_base_name(tmp_path: Path, kind: int) -> None:
    members = MEMBERS if kind != tarfile.USTAR_FORMAT else [m for m in MEMBERS if "y" not in m[0]]
    path = write_tar(tmp_path / "x.tar", members, kind)
    found = list(read_samples(path, ALL))
    expected = naive_samples(path)
    assert len(expected) in (6, 7)
    assert [(s.where, s.image.name, content(path, s), s.fields) for s in found] == [
        (f"{path}, {base}", name, image, fields) for base, name, image, fields in expected
    ]
    assert [read_name(path, s.image.offset) for s in found] == [name for _, name, _, _ in expected]


def test_only_the_fields_asked_for_are_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("1.cls", b"3"), ("1.jpg", b"x"), ("1.json", b"{}")])
    assert [sample.fields for sample in read_samples(path, frozenset({"json"}))] == [{"json": b"{}"}]


def test_folders_and_links_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as shard:
        for name, kind in (
            ("1.jpg", tarfile.DIRTYPE),
            ("2.jpg", tarfile.SYMTYPE),
            ("3.jpg", tarfile.LNKTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "4.jpg"
            shard.addfile(member)
        member = tarfile.TarInfo("4.jpg")
        member.size = 3
        shard.addfile(member, io.BytesIO(b"abc"))
    assert [sample.image.name for sample in read_samples(tmp_path / "x.tar", ALL)] == ["4.jpg"]


def test_a_sample_with_two_images_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a/1.jpg", b"x"), ("a/1.png", b"x")])
    with pytest.raises(ValueError, match=r"x.tar, a/1 has several images \(jpg, png\): keep one"):
        list(read_samples(path, ALL))


def test_a_sample_with_a_field_twice_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("1.jpg", b"x"), ("1.JPG", b"y")])
    with pytest.raises(ValueError, match=r"x\.tar, 1 has the field jpg twice"):
        list(read_samples(path, ALL))


def test_a_large_field_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("1.jpg", b"x"), ("1.json", bytes(2**20 + 1))])
    with pytest.raises(ValueError, match=r"1048577 bytes in 1\.json, and the limit .* is 1048576"):
        list(read_samples(path, ALL))
    assert len(list(read_samples(path, frozenset({"cls"})))) == 1


def test_wherever_a_shard_is_cut_it_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", MEMBERS)
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    assert whole[end:].strip(b"\0") == b""
    for size in [0, *range(100, end + 512, 300)]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="cut short"):
            list(read_samples(path, ALL))
    path.write_bytes(whole[: end + 512])
    assert len(list(read_samples(path, ALL))) == 7


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("1.jpg", b"x"), ("2.jpg", b"x"), ("3.jpg", b"x")])
    damaged = bytearray(path.read_bytes())
    damaged[1024 + 100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"x\.tar is damaged.*at byte 1024"):
        list(read_samples(path, ALL))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_shard_is_to_be_unpacked(tmp_path: Path, compress) -> None:
    path = write_tar(tmp_path / "x.tar", [("1.jpg", b"x")])
    path.write_bytes(compress(path.read_bytes()))
    with pytest.raises(ValueError, match=r"x.tar is compressed \((gzip|bzip2|xz)\).* unpack it"):
        list(read_samples(path, ALL))


def test_what_is_no_tar_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"text" * 1000)
    with pytest.raises(ValueError, match=r"x\.tar is damaged, cut short or no tar file"):
        list(read_samples(path, ALL))
    with pytest.raises(ValueError, match="cannot be read"):
        list(read_samples(tmp_path / "missing.tar", ALL))


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"cls": b"7\n"}, 7),
        ({"cls": b"-1"}, -1),
        ({"cls": b"7", "json": b'{"label": 8}'}, 7),
        ({"json": b'{"label": 8}'}, 8),
        ({"json": '{"label": "Bär"}'.encode()}, "Bär"),
        ({"json": b'{"label": null}'}, None),
        ({"json": b'{"caption": "x"}'}, None),
        ({"json": b'[{"label": 8}]'}, None),
        ({}, None),
    ],
)
def test_labels_are_class_numbers_or_names(fields: dict[str, bytes], label: int | str | None) -> None:
    assert Sample("x", tarfile.TarInfo(), fields).label() == label


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cls": b"dog"}, r"s/1\.cls holds b'dog': give a class number"),
        ({"cls": b""}, r"s/1\.cls holds b''"),
        ({"cls": b"\xff"}, r"s/1\.cls holds b'\\xff'"),
        ({"json": b'{"label": 0.5}'}, r"s/1\.json has a label of type float"),
        ({"json": b'{"label": true}'}, r"s/1\.json has a label of type bool"),
        ({"json": b"{"}, r"s/1\.json is not JSON"),
        ({"json": b"\xff\xfe\xff"}, r"s/1\.json is not JSON"),
    ],
)
def test_labels_of_other_kinds_are_refused(fields: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sample("s/1", tarfile.TarInfo(), fields).label()
