import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from moto.s3.models import S3Backend

from contracts.errors import BackendUnavailable
from stochcon.sources import object_store
from stochcon.sources import source as source_module
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


def ids(url: str, options: SourceOptions = SourceOptions()) -> list[str]:
    return [entry.id for entry in walk(open_source(url, options))]


def test_objects_below_a_prefix_are_read_by_their_keys(bucket):
    bucket.put("in/a.jpg", "in/x y/#ü?.png", "in/notes.txt", "in/.hidden/b.jpg", "inside.jpg", "out/a.jpg")
    images = list(walk(open_source(f"{bucket.url}/in", SourceOptions("p/", "folders"))))
    assert [(image.id, image.label, read_image(image)) for image in images] == [
        ("p/a.jpg", None, b"in/a.jpg"),
        ("p/x y/#ü?.png", "x y", "in/x y/#ü?.png".encode()),
    ]
    assert images[0].uri == "s3://photos/in/a.jpg"
    etag = bucket.client.head_object(Bucket=bucket.name, Key="in/a.jpg")["ETag"].strip('"')
    assert images[0].version == {"file_bytes": 8, "file_etag": etag}


def test_a_whole_bucket_is_a_source(bucket):
    bucket.put("a.jpg", "b/c.jpg", "folder.jpg/", "d.jpg//e.jpg")
    for url in (bucket.url, bucket.url + "/"):
        images = list(walk(open_source(url)))
        assert [(image.id, image.uri) for image in images] == [
            (key, f"{bucket.url}/{key}") for key in ("a.jpg", "b/c.jpg", "d.jpg//e.jpg")
        ]


def test_an_empty_bucket_has_no_images(bucket):
    assert ids(bucket.url) == []


def test_a_url_of_one_object_is_a_source_of_it_whatever_its_name(bucket):
    bucket.put("in/a.jpg", "in/a.jpg.txt/b.jpg", "scan")
    (image,) = walk(source := open_source(f"{bucket.url}/in/a.jpg"))
    assert (image.id, image.uri, read_image(image)) == ("a.jpg", f"{bucket.url}/in/a.jpg", b"in/a.jpg")
    assert list(source.scan(image.place)) == []
    assert source.count() == 1
    assert ids(f"{bucket.url}/scan") == ["scan"]


def test_a_slash_at_the_end_makes_a_prefix_of_what_is_an_object_as_well(bucket):
    bucket.put("x", "x/a.jpg")
    assert ids(f"{bucket.url}/x") == ["x"]
    assert ids(f"{bucket.url}/x/") == ["a.jpg"]


def test_keys_come_in_the_order_of_their_bytes_and_of_a_folder(bucket, tmp_path):
    rng = random.Random(0)
    names = sorted({"".join(rng.choices("ab/-.0é😀", k=rng.randint(1, 6))) for _ in range(60)})
    keys = [f"{name}.jpg" for name in names if "//" not in name and not name.startswith("/")]
    bucket.put(*keys)
    files = fsspec.filesystem("memory")
    for key in keys:
        path = tmp_path / key
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            files.pipe(f"/{tmp_path.name}/{key}", b"")
    expected = ids(str(tmp_path))
    assert len(expected) > 10
    assert expected == sorted(expected, key=str.encode)
    assert [id for id in ids(bucket.url) if "/." not in id] == expected
    assert ids(f"memory://{tmp_path.name}") == expected


def test_a_long_listing_comes_in_pages_and_goes_on_after_any_key(bucket, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "5")  # to a page of the server
    keys = [f"{number:02}.jpg" for number in range(12)]
    bucket.put(*keys)
    source = open_source(bucket.url)
    assert len(bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]) == 5
    assert [entry.id for entry in source.scan()] == keys
    assert [entry.id for entry in source.scan("03.jpg")] == keys[4:]


