"""The folders of collections: which generation each is, and how they come and go."""

import shutil
from pathlib import Path
from uuid import uuid4

from contracts.codes import num_bytes
from contracts.errors import StoreCorrupt
from index.catalog import Catalog
from index.collection import CATALOG_NAME, SEGMENTS_NAME
from index.files import sync_folder, translated_files
from index.generations import (
    FILE_NAME,
    Generations,
    collection_of,
    read_generations,
    write_generations,
)
from index.protocol import ModelRef, other_generation

COLLECTIONS_NAME = "collections"
_TEMPORARY = "."  # First character of folders being made or deleted; no collection's name has it.


class Folders:
    """What lies in `collections/`. The caller sees to it that calls queue."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._root = data_dir / COLLECTIONS_NAME
        self.generations = Generations()

    def find(self) -> dict[str, Path]:
        """Folders of current generations by name, and of other ones by `other_generation(name)`.

        What was being made or deleted is cleared away. Raises StoreCorrupt, BackendUnavailable.
        """
        found: dict[str, Path] = {}
        with translated_files(self._root):
            self.generations = read_generations(self._data_dir)
            for folder in sorted(self._root.iterdir()):
                if folder.name.startswith(_TEMPORARY):
                    shutil.rmtree(folder)
                    continue
                name = collection_of(folder.name)
                if self.generations.other.get(name) == folder.name:
                    name = other_generation(name)
                elif self.generations.current_folder(name) != folder.name:
                    raise StoreCorrupt(
                        f"{folder} is not in {FILE_NAME}: restore that file from the same backup, or move "
                        "the folder away if it is not needed"
                    )
                found[name] = folder
        for name, other in self.generations.other.items():
            if other_generation(name) in found and name not in found:
                raise StoreCorrupt(
                    f"{self._root / other} is another generation of the collection {name!r}, whose folder "
                    f"{self.generations.current_folder(name)} is not there: put it back, or move both away"
                )
        self._forget_all_but(found)
        return found

    def create(self, name: str, model: ModelRef, segment_slots: int) -> Path:
        """Make a folder with an empty catalogue, whole or not at all. Raises BackendUnavailable."""
        num_bytes(model.num_bits)
        folder = self._root / name
        with translated_files(folder):
            unfinished = self._root / f"{_TEMPORARY}new-{uuid4().hex}"
            (unfinished / SEGMENTS_NAME).mkdir(parents=True)
            Catalog.create(unfinished / CATALOG_NAME, model, segment_slots)
            sync_folder(unfinished)
            unfinished.rename(folder)
            sync_folder(self._root)
        return folder

    def take_away(self, folder: Path) -> Path:
        """Take a folder away at once, and return where it is for `delete`. Raises BackendUnavailable."""
        doomed = self._root / f"{_TEMPORARY}deleted-{uuid4().hex}"
        with translated_files(folder):
            folder.rename(doomed)
        return doomed

    def sync(self) -> None:
        """Make durable what was taken away. Raises BackendUnavailable."""
        with translated_files(self._root):
            sync_folder(self._root)

    def delete(self, doomed: Path) -> None:
        """Delete what was taken away; may take a while. Raises BackendUnavailable."""
        with translated_files(self._root):
            shutil.rmtree(doomed)

    def write(self, generations: Generations) -> None:
        """Make these the generations, durably, if they are others. Raises BackendUnavailable."""
        if generations == self.generations:
            return
        with translated_files(self._data_dir / FILE_NAME):
            write_generations(self._data_dir, generations)
        self.generations = generations

    def _forget_all_but(self, found: dict[str, Path]) -> None:
        """Forget generations whose making or deleting was cut off."""
        known = self.generations
        for name in {*known.current, *known.other}:
            if name not in found:
                # The other generation goes first when a collection is deleted, so none is left here.
                known = known.without(name)
            elif other_generation(name) not in found:
                known = known.with_other(name, None)
        self.write(known)
