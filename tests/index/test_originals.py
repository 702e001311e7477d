"""Image files beside the catalogues."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import BackendUnavailable, StoreCorrupt
from index.originals import Originals, OriginalsFolder, OriginalsInfo


@pytest.fixture
def originals(tmp_path: Path) -> Iterator[Originals]:
    opened = Originals(tmp_path / "c.sqlite")
    yield opened
    opened.close()


def damage(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(sql)
    connection.close()


def test_files_come_back_and_are_counted(originals: Originals, tmp_path: Path) -> None:
    keys = originals.add({"a": b"one", "b": b"", "c": bytes(3_000_000)}, [])
    assert originals.info() == OriginalsInfo(3, 3_000_003)
    originals.close()
    again = Originals(tmp_path / "c.sqlite")
    assert [again.read(keys[name], name) for name in "abc"] == [b"one", b"", bytes(3_000_000)]
    assert again.read(99, "a") is None
    assert again.read(keys["a"], "b") is None, "it is of another item"
    assert again.info() == OriginalsInfo(3, 3_000_003)
    again.close()


def test_keys_stay_in_doubt_until_they_are_settled_and_are_never_used_again(originals: Originals) -> None:
    first = originals.add({"a": b"one", "b": b"two"}, [])
    assert originals.doubts() == {first["a"]: "a", first["b"]: "b"}
    originals.settle([first["a"]], [first["b"]])
    assert originals.doubts() == {}
    assert originals.read(first["b"], "b") is None
    second = originals.add({"a": b"three"}, [first["a"]])
    assert second["a"] not in first.values()
    assert originals.doubts() == {first["a"]: "a", second["a"]: "a"}
    originals.settle([second["a"]], [first["a"], 99])
    assert originals.info() == OriginalsInfo(1, 5)


def test_every_fault_is_found(originals: Originals, tmp_path: Path) -> None:
    kept = originals.add({name: name.encode() for name in "abc"}, [])
    keys = set(kept.values())
    assert originals.check_files() == []
    assert originals.check_names(set()) == [], "those in doubt may be of no item yet"
    originals.settle(keys, [])
    assert originals.check_names(keys) == []
    (missing,) = originals.check_names({*keys, 99})
    (needless,) = originals.check_names(keys - {kept["a"]})
    assert "1 originals that items name are not there" in missing
    assert "1 originals are of no item" in needless
    damage(tmp_path / "c.sqlite", "UPDATE originals SET file = x'00' WHERE id = 'b'")
    damage(tmp_path / "c.sqlite", "UPDATE state SET num_files = 7")
    (fault,) = originals.check_files()
    assert f"original {kept['b']} is not what was written" in fault
    (counted,) = originals.check_names(keys)
    assert "7" in counted
    with pytest.raises(StoreCorrupt, match="not what was written"):
        originals.read(kept["b"], "b")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_bytes(b"no database, but long enough to be taken for one" * 50)
    with pytest.raises(StoreCorrupt):
        Originals(tmp_path / "c.sqlite")


def test_a_closed_one_says_so(originals: Originals) -> None:
    originals.close()
    with pytest.raises(BackendUnavailable):
        originals.add({"a": b"one"}, [])
    with pytest.raises(BackendUnavailable):
        originals.read(1, "a")


def test_no_key_is_used_again_by_a_file_in_the_place_of_a_lost_or_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"

    def add() -> int:
        opened = Originals(path)
        (key,) = opened.add({"a": b"file"}, []).values()
        opened.close()
        return key

    seen = {add()}
    shutil.copy(path, tmp_path / "backup")
    seen.add(add())
    path.unlink()
    seen.add(add())
    shutil.copy(tmp_path / "backup", path)
    seen.add(add())
    assert len(seen) == 4


def test_what_a_crash_left_is_cleared_up_and_what_is_not_ours_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = OriginalsFolder(tmp_path)
    folder.open([])
    assert folder.of("a") is None
    assert not (tmp_path / "originals").exists()
    for name in "abc":
        made = folder.of(name, make=True)
        assert made is not None
        assert made is folder.of(name)
        made.add({"x": b"file"}, [])
    folder.set_aside("a")
    folder.put_back("a")
    folder.close()
    with pytest.raises(BackendUnavailable):
        folder.of("b")
    folder = OriginalsFolder(tmp_path)
    folder.open(["a", "b", "c"])
    assert folder.of("a") is not None
    folder.set_aside("a")
    folder.delete_aside("a")
    folder.delete_aside("never there")
    assert folder.of("a") is None
    folder.close()
    originals = tmp_path / "originals"
    assert sorted(path.name for path in originals.iterdir()) == ["b.sqlite", "c.sqlite"]
    (originals / ".new-1234").write_bytes(b"cut off")
    shutil.copy(originals / "b.sqlite", originals / ".deleted-c.sqlite")  # Another of this name came later.
    (originals / "b.sqlite").rename(originals / ".deleted-b.sqlite")  # Its collection is still there.
    (originals / ".deleted-gone.sqlite").write_bytes(b"its collection is not")
    shutil.copy(originals / "c.sqlite", originals / "away.sqlite")
    folder = OriginalsFolder(tmp_path)
    folder.open(["b", "c"])
    names = {path.name.removesuffix("-wal").removesuffix("-shm") for path in originals.iterdir()}
    assert names == {"away.sqlite", "b.sqlite", "c.sqlite"}
    assert "away.sqlite is left alone" in caplog.text
    for name in "bc":
        kept = folder.of(name)
        assert kept is not None
        assert kept.info() == OriginalsInfo(1, 4)
    assert folder.of("away") is None
    begun_anew = folder.of("away", make=True)
    assert begun_anew is not None
    assert begun_anew.info() == OriginalsInfo(0, 0)
    folder.close()
    (set_apart,) = originals.glob("away.*.sqlite")
    moved_back = Originals(set_apart)
    assert moved_back.info() == OriginalsInfo(1, 4)
    moved_back.close()


def test_what_sqlite_left_beside_a_file_that_was_moved_away_is_not_taken_for_its_successors(
    tmp_path: Path,
) -> None:
    path = tmp_path / "c.sqlite"
    opened = Originals(path)
    opened.add({str(number): bytes(100_000) for number in range(20)}, [])
    shutil.copy(tmp_path / "c.sqlite-wal", tmp_path / "kept-wal")  # As after kill -9.
    opened.close()
    path.unlink()
    (tmp_path / "kept-wal").rename(tmp_path / "c.sqlite-wal")
    opened = Originals(path)
    assert opened.info() == OriginalsInfo(0, 0)
    (key,) = opened.add({"a": b"file"}, []).values()
    assert opened.read(key, "a") == b"file"
    assert opened.check_files() == []
    opened.close()