def test_a_bucket_that_lists_its_keys_in_no_order_is_refused(bucket, monkeypatch):
    bucket.put("a.jpg", "b.jpg")
    ordered = S3Backend.list_objects_v2

    def from_the_start(backend: S3Backend, *, start_after: str, **options: object) -> object:
        return ordered(backend, start_after=None, **options)

    source = open_source(bucket.url)
    monkeypatch.setattr(S3Backend, "list_objects_v2", from_the_start)
    with pytest.raises(SourceUnavailable, match="photos does not list its keys in order"):
        list(source.scan("b.jpg"))


def test_other_bytes_are_another_version(bucket):
    versions = []
    for data in (b"one", b"two", b"one"):
        bucket.put("a.jpg", data=data)
        (image,) = walk(open_source(bucket.url))
        versions.append(image.version)
    assert versions[0] == versions[2] != versions[1]


def test_a_source_does_not_remember_what_it_listed(bucket):
    bucket.put("a.jpg")
    source = open_source(bucket.url)
    assert [entry.id for entry in source.scan()] == ["a.jpg"]
    bucket.put("b.jpg")
    bucket.delete("a.jpg")
    assert [entry.id for entry in source.scan()] == ["b.jpg"]


def test_an_object_that_is_gone_is_a_failure_and_its_neighbours_are_read(bucket):
    bucket.put("a.jpg", "b.jpg", "c.jpg")
    source = open_source(bucket.url)
    places = [entry.place for entry in source.scan()]
    bucket.delete("b.jpg")
    first, gone, last = source.images(places)
    assert (gone.id, gone.place) == ("b.jpg", "b.jpg")
    assert "cannot be read" in gone.reason
    bucket.delete("c.jpg")
    assert read_image(first) == b"a.jpg"
    assert "the file cannot be read: The specified key does not exist" in read_image(last).reason


def test_a_bucket_that_goes_away_is_not_so_many_missing_images(bucket):
    bucket.put("a.jpg")
    source = open_source(bucket.url)
    bucket.delete("a.jpg")
    bucket.client.delete_bucket(Bucket=bucket.name)
    with pytest.raises(SourceUnavailable, match="nothing at s3://photos"):
        list(source.images(["a.jpg"]))
    with pytest.raises(SourceUnavailable, match="nothing at s3://photos"):
        list(source.scan())
    bucket.client.create_bucket(Bucket=bucket.name)


def test_an_object_over_the_limit_is_not_read_even_if_it_grows_meanwhile(bucket, monkeypatch):
    for module in (source_module, object_store):
        monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 1000)
    bucket.put("a.jpg", data=bytes(1001))
    bucket.put("b.jpg", data=bytes(1000))
    large, grown = walk(open_source(bucket.url))
    assert "1001 bytes and the limit is 1000" in read_image(large).reason
    assert read_image(grown) == bytes(1000)
    bucket.put("b.jpg", data=bytes(100_000))
    assert "more than 1000 bytes" in read_image(grown).reason


def test_an_empty_object_is_read(bucket):
    bucket.put("a.jpg", data=b"")
    (image,) = walk(open_source(bucket.url))
    assert read_image(image) == b""


@pytest.mark.parametrize(
    "url", ["s3://elsewhere", "s3://elsewhere/a.jpg", "s3://photos/none", "s3://photos/a"]
)
def test_a_url_with_nothing_at_it_is_told(bucket, url):
    bucket.put("a.jpg")
    with pytest.raises(SourceUnavailable, match=f"nothing at {url}: check the bucket and the prefix"):
        open_source(url)


def test_missing_credentials_are_told_with_where_they_come_from(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SourceUnavailable, match=r"Unable to locate credentials; .*AWS_ACCESS_KEY_ID"):
        open_source(bucket.url)


def test_credentials_are_those_of_the_moment(bucket, monkeypatch):
    open_source(bucket.url)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SourceUnavailable, match=r"profile \(nobody\) could not be found"):
        open_source(bucket.url)


