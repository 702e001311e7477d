"""Image files that are kept, against a dictionary that says what should be."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.errors import BackendUnavailable, InvalidItem
from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef, other_generation
from service.originals import KeptOriginals

ROOT = Path(__file__).resolve().parents[2]
MODELS = [ModelRef(str(number), str(number), 64) for number in range(4)]


class Kept:
    """A store as the engine writes it, and beside it what each item should have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, bytes | None] = {}
        self.other_files: dict[str, bytes | None] | None = None
        self.codes: dict[str, bytes] = {}
        self.model = 0
        self.other_model = 0
        self.open(is_on=True)

    def open(self, is_on: bool) -> None:
        self.store = EmbeddedStore.open(self.folder, num_threads=1, segment_slots=64)
        self.kept = KeptOriginals(self.store, is_on)
        self.kept.recover()

    def write(self, items: dict[str, bytes], files: dict[str, bytes], is_on: bool) -> None:
        ready = [Item(id, code) for id, code in items.items()]
        with self.kept.writing("c", "c", ready, files) as complete:
            if self.other_files is not None:
                # As `OtherGenerations.write`: images reach both, codes only the current one.
                both = [item for item in complete if item.id in files]
                self.store.upsert(other_generation("c"), both, MODELS[self.other_model])
                self.store.delete(other_generation("c"), [id for id in items if id not in files])
            self.store.upsert("c", complete, MODELS[self.model])
        for id, code in items.items():
            stays = self.files.get(id) if self.codes.get(id) == code else None
            file = files[id] if is_on and id in files else stays
            if self.other_files is not None:
                self.other_files.pop(id, None)
                if id in files:
                    self.other_files[id] = file
            self.files[id], self.codes[id] = file, code

    def write_other(self, id: str) -> None:
        """A code of the model that is being activated."""
        assert self.other_files is not None
        other = other_generation("c")
        (before,) = self.store.get(other, [id])
        with self.kept.writing("c", other, [Item(id, bytes(8))], {}) as complete:
            self.store.upsert(other, complete, MODELS[self.other_model])
        self.other_files[id] = self.other_files[id] if before and before.code == bytes(8) else None

    def write_other_image(self, id: str, file: bytes) -> None:
        """What the coming generation alone has, as no caller could bring about."""
        assert self.other_files is not None
        other = other_generation("c")
        with self.kept.writing("c", other, [Item(id, bytes(8))], {id: file}) as complete:
            self.store.upsert(other, complete, MODELS[self.other_model])
        self.other_files[id] = file

    def delete(self, id: str) -> None:
        with self.kept.deleting("c", [id]):
            if self.other_files is not None:
                self.store.delete(other_generation("c"), [id])
                self.other_files.pop(id, None)
            self.store.delete("c", [id])
        self.files.pop(id, None)
        self.codes.pop(id, None)

    def stage(self) -> None:
        self.other_model = (self.model + 1) % len(MODELS)
        self.drop_other()
        self.store.stage("c", MODELS[self.other_model])
        self.other_files = {}

    def drop_other(self) -> None:
        with self.kept.dropping("c"):
            self.store.drop_other("c")
        self.other_files = None

    def fill(self, ids: list[str]) -> None:
        assert self.other_files is not None
        items = [item for item in self.store.get("c", ids) if item is not None]
        self.store.upsert(other_generation("c"), items, MODELS[self.other_model])
        self.other_files |= {item.id: self.files[item.id] for item in items}

    def switch(self) -> None:
        assert self.other_files is not None
        self.store.switch(["c"], MODELS[self.other_model].id)
        self.model, self.other_model = self.other_model, self.model
        self.files, self.other_files = self.other_files, self.files
        self.codes = {item.id: item.code for item in self.store.list_items("c", limit=1000)}

    def check(self) -> None:
        for name, files in (("c", self.files), (other_generation("c"), self.other_files)):
            if files is None:
                continue
            items = self.store.list_items(name, limit=1000)
            assert {item.id: self.kept.read("c", item) for item in items} == files
        assert self.store.verify() == []


