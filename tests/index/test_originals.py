"""Image files beside the catalogues."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import BackendUnavailable, StoreCorrupt
from index.originals import OriginalFiles, Originals, OriginalsInfo


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
    assert [again.read(keys[name]) for name in "abc"] == [b"one", b"", bytes(3_000_000)]
    assert again.read(99) is None
    assert again.info() == OriginalsInfo(3, 3_000_003)
    again.close()


def test_keys_stay_in_doubt_until_they_are_settled_and_are_never_used_again(originals: Originals) -> None:
    first = originals.add({"a": b"one", "b": b"two"}, [])
    assert originals.doubts() == {first["a"]: "a", first["b"]: "b"}
    originals.settle([first["a"]], [first["b"]])
    assert originals.doubts() == {}
    assert originals.read(first["b"]) is None
    second = originals.add({"a": b"three"}, [first["a"]])
    assert second["a"] not in first.values()
    assert originals.doubts() == {first["a"]: "a", second["a"]: "a"}
    originals.settle([second["a"]], [first["a"], 99])
    assert originals.info() == OriginalsInfo(1, 5)


def test_every_fault_is_found(originals: Originals, tmp_path: Path) -> None:
    keys = set(originals.add({name: name.encode() for name in "abc"}, []).values())
    assert originals.check_files() == []
    assert originals.check_names(set()) == [], "those in doubt may be of no item yet"
    originals.settle(keys, [])
    assert originals.check_names(keys) == []
    (missing,) = originals.check_names({*keys, 99})
    (needless,) = originals.check_names(keys - {1})
    assert "1 originals that items name are not there" in missing
    assert "1 originals are of no item" in needless
    damage(tmp_path / "c.sqlite", "UPDATE originals SET file = x'00' WHERE key = 2")
    damage(tmp_path / "c.sqlite", "UPDATE state SET num_files = 7")
    (fault,) = originals.check_files()
    assert "original 2 is not what was written" in fault
    (counted,) = originals.check_names(keys)
    assert "7" in counted
    with pytest.raises(StoreCorrupt, match="original 2"):
        originals.read(2)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_bytes(b"no database, but long enough to be taken for one" * 50)
    with pytest.raises(StoreCorrupt):
        Originals(tmp_path / "c.sqlite")


def test_a_closed_one_says_so(originals: Originals) -> None:
    originals.close()
    with pytest.raises(BackendUnavailable):
        originals.add({"a": b"one"}, [])
    with pytest.raises(BackendUnavailable):
        originals.read(1)


def test_those_of_collections_that_are_gone_are_deleted(tmp_path: Path) -> None:
    files = OriginalFiles(tmp_path)
    files.keep_only([])
    assert files.of("a") is None
    assert not (tmp_path / "originals").exists()
    for name in "abc":
        made = files.of(name, make=True)
        assert made is not None
        assert made is files.of(name)
        made.add({"x": b"file"}, [])
    files.delete("a")
    assert files.of("a") is None
    files.close()
    (tmp_path / "originals" / ".new-1234").write_bytes(b"cut off")
    files = OriginalFiles(tmp_path)
    files.keep_only(["b"])
    assert [path.name for path in (tmp_path / "originals").iterdir()] == ["b.sqlite"]
    kept = files.of("b")
    assert kept is not None
    assert kept.info() == OriginalsInfo(1, 4)
    files.close()
