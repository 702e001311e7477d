"""Runs that were never trained: random weights and statistics in the files that training leaves."""

from pathlib import Path

import torch
from torch import nn

from trainer import checkpoint as checkpoints
from trainer.checkpoint import Checkpoint
from trainer.classifier import Classifier
from trainer.model import StochCon
from trainer.recipe import FineTuning, Recipe, Representation

COLOURS = ["red", "green", "blue"]
"""The classes of `tests.tiny_images`."""


def make_run(folder: Path, recipe: Recipe, on: Representation | None = None) -> nn.Module:
    """A run of `recipe`, or with `on` one fine-tuned on it; returns its model in evaluation mode."""
    torch.manual_seed(1)
    supervised = recipe.objective == "supervised"
    finetuning = None if on is None else FineTuning(on=on, weights="0" * 64)
    model = StochCon(recipe, len(COLOURS) if supervised else 0) if on is None else Classifier(recipe, on, 3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # of which some start at zero
            nn.init.uniform_(module.weight, 0.5, 1.5)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.save(
        folder,
        Checkpoint(
            recipe=recipe,
            step=1,
            model=model.state_dict(),
            optimizer={},
            images="",
            classes=COLOURS if supervised or on else [],
            finetuning=finetuning,
        ),
    )
    return model.eval()