def test_a_store_that_does_not_answer_may_do_so_later(bucket, monkeypatch):
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(BackendUnavailable, match=r"does not answer: .*127\.0\.0\.1:1"):
        open_source(bucket.url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://", "names no bucket"),
        ("s3://no_bucket!/a", "Invalid bucket name"),
        ("s4://photos", "Protocol not known: s4"),
        ("s3://photos/a::memory://x", "more than one URL"),
        ("s3://photos/a.tar", "of object stores only images are read"),
        ("S3://photos/a.parquet", "of object stores only images are read"),
        ("file:///etc", "is a file here: name it by its path"),
    ],
)
def test_a_url_that_is_no_source_is_told(bucket, url, reason):
    with pytest.raises(SourceUnavailable, match=reason):
        open_source(url)


def test_a_package_that_is_not_installed_is_told_with_the_command(tmp_path):
    # In a process of its own, where it can be hidden.
    code = (
        "import sys\n"
        "sys.modules['s3fs'] = None\n"
        "from stochcon.sources.opening import open_source\n"
        "try: open_source('s3://photos')\n"
        "except Exception as exc: print(type(exc).__name__, exc)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("SourceUnavailable s3://photos needs a package that is not installed")
    assert "pip install 'stochcon[s3]'" in done.stdout


def test_other_stores_come_along(tmp_path):
    files = fsspec.filesystem("memory")
    for key in ("a.jpg", "b/c.jpg", ".x/d.jpg", "b/notes.txt"):
        files.pipe(f"/{tmp_path.name}/{key}", key.encode())
    source = open_source(f"memory://{tmp_path.name}")
    images = list(walk(source))
    assert [(image.id, read_image(image)) for image in images] == [
        ("a.jpg", b"a.jpg"),
        ("b/c.jpg", b"b/c.jpg"),
    ]
    assert images[1].uri == f"memory://{tmp_path.name}/b/c.jpg"
    assert isinstance(images[0], SourceImage)
    before = images[0].version
    files.pipe(f"/{tmp_path.name}/a.jpg", b"other")
    (after,) = source.images(["a.jpg"])
    assert after.version != before
    files.rm(f"/{tmp_path.name}/a.jpg")
    assert isinstance(next(source.images(["a.jpg"])), Failure)
    assert list(source.scan()) == [Found("b/c.jpg", "b/c.jpg")]


class Listings(SimpleHTTPRequestHandler):
    """Shows folders, and keeps in mind which."""

    shown: ClassVar[list[str]] = []

    def list_directory(self, path: str) -> BytesIO | None:
        self.shown.append(self.path)
        return super().list_directory(path)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web_url(tmp_path: Path) -> Iterator[str]:
    """A web server that lists the folders below `tmp_path`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Listings, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_server_that_lists_its_folders_comes_along(tmp_path, web_url):
    for name in ("in/b.jpg", "in/x/c.png", "in/.x/d.jpg", "in/notes.txt", "out/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    source = open_source(f"{web_url}/in/")
    images = list(walk(source))
    assert [(image.id, read_image(image)) for image in images] == [
        ("b.jpg", b"in/b.jpg"),
        ("x/c.png", b"in/x/c.png"),
    ]
    assert images[1].uri == f"{web_url}/in/x/c.png"
    (tmp_path / "in" / "a.jpg").write_text("new")
    assert [entry.id for entry in source.scan()] == ["a.jpg", "b.jpg", "x/c.png"]
    assert [entry.id for entry in source.scan("b.jpg")] == ["x/c.png"]


def test_a_scan_that_goes_on_lists_no_folder_before_its_place(tmp_path, web_url):
    for name in ("a/x.jpg", "b/x.jpg", "b/y.jpg", "c/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    source = open_source(f"{web_url}/")
    Listings.shown.clear()
    assert [entry.id for entry in source.scan("b/x.jpg")] == ["b/y.jpg", "c/x.jpg"]
    assert [path.strip("/") for path in Listings.shown] == ["", "b", "c"]