def raises(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


ACTIONS = [
    "images", "images", "codes", "same codes", "mixed", "delete", "stage", "fill", "other", "switch", "reopen"
]  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_every_item_has_its_file_and_no_file_is_left_over(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    site, is_on = Kept(tmp_path), True
    site.write({"seed": b"seedcode"}, {}, is_on)
    for _ in range(150):
        ids = choose.sample([f"i{number}" for number in range(8)], 3)
        action = choose.choice(ACTIONS)
        new = {id: choose.randbytes(8) for id in ids}
        if action == "images":
            site.write(new, {id: choose.randbytes(20) for id in ids}, is_on)
        elif action == "codes":
            site.write(new, {}, is_on)
        elif action == "same codes":
            site.write({id: site.codes.get(id, bytes(8)) for id in ids}, {}, is_on)
        elif action == "mixed":
            site.write(new, {ids[0]: choose.randbytes(20)}, is_on)
        elif action == "delete":
            site.delete(ids[0])
        elif action == "stage":
            site.stage()
        elif action == "reopen":
            site.store.close()
            is_on = choose.random() < 0.7
            site.open(is_on)
        elif site.other_files is None:
            continue
        elif action == "fill":
            site.fill(ids)
        elif action == "other":
            site.write_other(ids[0])
        else:
            site.switch()
        site.check()
    site.drop_other()
    site.check()
    info = site.store.collection("c")
    there = [file for file in site.files.values() if file is not None]
    assert (info.num_originals, info.original_bytes) == (len(there), sum(map(len, there)))
    site.store.close()


def test_a_write_that_fails_leaves_no_file_behind(tmp_path: Path) -> None:
    site = Kept(tmp_path)
    site.write({"a": b"12345678"}, {"a": b"first"}, True)
    with (
        pytest.raises(InvalidItem),
        site.kept.writing("c", "c", [Item("a", b"short")], {"a": b"second"}) as items,
    ):
        site.store.upsert("c", items, MODELS[0])
    site.check()
    with site.kept.writing("new", "new", [], {"a": b"never written"}):
        pass
    assert [info.num_originals for info in site.store.collections()] == [1]
    site.store.close()


def test_files_go_with_their_collection(tmp_path: Path) -> None:
    site = Kept(tmp_path)
    site.write({"a": b"12345678"}, {"a": b"file"}, True)
    with site.kept.locked("c"):
        site.store.delete_collection("c")
    assert not list((tmp_path / "originals").iterdir())
    site.files, site.codes = {}, {}
    site.write({"a": b"87654321"}, {"a": b"other"}, True)
    site.check()
    site.store.close()


def test_a_collection_that_is_moved_away_finds_its_files_when_it_comes_back(tmp_path: Path) -> None:
    site = Kept(tmp_path)
    site.write({"a": b"12345678"}, {"a": b"file"}, True)
    site.store.close()
    (tmp_path / "collections" / "c").rename(tmp_path / "c")
    site.open(is_on=True)
    assert site.store.collections() == []
    site.store.close()
    (tmp_path / "c").rename(tmp_path / "collections" / "c")
    site.open(is_on=True)
    site.check()
    site.store.close()


def test_a_sweep_that_cannot_be_done_is_done_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Kept(tmp_path)
    site.write({"a": b"12345678"}, {"a": b"file"}, True)
    site.stage()
    site.write_other_image("b", b"only there")
    with monkeypatch.context() as patched:
        patched.setattr("index.originals.Originals.settle", raises(BackendUnavailable("the disk is full")))
        site.drop_other()
    assert site.store.verify() == []
    assert site.store.collection("c").num_originals == 2
    site.store.close()
    site.open(is_on=True)
    site.check()
    assert site.store.collection("c").num_originals == 1
    site.store.close()


def test_a_deleted_collection_leaves_no_files_though_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Kept(tmp_path)
    site.write({"a": b"12345678"}, {"a": b"file"}, True)
    site.stage()
    site.switch()
    site.drop_other()
    with monkeypatch.context() as patched:
        patched.setattr("index.folders.write_generations", raises(OSError(28, "No space left on device")))
        with pytest.raises(BackendUnavailable):
            site.store.delete_collection("c")
    site.store.close()
    site.open(is_on=True)
    assert not list((tmp_path / "originals").glob("*"))
    site.store.close()


def test_files_that_were_lost_are_missed_and_never_mistaken_for_others(tmp_path: Path) -> None:
    site = Kept(tmp_path)
    site.write({"a": b"12345678"}, {"a": b"file"}, True)
    site.store.close()
    (tmp_path / "originals" / "c.sqlite").unlink()
    site.open(is_on=True)
    site.write({"b": b"87654321"}, {"b": b"other"}, True)
    items = site.store.list_items("c")
    assert {item.id: site.kept.read("c", item) for item in items} == {"a": None, "b": b"other"}
    (fault,) = site.store.verify()
    assert "1 originals that items name are not there" in fault
    site.delete("a")
    site.check()
    site.store.close()


# The process kills itself before or after a step, so that each order of steps is met for certain.
CRASH = """
import os, shutil, signal, sys
from pathlib import Path
from index.embedded import EmbeddedStore
from index.originals import Originals, OriginalsFolder
from index.protocol import Item, ModelRef, other_generation
from service.originals import KeptOriginals

owner, name = sys.argv[2].rsplit(".", 1)
when, action = sys.argv[3:]
model = ModelRef("0", "0", 64)
store = EmbeddedStore.open(Path(sys.argv[1]), num_threads=1, segment_slots=64)
kept = KeptOriginals(store, True)

def write(code, files):
    with kept.writing("c", "c", [Item("a", code), Item("b", code)], files) as items:
        store.upsert("c", items, model)

write(b"11111111", {"a": b"a1", "b": b"b1"})
step = getattr(eval(owner), name)

def die(*args, **options):
    if when == "after":
        step(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)

if action != "drop other":
    setattr(eval(owner), name, die)
if action == "images":
    write(b"22222222", {"a": b"a2", "b": b"b2"})
elif action == "codes":
    write(b"22222222", {})
elif action == "delete":
    with kept.deleting("c", ["a", "b"]):
        store.delete("c", ["a", "b"])
elif action == "drop":
    with kept.locked("c"):
        store.delete_collection("c")
elif action == "drop other":
    # Image files that only the other generation names.
    other = ModelRef("1", "1", 64)
    store.stage("c", other)
    with kept.writing("c", other_generation("c"), [Item("c", b"11111111")], {"c": b"c1"}) as items:
        store.upsert(other_generation("c"), items, other)
    setattr(eval(owner), name, die)
    with kept.dropping("c"):
        store.drop_other("c")
os._exit(7)
"""

BEFORE = {"a": (b"11111111", b"a1"), "b": (b"11111111", b"b1")}
IMAGES = {"a": (b"22222222", b"a2"), "b": (b"22222222", b"b2")}
CODES = {"a": (b"22222222", None), "b": (b"22222222", None)}


@pytest.mark.parametrize(
    ("step", "when", "action", "expected"),
    [
        ("Originals.add", "before", "images", BEFORE),
        ("Originals.add", "after", "images", BEFORE),
        ("EmbeddedStore.upsert", "after", "images", IMAGES),
        ("Originals.settle", "after", "images", IMAGES),
        ("Originals.add", "after", "codes", BEFORE),
        ("EmbeddedStore.upsert", "after", "codes", CODES),
        ("Originals.add", "after", "delete", BEFORE),
        ("EmbeddedStore.delete", "after", "delete", {}),
        ("Path.rename", "after", "drop", BEFORE),
        ("shutil.rmtree", "before", "drop", None),
        ("Path.unlink", "before", "drop", BEFORE),
        ("OriginalsFolder.delete_aside", "before", "drop", None),
        ("EmbeddedStore.drop_other", "after", "drop other", BEFORE),
        ("Originals.page", "before", "drop other", BEFORE),
    ],
)
def test_a_crash_at_each_step_leaves_each_item_its_file(
    tmp_path: Path, step: str, when: str, action: str, expected: dict[str, tuple[bytes, bytes | None]] | None
) -> None:
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path), step, when, action], cwd=ROOT, check=False
    )
    assert crashed.returncode == -signal.SIGKILL
    with EmbeddedStore.open(tmp_path, num_threads=1) as store:
        kept = KeptOriginals(store, True)
        kept.recover()
        assert store.verify() == []
        if expected is None:
            assert store.collections() == []
            assert not list((tmp_path / "originals").iterdir())
            return
        items = store.list_items("c")
        assert {item.id: (item.code, kept.read("c", item)) for item in items} == expected
        originals = store.originals("c")
        assert originals is not None
        assert originals.doubts() == {}
        assert originals.info().num_files == sum(file is not None for _, file in expected.values())
