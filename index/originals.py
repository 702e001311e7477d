"""Image files that are kept of items, so that another model can encode them again.

    data_dir/originals/<collection>.sqlite

An item names its file by a key; no key is ever used twice, not even by a file that takes the place of a lost
one, and what is kept under a key never changes. Both generations of a collection name the same files. No
transaction spans this file and a catalogue, so a key is in doubt from before a write that may begin or end to
name it, until that write is known to be done or not. Whoever opens the store after a crash asks the
catalogues about the keys in doubt.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from contracts.errors import BackendUnavailable, StoreCorrupt
from index.database import Database, FileKind
from index.files import sync_folder, translated_files
from index.gate import Gate

FOLDER_NAME = "originals"
_SUFFIX = ".sqlite"
_LOGS = ("-wal", "-shm")
_PAGE = 100
_TEMPORARY = "."  # First character of files being made or deleted; no collection's name has it.
_DELETED = f"{_TEMPORARY}deleted-"

_SCHEMA = """
CREATE TABLE originals (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,  -- Of the item. The file comes last: what is before it is read without it.
    checksum BLOB NOT NULL,
    file BLOB NOT NULL
) STRICT;
-- Keys of items whose writes are not known to be done or undone.
CREATE TABLE doubts (key INTEGER PRIMARY KEY) STRICT;
CREATE TABLE state (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    num_files INTEGER NOT NULL,
    num_bytes INTEGER NOT NULL,
    sweep_is_due INTEGER NOT NULL
) STRICT;
INSERT INTO sqlite_sequence VALUES ('originals', 0);
"""
KIND = FileKind(
    "a file of originals",
    application_id=0x53744F31,  # "StO1"
    version=1,
    schema=_SCHEMA,
    remedy="restore it from a backup, or move it and its -wal away: then no upload so far is kept",
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OriginalsInfo:
    """How much is kept."""

    num_files: int
    num_bytes: int


class Originals:
    """The image files of one collection. Safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, or make it. Raises StoreCorrupt, BackendUnavailable."""
        self.path = path
        with translated_files(path):
            if not path.exists():
                unfinished = path.with_name(f"{_TEMPORARY}new-{uuid4().hex}")
                Database.create(unfinished, KIND, "INSERT INTO state VALUES (1, 0, 0, 0)")
                _unlink_logs(path)  # Of a file that was moved away without them: they are not of this one.
                unfinished.rename(path)
                sync_folder(path.parent)
        self._database = Database(path, KIND)
        self._write_lock = threading.Lock()
        self._gate = Gate()
        with self._database.writing() as connection:
            # Catalogues may be newer than this file, if it was lost or restored: what they name may not come
            # to stand for another image. Keys begin above the microseconds until now, and grow more slowly.
            now_us = time.time_ns() // 1000
            connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?)", (now_us,))

    def add(self, files: Mapping[str, bytes], replaced: Iterable[int]) -> dict[str, int]:
        """Keep files by the ids of their items, and return their keys; both these and `replaced` in doubt."""
        keys: dict[str, int] = {}
        with self._open(), self._write_lock:
            with self._database.writing() as connection:
                for item_id, file in files.items():
                    cursor = connection.execute(
                        "INSERT INTO originals (id, checksum, file) VALUES (?, ?, ?)",
                        (item_id, _checksum(file), file),
                    )
                    assert cursor.lastrowid is not None
                    keys[item_id] = cursor.lastrowid
                doubts = [(key,) for key in (*replaced, *keys.values())]
                connection.executemany("INSERT OR IGNORE INTO doubts VALUES (?)", doubts)
                connection.execute(
                    "UPDATE state SET num_files = num_files + ?, num_bytes = num_bytes + ?",
                    (len(files), sum(map(len, files.values()))),
                )
            try:
                self._database.limit_wal()
            except (BackendUnavailable, StoreCorrupt) as exc:  # What was written is safe.
                _logger.warning("upkeep of %s is put off: %s", self.path, exc)
        return keys

    def settle(self, named: Iterable[int], unnamed: Sequence[int]) -> None:
        """End the doubt: items name the first keys, and none names the others, whose files are deleted."""
        with self._open(), self._write_lock, self._database.writing() as connection:
            connection.executemany("DELETE FROM doubts WHERE key = ?", [(key,) for key in (*named, *unnamed)])
            for key in unnamed:
                row = connection.execute(
                    "SELECT length(file) FROM originals WHERE key = ?", (key,)
                ).fetchone()
                if row is not None:
                    connection.execute("DELETE FROM originals WHERE key = ?", (key,))
                    connection.execute(
                        "UPDATE state SET num_files = num_files - 1, num_bytes = num_bytes - ?", row
                    )

    def doubts(self) -> dict[int, str]:
        """The keys in doubt, with the ids of their items."""
        with self._open(), self._database.reading() as connection:
            return dict(connection.execute("SELECT key, id FROM doubts JOIN originals USING (key)"))

    def page(self, after: int, limit: int) -> dict[int, str]:
        """Up to `limit` keys above `after`, in order, with the ids of their items."""
        with self._open(), self._database.reading() as connection:
            return dict(
                connection.execute(
                    "SELECT key, id FROM originals WHERE key > ? ORDER BY key LIMIT ?", (after, limit)
                )
            )

    @property
    def sweep_is_due(self) -> bool:
        """Whether there may be files that no item names and that are in no doubt."""
        with self._open(), self._database.reading() as connection:
            return bool(connection.execute("SELECT sweep_is_due FROM state").fetchone()[0])

    @sweep_is_due.setter
    def sweep_is_due(self, value: bool) -> None:
        with self._open(), self._write_lock, self._database.writing() as connection:
            connection.execute("UPDATE state SET sweep_is_due = ?", (value,))

    def read(self, key: int, item_id: str) -> bytes | None:
        """The file that is kept of an item under a key, or None if there is none.

        Raises StoreCorrupt if it is not what was written.
        """
        with self._open(), self._database.reading() as connection:
            row = connection.execute(
                "SELECT checksum, file FROM originals WHERE key = ? AND id = ?", (key, item_id)
            ).fetchone()
        if row is None:
            return None
        checksum, file = row
        if _checksum(file) != checksum:
            raise StoreCorrupt(f"{self.path}: {_damage(key)}")
        kept: bytes = file
        return kept

    def info(self) -> OriginalsInfo:
        """How much is kept."""
        with self._open(), self._database.reading() as connection:
            return OriginalsInfo(*connection.execute("SELECT num_files, num_bytes FROM state").fetchone())

    def check_files(self) -> list[str]:
        """A line for each fault of the file and of what is kept in it. Writes go on."""
        with self._open():
            with self._database.reading() as connection:
                rows = connection.execute("PRAGMA integrity_check").fetchall()
            faults = [row[0] for row in rows if row[0] != "ok"]
            last: int | None = 0
            while last is not None:
                last = self._check_page(last, faults)
        return [f"{self.path}: {fault}" for fault in faults]

    def check_names(self, named: Set[int]) -> list[str]:
        """A line for each fault of the counters and of the keys that items name, which may not change now."""
        with self._open(), self._database.reading() as connection:
            counted = connection.execute("SELECT num_files, num_bytes FROM state").fetchone()
            there = connection.execute("SELECT count(*), total(length(file)) FROM originals").fetchone()
            keys = {key for (key,) in connection.execute("SELECT key FROM originals")}
            doubts = {key for (key,) in connection.execute("SELECT key FROM doubts")}
            (sweep_is_due,) = connection.execute("SELECT sweep_is_due FROM state").fetchone()
        faults = []
        if counted != there:
            faults.append(f"{counted} originals and bytes are counted, and there are {there}")
        if missing := named - keys:
            faults.append(f"{len(missing)} originals that items name are not there: restore a backup")
        if (needless := keys - named - doubts) and not sweep_is_due:
            faults.append(f"{len(needless)} originals are of no item: they only take space")
        return [f"{self.path}: {fault}" for fault in faults]

    def close(self) -> None:
        """Close the file once calls under way are done. Every other call then raises BackendUnavailable."""
        self._gate.shut()
        self._database.close()

    def _check_page(self, last: int, faults: list[str]) -> int | None:
        """Check the next files above a key, and return the last of them; see `Database.reading`."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT key, checksum, file FROM originals WHERE key > ? ORDER BY key LIMIT ?", (last, _PAGE)
            )
            found = None
            for key, checksum, file in rows:
                found = key
                if _checksum(file) != checksum:
                    faults.append(_damage(key))
        return found

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._gate.entered() as is_open:
            if not is_open:
                raise BackendUnavailable(f"{self.path} is closed: try again")
            yield


