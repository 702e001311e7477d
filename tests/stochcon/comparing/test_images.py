import zipfile

import pytest

from stochcon.comparing import images
from stochcon.comparing.images import ImageReader
from stochcon.sources.opening import open_source
from stochcon.sources.source import SourceOptions


@pytest.fixture
def folder(tmp_path):
    """30 files that differ."""
    path = tmp_path / "folder"
    for i in range(30):
        file = path / "ab"[i % 2] / f"{i:02d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"picture {i}".encode())
    return path


@pytest.fixture
def archive(tmp_path):
    """10 more in an archive."""
    path = tmp_path / "more.zip"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(10):
            file.writestr(f"c/{i}.jpg", f"other {i}")
    return path


def reader(*paths, limit=None, failures=None):
    sources = [open_source(path, SourceOptions(labels="folders")) for path in paths]
    return ImageReader(sources, limit, (failures if failures is not None else []).append)


def pictures(opened):
    return [picture for batch in opened.batches() for picture in batch]


def test_all_images_of_all_sources_are_read_in_order_with_their_labels(folder, archive):
    found = pictures(reader(folder, archive))
    assert len(found) == 40
    assert [picture.data for picture in found[-10:]] == [f"other {i}".encode() for i in range(10)]
    assert {picture.label for picture in found} == {"a", "b", "c"}


def test_a_limit_draws_the_same_images_each_time_from_everywhere_and_in_order(folder, archive):
    found = pictures(reader(folder, archive, limit=12))
    assert found == pictures(reader(folder, archive, limit=12))
    assert len({picture.data for picture in found}) == 12
    assert {picture.location.source for picture in found} == {0, 1}
    all_of_them = pictures(reader(folder, archive))
    assert [picture for picture in all_of_them if picture in found] == found


def test_every_image_has_about_the_same_chance_to_be_drawn(folder, archive, monkeypatch):
    counts = dict.fromkeys((picture.data for picture in pictures(reader(folder, archive))), 0)
    for seed in range(60):
        monkeypatch.setattr(images, "SEED", seed)
        for picture in pictures(reader(folder, archive, limit=10)):
            counts[picture.data] += 1
    # 15 of 60 are expected, with a standard deviation of 3.
    assert min(counts.values()) > 3
    assert max(counts.values()) < 28


def test_a_limit_above_the_number_of_images_takes_all(folder):
    assert pictures(reader(folder, limit=1000)) == pictures(reader(folder))


def test_copies_are_left_out_and_counted(folder):
    (folder / "copy.jpg").write_bytes(b"picture 3")
    opened = reader(folder)
    assert len(pictures(opened)) == 30
    assert opened.num_copies == 1


@pytest.mark.parametrize("limit", [None, 31])
def test_what_cannot_be_read_is_reported(folder, limit):
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    failures = []
    assert len(pictures(reader(folder, limit=limit, failures=failures))) == 30
    assert [failure.id for failure in failures] == ["gone.jpg"]


def test_batches_end_at_a_number_of_images_or_of_bytes(folder, monkeypatch):
    monkeypatch.setattr(images, "BATCH_IMAGES", 8)
    assert [len(batch) for batch in reader(folder).batches()] == [8, 8, 8, 6]
    monkeypatch.setattr(images, "BATCH_BYTES", 27)
    assert [len(batch) for batch in reader(folder).batches()] == [3] * 10


def test_some_images_can_be_read_again(folder, archive):
    opened = reader(folder, archive)
    found = pictures(opened)
    wanted = [found[3], found[20], found[33], found[39]]
    (folder / found[20].id).unlink()
    again = list(opened.read_again(picture.location for picture in wanted))
    assert again == [wanted[0].data, None, wanted[2].data, wanted[3].data]
