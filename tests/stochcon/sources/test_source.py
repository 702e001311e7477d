"""What holds of every source, whatever its kind."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stochcon.sources.opening import open_source
from stochcon.sources.source import Failure, Found, Source, SourceOptions, read_image, walk
from tests.tiny_images import write_tar

NAMES = ["a.jpg", "cats/kittens/c.webp", "cats/ä b.png", "dogs/#d?.jpg", "dogs/e.JPG", "z%20.gif"]
OTHERS = ["notes.txt", ".hidden.jpg", "cats/.thumbnails/a.jpg"]


def data_of(name: str) -> bytes:
    return f"the image {name}".encode()


def write_files(root: Path) -> Path:
    for name in (*NAMES, *OTHERS):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data_of(name))
    return root


def folder(root: Path) -> str:
    return str(write_files(root / "photos"))


def tar(mode: str, suffix: str) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        with tarfile.open(root / f"photos{suffix}", mode) as archive:
            for i, name in enumerate([*NAMES, *OTHERS]):
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(data_of(name)), 1_700_000_000 + i
                archive.addfile(member, io.BytesIO(data_of(name)))
                link = tarfile.TarInfo(f"links/{i}.jpg")
                link.type, link.linkname = tarfile.SYMTYPE, "elsewhere"
                archive.addfile(link)
        return str(root / f"photos{suffix}")

    return make


def zipped(root: Path) -> str:
    with zipfile.ZipFile(root / "photos.zip", "w") as archive:
        for i, name in enumerate([*NAMES, *OTHERS]):
            archive.writestr(name, data_of(name), zipfile.ZIP_DEFLATED)
            archive.writestr(f"other/{i}.jpg", data_of(name), zipfile.ZIP_LZMA)
    return str(root / "photos.zip")


def parquet(root: Path) -> str:
    images = [{"bytes": data_of(name), "path": name} for name in NAMES]
    pq.write_table(pa.table({"image": images}), root / "photos.parquet", row_group_size=4)
    return str(root / "photos.parquet")


def path_list(root: Path) -> str:
    write_files(root / "photos")
    lines = [f"photos/{name}\n" if i % 2 else f"./photos/{name}\r\n" for i, name in enumerate(NAMES)]
    (root / "list.txt").write_bytes(b"# mine\n\n" + b"caf\xe9.jpg\n".join(line.encode() for line in lines))
    return str(root / "list.txt")


def memory(root: Path) -> str:
    files = fsspec.filesystem("memory")
    for name in (*NAMES, *OTHERS):
        files.pipe(f"/{root.name}/{name}", data_of(name))
    return f"memory://{root.name}"


MAKERS: dict[str, Callable[[Path], str]] = {
    "folder": folder,
    "tar": tar("w", ".tar"),
    "tar.gz": tar("w:gz", ".tar.gz"),
    "tar.bz2": tar("w:bz2", ".tar.bz2"),
    "tar.xz": tar("w:xz", ".tar.xz"),
    "zip": zipped,
    "parquet": parquet,
    "list": path_list,
    "memory": memory,
}


@pytest.fixture(params=[*MAKERS, "s3"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """A source of each kind with the same images."""
    if request.param in MAKERS:
        return open_source(MAKERS[request.param](tmp_path))
    bucket = request.getfixturevalue("bucket")
    for name in (*NAMES, *OTHERS):
        bucket.put(f"some/{name}", data=data_of(name))
    return open_source(f"{bucket.url}/some")


def found_in(source: Source) -> list[Found]:
    return [entry for entry in source.scan() if isinstance(entry, Found)]


def as_json(place: Any) -> Any:
    return json.loads(json.dumps(place))


def test_a_scan_finds_all_images_in_the_same_order_each_time(source):
    found = found_in(source)
    assert [entry.id.removeprefix("photos/") for entry in found] == NAMES
    assert found_in(source) == found
    assert source.count() == len(list(source.scan()))


def test_a_scan_goes_on_after_any_place(source):
    everything = list(source.scan())
    for number, entry in enumerate(everything):
        if isinstance(entry, Found):
            assert list(source.scan(as_json(entry.place))) == everything[number + 1 :]


def test_any_of_the_images_can_be_read_at_their_places(source):
    found = found_in(source)
    for wanted in (found, found[1:2], found[-1:], found[::2], found[1::2], found[2:5], []):
        images = list(source.images(as_json(entry.place) for entry in wanted))
        assert [(image.id, image.place) for image in images] == [(e.id, e.place) for e in wanted]
        assert [read_image(image) for image in images] == [
            data_of(entry.id.removeprefix("photos/")) for entry in wanted
        ]


def test_images_can_be_read_in_any_order_by_many_threads(source):
    images = list(source.images(entry.place for entry in found_in(source)))
    shuffled = [*images[::-1], *images] * 5
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(read_image, shuffled))
    assert read == [data_of(image.id.removeprefix("photos/")) for image in shuffled]


def test_a_walk_gives_what_a_scan_finds_and_its_failures(source):
    entries = list(walk(source))
    found, failures = found_in(source), [e for e in source.scan() if isinstance(e, Failure)]
    images = [entry for entry in entries if not isinstance(entry, Failure)]
    expected = list(source.images(entry.place for entry in found))
    assert [(i.id, i.uri, i.version, i.place) for i in images] == [
        (i.id, i.uri, i.version, i.place) for i in expected
    ]
    assert [entry for entry in entries if isinstance(entry, Failure)] == failures


def test_an_image_has_its_size_and_a_uri_below_that_of_the_source(source):
    for image in source.images(entry.place for entry in found_in(source)):
        assert image.num_bytes == image.version["file_bytes"] == len(read_image(image))
        assert image.uri.startswith(source.uri_prefix)
        assert len(image.version) >= 2


@pytest.mark.parametrize("kind", MAKERS)
def test_options_mean_the_same_of_every_source(kind, tmp_path):
    path = MAKERS[kind](tmp_path)
    base = "photos/" if kind == "list" else ""
    include, exclude = (f"{base}cats/*", f"{base}dogs/*"), ("*.webp", "links/*", "other/*")
    source = open_source(path, SourceOptions("mine/", "folders", include=include, exclude=exclude))
    images = [entry for entry in walk(source) if not isinstance(entry, Failure)]
    assert [image.id for image in images] == [f"mine/{base}{NAMES[i]}" for i in (2, 3, 4)]
    assert [image.label for image in images] == (["photos"] * 3 if base else ["cats", "dogs", "dogs"])
    assert source.count() == len(list(source.scan()))


def test_patterns_match_whole_paths_and_stars_match_slashes():
    options = SourceOptions(include=("*.jpg", "raw/*"), exclude=("*/thumbs/*", "raw/?.png"))
    paths = ["a.jpg", "x/y/a.jpg", "a.JPG", "raw/deep/a.png", "raw/a.png", "x/thumbs/a.jpg", "thumbs/a.jpg"]
    assert [path for path in paths if options.admits(path)] == [
        "a.jpg", "x/y/a.jpg", "raw/deep/a.png", "thumbs/a.jpg",
    ]  # fmt: skip
    assert all(map(SourceOptions().admits, paths))


def test_a_walk_keeps_no_failures_back(tmp_path):
    members = [(name, b"x") for name in ("a.jpg", "b.jpg")]
    path = write_tar(tmp_path / "a.tar", members)
    path.write_bytes(path.read_bytes()[:1024])
    entries = list(walk(open_source(path)))
    assert [entry.id for entry in entries] == ["a.jpg", "a.tar"]
