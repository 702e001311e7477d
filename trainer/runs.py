"""Reading back what a run has made."""

from dataclasses import dataclass
from pathlib import Path

from trainer import checkpoint as checkpoints
from trainer.classifier import Classifier
from trainer.model import Encoder, StochCon
from trainer.recipe import FineTuning, Recipe


@dataclass(frozen=True, slots=True)
class Trained:
    """A run's last checkpoint."""

    recipe: Recipe
    """Of a fine-tuned run, that of the network it started from."""
    model: Encoder
    """In evaluation mode: a `Classifier` if it was fine-tuned, else a `StochCon`."""
    classes: list[str]
    """Names of the classes of a supervised or fine-tuned run; empty otherwise."""
    finetuning: FineTuning | None


def load_run(folder: Path) -> Trained:
    """The run of `folder`. Raises ValueError if there is none."""
    checkpoint = checkpoints.load(folder)
    if checkpoint is None:
        raise ValueError(f"{folder} holds no {checkpoints.CHECKPOINT}: train with `stochcon train` first")
    recipe, finetuning = checkpoint.recipe, checkpoint.finetuning
    num_classes = len(checkpoint.classes)
    model: Encoder = (
        StochCon(recipe, num_classes)
        if finetuning is None
        else Classifier(recipe, finetuning.on, num_classes)
    )
    model.load_state_dict(checkpoint.model)
    return Trained(recipe, model.eval(), checkpoint.classes, finetuning)
