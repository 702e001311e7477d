"""What a run folder holds, as typed values. Shares (top-1, mAP, F1) are from 0 to 1, as in the files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Setup:
    """A recipe, as far as the report speaks of it; `values` has every field."""

    name: str
    objective: Literal["contrastive", "supervised"]
    latent: Literal["bernoulli", "gaussian", "none"]
    hard: bool
    variance: Literal["opposing", "own"]
    placement: Literal["top", "bottom"]
    num_bits: int
    latent_dropout: float
    depth: int
    width: int
    image_size: int
    num_global_views: int
    num_local_views: int
    epochs: int
    batch_size: int
    seed: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Images:
    """What a run was trained on."""

    fingerprint: str
    dataset: str
    """A known name, or the paths that the command named."""
    count: int


@dataclass(frozen=True, slots=True)
class Effort:
    """What it took."""

    hardware: str
    threads: int
    ranks: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Scores:
    """A score after each epoch of a probe or of fine-tuning."""

    epochs: tuple[float, ...]
    best: float
    last: float
    best_epoch: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear probe of a frozen network: top-1, or R² of a numeric column."""

    epochs: int
    sampled_at_test: bool | None
    scores: Mapping[str, Scores]
    """For `h`, `z`, `z_sampled` and `bits`, as far as they were probed."""
    errors: Mapping[str, float]
    """Mean absolute error for the same, of the last epoch; empty unless it is a regression."""
    baseline_error: float | None
    """Mean absolute error of always saying the mean; None unless it is a regression."""


@dataclass(frozen=True, slots=True)
class Units:
    """F1 of a random forest that sees so many units."""

    num_images: int
    folds: int
    f1: Mapping[int, float]
    deviation: Mapping[int, float]
    """Standard deviation over folds."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that was trained from the start."""

    folder: Path
    setup: Setup
    images: Images
    effort: Effort
    steps: int
    num_steps: int
    metrics: tuple[Mapping[str, float], ...]
    evaluation: Mapping[str, float]
    baselines: Mapping[str, Mapping[int, Mapping[str, float]]]
    """By method and number of bits; `floats` has 0 bits. Empty if they were not made."""
    units: Units | None
    probe: Probe | None
    regressions: Mapping[str, Probe]

    @property
    def finished(self) -> bool:
        return self.steps >= self.num_steps


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A run that went on, with labels, from another one's weights."""

    folder: Path
    setup: Setup
    """Of the run that it went on from."""
    images: Images
    effort: Effort
    on: str
    """What the linear layer reads: `h`, `z` or `bits`."""
    epochs: int
    seed: int
    scores: Scores

    @property
    def finished(self) -> bool:
        return len(self.scores.epochs) >= self.epochs


@dataclass(frozen=True, slots=True)
class Runs:
    trained: tuple[Run, ...]
    fine_tuned: tuple[FineTuned, ...]
    unfinished: tuple[Run | FineTuned, ...]
    """Not among the others: what a run will come to is not known before its end."""
