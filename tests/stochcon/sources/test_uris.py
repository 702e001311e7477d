"""An item's URI leads back to the very image, whatever kind of source it came from."""

import zipfile
from pathlib import Path

import pytest

from contracts.errors import BackendUnavailable
from service.jobs.roots import Roots
from stochcon.sources.cache import SourceCache
from stochcon.sources.opening import open_source
from stochcon.sources.source import Failure, read_image, walk
from stochcon.sources.uris import UriReader
from tests.stochcon.sources.bucket import Bucket
from tests.stochcon.sources.test_source import folder, parquet, path_list, tar, zipped

KINDS = {
    "folder": folder,
    "tar": tar("w", ".tar"),
    "tar.gz": tar("w:gz", ".tar.gz"),
    "zip": zipped,
    "parquet": parquet,
    "list": path_list,
}


def reader(roots: Roots) -> UriReader:
    return UriReader(roots, SourceCache(roots.holds))


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_of_a_source_is_found_again_in_any_order(kind: str, tmp_path: Path) -> None:
    images = [image for image in walk(open_source(KINDS[kind](tmp_path))) if not isinstance(image, Failure)]
    assert len(images) == 6
    wanted = [*reversed(images), images[2]]
    found = reader(Roots([str(tmp_path)])).read_many([image.uri for image in wanted])
    assert found == [read_image(image) for image in wanted]


def test_objects_of_a_store_are_found_again(bucket: Bucket) -> None:
    for key in ("photos/a.jpg", "photos/ä b#1.jpg"):
        bucket.put(key)
    images = list(walk(open_source("s3://photos/photos")))
    assert reader(Roots(["s3://photos"])).read_many([image.uri for image in images]) == [
        read_image(image) for image in images
    ]


def test_what_is_gone_or_lies_elsewhere_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for root in (inside, outside):
        root.mkdir()
        (root / "a.jpg").write_bytes(b"an image")
    (inside / "link.jpg").symlink_to(outside / "a.jpg")
    archive = Path(zipped(inside))
    uris = [
        (inside / "a.jpg").as_uri(),
        (inside / "gone.jpg").as_uri(),
        (outside / "a.jpg").as_uri(),
        (inside / "link.jpg").as_uri(),
        archive.as_uri() + "#member=gone.jpg",
        Path(parquet(inside)).as_uri() + "#row=99",
        "s3://bucket/a.jpg",
        "camera 7, tape 3",
        (inside / "a.jpg").as_uri(),
    ]
    found = reader(Roots([str(inside)])).read_many(uris)
    assert found[0] == found[-1] == b"an image"
    reasons = [reason for reason in found if isinstance(reason, str)]
    assert len(reasons) == len(uris) - 2
    for reason, word in zip(
        reasons, ["no longer there", "root", "root", "no member", "no row", "root", "no file"], strict=True
    ):
        assert word in reason, reason


def test_a_service_without_roots_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"an image")
    (reason,) = reader(Roots([])).read_many([(tmp_path / "a.jpg").as_uri()])
    assert "--root" in str(reason)


def test_an_archive_that_was_replaced_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"one")
    cached = reader(Roots([str(tmp_path)]))
    uri = path.as_uri() + "#member=a.jpg"
    assert cached.read_many([uri]) == [b"one"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("b.jpg", b"another")
        archive.writestr("a.jpg", b"two and more")
    assert cached.read_many([uri]) == [b"two and more"]


def test_a_folder_a_prefix_or_nonsense_is_no_image(tmp_path: Path, bucket: Bucket) -> None:
    folder(tmp_path)
    bucket.put("photos/a.jpg")
    uris = [tmp_path.as_uri(), "s3://photos/photos", "http://[x"]
    reasons = reader(Roots([str(tmp_path), "s3://photos"])).read_many(uris)
    for reason, word in zip(reasons, ["is no file", "is no image", "is none"], strict=True):
        assert word in str(reason)


def test_a_root_that_is_not_mounted_is_no_reason_to_give_up_its_images(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    with pytest.raises(BackendUnavailable, match="mount it"):
        reader(Roots([str(root)])).read_many([(root / "a.jpg").as_uri()])
