"""What is kept of the activation of a model: how far it is, across restarts."""

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from contracts.errors import BackendUnavailable
from index.files import translated_files, write_durably

FILE_NAME = "activation.json"

State = Literal["checking", "encoding", "waiting", "done", "failed", "cancelled"]
"""`waiting`: items would be left out, and nobody has said yet what to do with them."""

OPEN_STATES: tuple[State, ...] = ("checking", "encoding", "waiting")

Policy = Literal["ask", "leave-out", "keep"]
"""What is to become of items that cannot be encoded again: wait for a decision, go on without them, or keep
the old generation of the collections that have any."""


@dataclass(frozen=True, slots=True)
class Activation:
    """How far it is."""

    model: str
    """Id of the model that is being activated."""
    previous: str
    """Id of the model that was active before."""
    missing: Policy
    state: State = "checking"
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Job that encodes again, by collection."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Items that could not be encoded again, by collection; the failures of its job say why."""
    check: Mapping[str, Any] | None = None
    """What the check in a fresh process found; see `service.model_check.ModelCheck`."""
    reason: str | None = None
    """Why it failed."""

    @property
    def is_open(self) -> bool:
        """Whether anything is still to come."""
        return self.state in OPEN_STATES


class ActivationRecord:
    """The activation that is under way, or the last one, in a file. Safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        """Raises BackendUnavailable if the file is there and cannot be read."""
        self._path = path
        self.lock = threading.RLock()
        """Held by whoever changes more than what is kept here in one step."""
        self.current = _read(path)

    def update(self, **changes: Any) -> Activation:
        """Change what is kept, unless it is over. Raises BackendUnavailable if only memory could be."""
        with self.lock:
            assert self.current is not None
            return self.write(replace(self.current, **changes)) if self.current.is_open else self.current

    def write(self, activation: Activation) -> Activation:
        """Begin another. Raises BackendUnavailable if only memory could be changed."""
        with self.lock:
            self.current = activation
            with translated_files(self._path):
                write_durably(self._path, json.dumps(asdict(activation)).encode())
            return activation


def _read(path: Path) -> Activation | None:
    try:
        return Activation(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as exc:
        raise BackendUnavailable(
            f"{path} cannot be read ({exc}): restore a backup of it, or remove it and activate again"
        ) from exc
