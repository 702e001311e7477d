"""Checkpoints: written atomically, loaded with `weights_only=True`, enough to resume bit for bit.

Randomness is keyed by step and sample, so weights, momenta and the step are all the state there is.
"""

import dataclasses
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer.recipe import FineTuning, Recipe

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
    """Names of the classes of a supervised or fine-tuned run; empty otherwise."""
    finetuning: FineTuning | None = None
    """What makes the run one of fine-tuning: then the model is a `Classifier`, and `recipe` that of the
    network it started from."""
    scores: dict[str, list[float]] = field(default_factory=dict)
    """Of a fine-tuned run: accuracies after each epoch so far."""


def digest(weights: dict[str, Any]) -> str:
    """SHA-256, in hex, over the names and values of a state on CPU: one for each set of weights."""
    found = hashlib.sha256()
    for name, tensor in weights.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


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
                "finetuning": checkpoint.finetuning and dataclasses.asdict(checkpoint.finetuning),
                "scores": checkpoint.scores,
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
    content = read(folder)
    return None if content is None else parse(content, folder)


def read(folder: Path) -> bytes | None:
    """The run's checkpoint as it is in its file, or None. Raises ValueError if it cannot be read."""
    path = folder / CHECKPOINT
    try:
        return path.read_bytes() if path.exists() else None
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror}") from exc


def parse(content: bytes, folder: Path) -> Checkpoint:
    """The checkpoint that `read` found in `folder`. Raises ValueError if it is none."""
    path = folder / CHECKPOINT
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if state["format"] == _FORMAT:
            return Checkpoint(
                recipe=Recipe.from_dict(state["recipe"]),
                step=state["step"],
                model=state["model"],
                optimizer=state["optimizer"],
                images=state["images"],
                classes=state["classes"],
                finetuning=FineTuning(**state["finetuning"]) if state.get("finetuning") else None,
                scores=state.get("scores", {}),
            )
    except Exception as exc:  # The unpickler raises of every kind on a damaged file.
        raise ValueError(
            f"{path} cannot be read ({type(exc).__name__}): it is no checkpoint, or is damaged; "
            "remove it to start the run anew"
        ) from exc
    raise ValueError(f"{path} has format {state['format']} and this version reads {_FORMAT}")
