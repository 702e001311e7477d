"""Index runs against a backend of dictionaries, where every call can be seen."""

import os
from collections.abc import Sequence

import pytest

from contracts.errors import BackendUnavailable, InvalidImage, InvalidItem, StochConError
from index.protocol import Item, ModelRef
from stochcon.indexing import BATCH_IMAGES, LOOKUP_IMAGES, Indexing, prune
from stochcon.results import Encoding
from stochcon.sources.opening import open_source
from stochcon.sources.source import SourceOptions, walk
from tests.tiny_images import write_parquet

MODEL = ModelRef("m" * 64, "fake", 64)


class DictBackend:
    """The part of a backend that indexing uses. An image is broken if it says so."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.batches: list[int] = []
        self.encoded: list[bytes] = []

    def encode_many(self, images: Sequence[bytes]) -> list[Encoding | StochConError]:
        self.batches.append(len(images))
        self.encoded += images
        if b"outage" in images:
            raise BackendUnavailable("gone")
        return [
            InvalidImage("it is broken") if data == b"broken" else Encoding(data[:8].ljust(8), 1, 1.0, MODEL)
            for data in images
        ]

    def get_many(self, collection: str, ids: Sequence[str]) -> list[Item | None]:
        return [self.items.get(id) for id in ids]

    def upsert(self, collection: str, items: Sequence[Item], model: ModelRef) -> None:
        assert model == MODEL
        if any("\n" in item.id for item in items):
            raise InvalidItem("an id has a line break")
        self.items |= {item.id: item for item in items}

    def list_items(self, collection: str, after: str | None, limit: int) -> list[Item]:
        later = sorted(id for id in self.items if after is None or id.encode() > after.encode())
        return [self.items[id] for id in later[:limit]]

    def delete(self, collection: str, id: str) -> None:
        del self.items[id]


@pytest.fixture
def backend() -> DictBackend:
    return DictBackend()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(5):
        (tmp_path / "photos" / f"{i}.jpg").write_text(f"image {i}")
    return tmp_path / "photos"


def run(backend: DictBackend, *sources, **options):
    """Counts and failures of one run."""
    failures = []
    indexing = Indexing(backend, "default", lambda _: None, failures.append, **options)
    for source in sources:
        indexing.run(walk(source))
    counts = indexing.counts
    found = (counts.added, counts.updated, counts.unchanged, counts.failed)
    return found, {failure.id: failure.reason for failure in failures}


def test_the_first_run_adds_and_the_second_encodes_nothing(backend, folder):
    assert run(backend, open_source(folder)) == ((5, 0, 0, 0), {})
    before = dict(backend.items)
    assert run(backend, open_source(folder)) == ((0, 0, 5, 0), {})
    assert backend.items == before
    assert len(backend.encoded) == 5


@pytest.mark.parametrize("change", ["content", "time"])
def test_a_changed_file_is_encoded_again(backend, folder, change):
    run(backend, open_source(folder))
    if change == "content":
        (folder / "2.jpg").write_text("another image")
    else:
        os.utime(folder / "2.jpg", (1, 1))
    assert run(backend, open_source(folder)) == ((0, 1, 4, 0), {})
    assert len(backend.encoded) == 6
    assert run(backend, open_source(folder)) == ((0, 0, 5, 0), {})


def test_a_label_and_metadata_given_by_other_means_survive_a_change(backend, folder):
    run(backend, open_source(folder))
    kept = backend.items["2.jpg"]
    backend.items["2.jpg"] = Item(kept.id, kept.code, "cat", {**kept.metadata, "year": 2024}, kept.uri)
    (folder / "2.jpg").write_text("another image")
    assert run(backend, open_source(folder))[0] == (0, 1, 4, 0)
    item = backend.items["2.jpg"]
    assert (item.label, item.metadata["year"], item.code) == ("cat", 2024, b"another ")


def test_new_labels_update_what_is_there(backend, tmp_path):
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    (tmp_path / "photos" / "cats" / "a.jpg").write_text("a")
    run(backend, open_source(tmp_path / "photos"))
    assert run(backend, open_source(tmp_path / "photos", SourceOptions(labels="folders")))[0] == (0, 1, 0, 0)
    assert backend.items["cats/a.jpg"].label == "cats"
    assert run(backend, open_source(tmp_path / "photos"))[0] == (0, 0, 1, 0)


def test_broken_images_are_listed_and_end_nothing(backend, folder):
    (folder / "1.jpg").write_text("broken")
    (folder / "9.jpg").symlink_to("nowhere")
    counts, failures = run(backend, open_source(folder))
    assert counts == (4, 0, 0, 2)
    assert failures["1.jpg"] == "it is broken"
    assert "No such file" in failures["9.jpg"]
    assert backend.items.keys() == {"0.jpg", "2.jpg", "3.jpg", "4.jpg"}


def test_one_item_that_is_refused_does_not_take_its_batch_with_it(backend, folder):
    (folder / "a\nb.jpg").write_text("x")
    counts, failures = run(backend, open_source(folder))
    assert counts == (5, 0, 0, 1)
    assert failures == {"a\nb.jpg": "an id has a line break"}


def test_an_outage_ends_the_run_and_keeps_what_was_stored(backend, tmp_path):
    for i in range(4 * BATCH_IMAGES):
        (tmp_path / f"{i:04d}.jpg").write_text("outage" if i == 3 * BATCH_IMAGES else "fine")
    with pytest.raises(BackendUnavailable):
        run(backend, open_source(tmp_path))
    assert len(backend.items) % BATCH_IMAGES == 0
    assert 0 < len(backend.items) < 4 * BATCH_IMAGES


def test_batches_are_bounded_by_images_and_by_bytes(backend, tmp_path, monkeypatch):
    for i in range(BATCH_IMAGES + 10):
        (tmp_path / f"{i:03d}.jpg").write_bytes(b"x")
    run(backend, open_source(tmp_path))
    assert sorted(backend.batches) == [10, BATCH_IMAGES]
    monkeypatch.setattr("stochcon.indexing.BATCH_BYTES", 100)
    for i, size in enumerate([60, 60, 30, 10, 300, 5]):
        (tmp_path / f"{i:03d}.jpg").write_bytes(bytes(size))
    backend.batches.clear()
    run(backend, open_source(tmp_path))
    assert sorted(backend.batches) == [1, 1, 1, 3]


def test_a_wish_to_stop_finishes_what_is_under_way_and_begins_no_more(backend, tmp_path):
    for i in range(20 * BATCH_IMAGES):
        (tmp_path / f"{i:04d}.jpg").write_text("x")
    counts, _ = run(backend, open_source(tmp_path), should_stop=lambda: bool(backend.items))
    assert counts[0] == len(backend.items) == len(backend.encoded) < 10 * BATCH_IMAGES
    left = 20 * BATCH_IMAGES - counts[0]
    assert run(backend, open_source(tmp_path))[0] == (left, 0, counts[0], 0)


def test_a_wish_to_stop_is_heard_where_nothing_has_changed(backend, tmp_path):
    for i in range(3 * LOOKUP_IMAGES):
        (tmp_path / f"{i:04d}.jpg").write_text("x")
    run(backend, open_source(tmp_path))
    answers = iter([False, True, True, True])
    counts, _ = run(backend, open_source(tmp_path), should_stop=lambda: next(answers))
    assert counts == (0, 0, LOOKUP_IMAGES, 0)


def test_an_id_of_another_file_that_is_still_there_is_not_taken_over(backend, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_text(name)
    counts, failures = run(backend, open_source(tmp_path / "one"), open_source(tmp_path / "two"))
    assert counts == (1, 0, 0, 1)
    assert "--prefix" in failures["a.jpg"]
    assert backend.items["a.jpg"].code == b"one".ljust(8)
    assert run(backend, open_source(tmp_path / "two", SourceOptions(prefix="two/")))[0] == (1, 0, 0, 0)


def test_a_folder_that_was_moved_takes_its_items_along(backend, folder):
    run(backend, open_source(folder))
    moved = folder.rename(folder.with_name("moved"))
    assert run(backend, open_source(moved))[0] == (0, 5, 0, 0)
    assert "/moved/" in backend.items["0.jpg"].uri


def test_prune_deletes_the_items_of_files_that_are_gone_and_no_others(backend, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.jpg").write_text("x")
    run(backend, open_source(folder), open_source(other))
    backend.items["by hand"] = Item("by hand", bytes(8))
    (folder / "3.jpg").unlink()
    (other / "x.jpg").unlink()
    assert prune(backend, "default", open_source(folder)) == 1
    assert backend.items.keys() == {"0.jpg", "1.jpg", "2.jpg", "4.jpg", "x.jpg", "by hand"}


def test_parquet_rows_are_skipped_by_their_content(backend, tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [b"one", b"two", b"broken"], [0, 1, 2])
    assert run(backend, open_source(path))[0] == (2, 0, 0, 1)
    assert backend.items["0.png"].label == "red"
    assert run(backend, open_source(path))[0] == (0, 0, 2, 1)
    write_parquet(path, [b"one", b"2", b"three"], [0, 1, 2])
    assert run(backend, open_source(path))[0] == (1, 1, 1, 0)