class OriginalsFolder:
    """The originals of all collections, each made when first needed. Safe to use from many threads."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER_NAME
        self._lock = threading.Lock()
        self._opened: dict[str, Originals] = {}
        self._is_closed = False

    def open(self, collections: Sequence[str]) -> None:
        """Open those that there are, and clear up what was being made or deleted.

        Raises StoreCorrupt, BackendUnavailable.
        """
        if not self._folder.exists():
            return
        with translated_files(self._folder):
            for path in sorted(self._folder.iterdir()):
                kept = self._folder / path.name.removeprefix(_DELETED)
                if kept != path and kept.stem in collections and not kept.exists():
                    path.rename(kept)  # The collection was about to be deleted, and was not.
                elif path.name.startswith(_TEMPORARY):
                    path.unlink()
            for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
                if path.stem in collections:
                    self._opened[path.stem] = Originals(path)
                else:
                    _logger.warning("%s is left alone: there is no collection %r", path, path.stem)

    def of(self, collection: str, make: bool = False) -> Originals | None:
        """Those of a collection; None if there are none, unless `make` says to begin.

        Raises BackendUnavailable once they are closed.
        """
        with self._lock:
            if self._is_closed:
                raise BackendUnavailable("the store is closed: open it again")
            if make and collection not in self._opened:
                path = self._path(collection)
                with translated_files(self._folder):
                    if not self._folder.exists():
                        self._folder.mkdir()
                        sync_folder(self._folder.parent)
                    if path.exists():
                        self._set_apart(path)
                self._opened[collection] = Originals(path)
            return self._opened.get(collection)

    def set_aside(self, collection: str) -> None:
        """First step of deleting those of a collection. A crash before the collection is gone undoes it."""
        with self._lock:
            opened = self._opened.pop(collection, None)
            if opened is not None:
                opened.close()
                with translated_files(opened.path):
                    opened.path.rename(self._doomed(collection))
                    _unlink_logs(opened.path)

    def put_back(self, collection: str) -> None:
        """Undo `set_aside`, since the collection could not be deleted."""
        with translated_files(self._folder), suppress(FileNotFoundError):
            self._doomed(collection).rename(self._path(collection))

    def delete_aside(self, collection: str) -> None:
        """Last step: the collection is gone."""
        with translated_files(self._folder):
            self._doomed(collection).unlink(missing_ok=True)

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            self._is_closed = True
            for opened in self._opened.values():
                opened.close()

    def _set_apart(self, path: Path) -> None:
        """Keep a file that was left alone under another name: a collection of its own begins anew."""
        other = path.with_name(f"{path.stem}.{time.time_ns()}{_SUFFIX}")
        for ending in ("", *_LOGS):
            with suppress(FileNotFoundError):
                path.with_name(path.name + ending).rename(other.with_name(other.name + ending))
        _logger.warning("%s was of a collection that was not there: it is %s now", path, other.name)

    def _path(self, collection: str) -> Path:
        return self._folder / (collection + _SUFFIX)

    def _doomed(self, collection: str) -> Path:
        return self._folder / (_DELETED + collection + _SUFFIX)


def _unlink_logs(path: Path) -> None:
    """Delete what SQLite may have left beside a file. Raises OSError."""
    for ending in _LOGS:
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _checksum(file: bytes) -> bytes:
    return hashlib.blake2b(file, digest_size=8).digest()


def _damage(key: int) -> str:
    return f"the original {key} is not what was written: restore a backup, or write its item again"
