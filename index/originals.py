"""Image files that are kept of items, so that another model can encode them again.

    data_dir/originals/<collection>.sqlite

An item names its file by a key; keys are never used twice, and a file never changes. Both generations of a
collection name the same files. No transaction spans this file and a catalogue, so a key is in doubt from
before a write that may begin or end to name it, until that write is known to be done or not. Whoever
opens the store after a crash asks the catalogues about the keys in doubt; nothing else has to be looked at.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from contracts.errors import BackendUnavailable, StoreCorrupt
from index.database import Database, FileKind
from index.files import sync_folder, translated_files
from index.gate import Gate

FOLDER_NAME = "originals"
_SUFFIX = ".sqlite"
_PAGE = 100
_TEMPORARY = "."  # First character of files being made; no collection's name has it.

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
    num_bytes INTEGER NOT NULL
) STRICT;
"""
KIND = FileKind("a file of originals", application_id=0x53744F31, version=1, schema=_SCHEMA)  # "StO1"


@dataclass(frozen=True, slots=True)
class OriginalsInfo:
    """How much is kept."""

    num_files: int
    num_bytes: int


class Originals:
    """The image files of one collection. Safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, or make it. Raises StoreCorrupt, BackendUnavailable."""
        with translated_files(path):
            if not path.exists():
                unfinished = path.with_name(f"{_TEMPORARY}new-{uuid4().hex}")
                Database.create(unfinished, KIND, "INSERT INTO state VALUES (1, 0, 0)")
                unfinished.rename(path)
                sync_folder(path.parent)
        self._database = Database(path, KIND)
        self._write_lock = threading.Lock()
        self._gate = Gate()

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
            self._database.limit_wal()
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

    def read(self, key: int) -> bytes | None:
        """The file of a key, or None if there is none. Raises StoreCorrupt if it is not what was written."""
        with self._open(), self._database.reading() as connection:
            row = connection.execute("SELECT checksum, file FROM originals WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        checksum, file = row
        if _checksum(file) != checksum:
            raise StoreCorrupt(f"{self._database.path}: {_damage(key)}")
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
        return [f"{self._database.path}: {fault}" for fault in faults]

    def check_names(self, named: Set[int]) -> list[str]:
        """A line for each fault of the counters and of the keys that items name, which may not change now."""
        with self._open(), self._database.reading() as connection:
            counted = connection.execute("SELECT num_files, num_bytes FROM state").fetchone()
            there = connection.execute("SELECT count(*), total(length(file)) FROM originals").fetchone()
            keys = {key for (key,) in connection.execute("SELECT key FROM originals")}
            doubts = {key for (key,) in connection.execute("SELECT key FROM doubts")}
        faults = []
        if counted != there:
            faults.append(f"{counted} originals and bytes are counted, and there are {there}")
        if missing := named - keys:
            faults.append(f"{len(missing)} originals that items name are not there: restore a backup")
        if needless := keys - named - doubts:
            faults.append(f"{len(needless)} originals are of no item: they only take space")
        return [f"{self._database.path}: {fault}" for fault in faults]

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
                raise BackendUnavailable(f"{self._database.path} is closed: try again")
            yield


class OriginalFiles:
    """The originals of all collections, each opened when first needed. Safe to use from many threads."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER_NAME
        self._lock = threading.Lock()
        self._opened: dict[str, Originals] = {}

    def of(self, collection: str, make: bool = False) -> Originals | None:
        """Those of a collection; None if there are none, unless `make` says to begin."""
        path = self._path(collection)
        with self._lock:
            found = self._opened.get(collection)
            if found is None and (make or path.exists()):
                with translated_files(self._folder):
                    self._folder.mkdir(exist_ok=True)
                found = self._opened[collection] = Originals(path)
            return found

    def delete(self, collection: str) -> None:
        """Delete those of a collection. Raises BackendUnavailable."""
        with self._lock:
            opened = self._opened.pop(collection, None)
            if opened is not None:
                opened.close()
            with translated_files(self._folder):
                for suffix in ("", "-wal", "-shm"):
                    path = self._path(collection)
                    path.with_name(path.name + suffix).unlink(missing_ok=True)

    def keep_only(self, collections: Sequence[str]) -> None:
        """Delete what is left of collections that are gone, and of files whose making was cut off."""
        if not self._folder.exists():
            return
        with translated_files(self._folder):
            kept = {self._path(name).name for name in collections}
            for path in self._folder.iterdir():
                if path.name.removesuffix("-wal").removesuffix("-shm") not in kept:
                    path.unlink()

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            for opened in self._opened.values():
                opened.close()

    def _path(self, collection: str) -> Path:
        return self._folder / (collection + _SUFFIX)


def _checksum(file: bytes) -> bytes:
    return hashlib.blake2b(file, digest_size=8).digest()


def _damage(key: int) -> str:
    return f"the original {key} is not what was written: restore a backup, or write its item again"
