"""Which folder holds the current generation of each collection, and which the other one, if it has two.

    data_dir/generations.json

A generation is a collection's items under one model. A new one is filled beside the current one, and the one
before is kept, so that a switch, there or back, only changes this file. It is replaced as a whole, so all
collections switch in the same moment as the model that encodes. A collection that is not in it has one
generation, in the folder of its own name.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from contracts.errors import StoreCorrupt
from index.files import write_durably

FILE_NAME = "generations.json"
_VERSION = 1
_SEPARATOR = "@"  # Between a collection's name, which cannot have it, and a generation's number.


@dataclass(frozen=True, slots=True)
class Generations:
    """One state of the file."""

    current: Mapping[str, str] = field(default_factory=dict)
    """Folder name by collection, where it is not the collection's own name."""
    other: Mapping[str, str] = field(default_factory=dict)
    """The same of the generation that is being filled, or that was current before."""
    active_model: str | None = None
    """Id of the model that encodes; None until one was activated."""

    def current_folder(self, name: str) -> str:
        """Name of the folder of the current generation."""
        return self.current.get(name, name)

    def new_folder(self, name: str) -> str:
        """Name for the folder of another generation."""
        taken = {self.current_folder(name), self.other.get(name)}
        number = 2
        while f"{name}{_SEPARATOR}{number}" in taken:
            number += 1
        return f"{name}{_SEPARATOR}{number}" if name in taken else name

    def with_other(self, name: str, folder: str | None) -> "Generations":
        """With that other generation, or none."""
        others = {key: value for key, value in self.other.items() if key != name}
        return Generations(self.current, others | ({name: folder} if folder else {}), self.active_model)

    def without(self, name: str) -> "Generations":
        """Without anything of a collection that is gone."""
        currents = {key: value for key, value in self.current.items() if key != name}
        return Generations(currents, self.with_other(name, None).other, self.active_model)

    def switched(self, names: "frozenset[str]", active_model: str) -> "Generations":
        """With current and other exchanged for those collections, and another model."""
        current, other = dict(self.current), dict(self.other)
        for name in names:
            current[name], other[name] = other[name], self.current_folder(name)
        return Generations(current, other, active_model)


def collection_of(folder: str) -> str:
    """The collection that a folder of this name is of."""
    return folder.partition(_SEPARATOR)[0]


def read_generations(data_dir: Path) -> Generations:
    """What the file says; nothing special if there is none. Raises StoreCorrupt, OSError."""
    path = data_dir / FILE_NAME
    try:
        content = json.loads(path.read_bytes())
        if content.pop("version") != _VERSION:
            raise StoreCorrupt(f"{path} is of another version of StochCon: upgrade it, or restore a backup")
        return Generations(**content)
    except FileNotFoundError:
        return Generations()
    except (ValueError, KeyError, TypeError) as exc:
        raise StoreCorrupt(f"{path} is damaged ({exc}): restore it from a backup") from exc


def write_generations(data_dir: Path, generations: Generations) -> None:
    """Replace the file, durably and at once. Raises OSError."""
    content = json.dumps({"version": _VERSION, **asdict(generations)}, indent=1)
    write_durably(data_dir / FILE_NAME, content.encode())
