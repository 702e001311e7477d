"""Checkpoints: written atomically, loaded with `weights_only=True`, enough to resume bit for bit.

Randomness is keyed by step and sample, so weights, momenta and the step are all the state there is.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.recipe import Recipe

CHECKPOINT = "last.pt"
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run after `step` steps."""

    recipe: Recipe
    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    images: str
    """Fingerprint of the source, which a resumed run must have again."""
    classes: list[str]
    """Names of the classes of a supervised run; empty otherwise."""


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Make the run folder if need be and keep other runs out of it. Raises ValueError if one is there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "run.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ValueError(f"another run is using {folder}: wait for it, or choose another --out") from exc
        yield


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `last.pt`: on return it is durable, and at no moment is there a torn one."""
    partial = folder / f"{CHECKPOINT}.part"
    with partial.open("wb") as file:
        torch.save(
            {
                "format": _FORMAT,
                "recipe": checkpoint.recipe.to_dict(),
                "step": checkpoint.step,
                "model": checkpoint.model,
                "optimizer": checkpoint.optimizer,
                "images": checkpoint.images,
                "classes": checkpoint.classes,
            },
            file,
        )
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / CHECKPOINT)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(folder: Path) -> Checkpoint | None:
    """The run's checkpoint on CPU, or None if it has none yet. Raises ValueError if it cannot be read."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] == _FORMAT:
            return Checkpoint(
                recipe=Recipe.from_dict(state["recipe"]),
                step=state["step"],
                model=state["model"],
                optimizer=state["optimizer"],
                images=state["images"],
                classes=state["classes"],
            )
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror}") from exc
    except Exception as exc:  # The unpickler raises of every kind on a damaged file.
        raise ValueError(
            f"{path} cannot be read ({type(exc).__name__}): it is no checkpoint, or is damaged; "
            "remove it to start the run anew"
        ) from exc
    raise ValueError(f"{path} has format {state['format']} and this version reads {_FORMAT}")
