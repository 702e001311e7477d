"""Checkpoints: written atomically, loaded with `weights_only=True`, enough to resume bit for bit.

Randomness is keyed by step and sample, so weights, momenta and the step are all the state there is.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.recipe import Recipe

CHECKPOINT = "last.pt"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run after `step` steps."""

    recipe: Recipe
    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]


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
            )
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror}") from exc
    except Exception as exc:  # The unpickler raises of every kind on a damaged file.
        raise ValueError(
            f"{path} cannot be read ({type(exc).__name__}): it is no checkpoint, or is damaged; "
            "remove it to start the run anew"
        ) from exc
    raise ValueError(f"{path} has format {state['format']} and this version reads {_FORMAT}")
