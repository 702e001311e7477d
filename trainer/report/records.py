"""The files of a run folder as typed values, with what the report speaks of and no more.

Shares (top-1, mAP, F1) are from 0 to 1, as in the files.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainer.recipe import Recipe, View

Reading = Literal["h", "z", "z_sampled", "bits"]
"""What a linear layer reads of a network, at test; `z_sampled` is z with noise."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]


class _File(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Setup(_File, extra="allow"):
    """A recipe. Settings that are not named here are kept, since they tell runs apart.

    A run that was made before there was a setting has what is now its default.
    """

    name: str
    objective: Literal["contrastive", "supervised"]
    latent: Literal["bernoulli", "gaussian", "none"]
    hard: bool
    variance: Literal["opposing", "own"]
    placement: Literal["top", "bottom"]
    num_bits: Count
    latent_dropout: Share
    depth: Count
    width: Count
    stem: str
    image_size: Count
    global_views: tuple[dict[str, Any], ...]
    local_views: tuple[dict[str, Any], ...]
    epochs: Count
    batch_size: Count
    seed: int

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        newer = {key: value for key, value in _defaults(Recipe).items() if key not in cls.model_fields}
        full = newer | values
        for views in ("global_views", "local_views"):
            if isinstance(full.get(views), list):
                # A tuple, since pydantic takes what a validator returns for Python's values, not JSON's.
                full[views] = tuple(_defaults(View) | v if isinstance(v, dict) else v for v in full[views])
        return full


class Record(_File):
    """`run.json`; of a fine-tuned model, `recipe` is that of the run that it went on from."""

    format: Literal[1]
    recipe: Setup
    images: str
    """Fingerprint of what was trained on."""
    num_images: int
    command: str
    hardware: str
    threads: int
    ranks: int
    steps: int
    num_steps: Count
    seconds: Seconds


class Evaluation(_File):
    """`evaluation.json`; None where a number does not apply or was not measured."""

    codes_knn_top1: Share | None = None
    codes_map: Share | None = None
    features_knn_top1: Share | None = None
    features_map: Share | None = None
    active_bits: float | None = None
    entropy_bits: float | None = None
    dead_bits: float | None = None
    aggregate_variance: float | None = None
    top1: Share | None = None
    """Of a network with a classifier of its own."""


class Quality(_File):
    """Retrieval by one kind of code."""

    knn_top1: Share
    map: Share


class Baselines(_File):
    """`baselines.json`: by number of bits; `floats` are h itself, with 0 bits."""

    floats: dict[int, Quality] = {}
    learned: dict[int, Quality] = {}
    sign: dict[int, Quality] = {}
    itq: dict[int, Quality] = {}
    projection: dict[int, Quality] = {}
    pq: dict[int, Quality] = {}


class F1(_File):
    """Over folds."""

    mean: Share
    std: float


class Units(_File):
    """`units.json`: random forests that see so many units."""

    folds: Count
    f1: Annotated[dict[int, F1], Field(min_length=1)]


class Scores(_File):
    """Top-1 after each epoch."""

    top1: Annotated[tuple[Share, ...], Field(min_length=1)]

    @property
    def best(self) -> float:
        return max(self.top1)

    @property
    def last(self) -> float:
        return self.top1[-1]


class Probe(_File):
    """`probe.json`: linear probes of a frozen network, for each representation that it has."""

    epochs: Count
    representations: Annotated[dict[Reading, Scores], Field(min_length=1)]


class Fit(_File):
    """R² and mean absolute error after each epoch."""

    r2: Annotated[tuple[float, ...], Field(min_length=1)]
    mae: Annotated[tuple[float, ...], Field(min_length=1)]


class Regression(_File):
    """`probe-COLUMN.json`."""

    epochs: Count
    baseline_mae: float
    """Of always saying the mean."""
    representations: Annotated[dict[Reading, Fit], Field(min_length=1)]


class FineTuning(Scores):
    """`finetune.json`."""

    on: Literal["h", "z", "bits"]
    epochs: Count
    batch_size: Count
    lr: float
    seed: int
    sampled: Scores | None = None
    """The same layer on `z_sampled`."""

    @property
    def readings(self) -> dict[Reading, Scores]:
        return {self.on: self} | ({"z_sampled": self.sampled} if self.sampled else {})


@dataclass(frozen=True, slots=True)
class Run:
    folder: Path
    dataset: str
    """A known name, or the paths that the command named."""
    record: Record
    metrics: tuple[Mapping[str, float], ...]
    evaluation: Evaluation
    baselines: Baselines | None
    units: Units | None
    probe: Probe | None
    regressions: Mapping[str, Regression]
    """By column."""
    fine_tuning: FineTuning | None
    """None for a run that was trained from the start."""

    @property
    def setup(self) -> Setup:
        return self.record.recipe

    @property
    def finished(self) -> bool:
        tuning = self.fine_tuning
        tuned = tuning is None or len(tuning.top1) >= tuning.epochs
        return tuned and self.record.steps >= self.record.num_steps


@dataclass(frozen=True, slots=True)
class Runs:
    """Finished ones of either kind; what the others will come to is not known before their end."""

    trained: tuple[Run, ...]
    fine_tuned: tuple[Run, ...]
    unfinished: tuple[Run, ...]


def _defaults(kind: type[Recipe] | type[View]) -> dict[str, Any]:
    """Settings that have a default, as JSON would hold it."""
    found = {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain
