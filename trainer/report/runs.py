"""Run folders, read and checked: all that the report knows.

A folder has `run.json` and, as far as they have been made, `metrics.jsonl`, `evaluation.json`,
`baselines.json`, `units.json`, `probe.json` and `probe-COLUMN.json`. The folder of a fine-tuned model has
`finetune.json` beside its `run.json`.
"""

import itertools
import math
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from trainer.report.groups import identity
from trainer.report.json_files import Fields, read_lines
from trainer.report.records import Effort, FineTuned, Images, Probe, Run, Runs, Scores, Setup, Units

T = TypeVar("T")

_FORMAT = 1
_ROUNDING = 2e-6
"""By how much numbers rounded to six digits may differ."""

_DATASETS = {
    "tinyimagenet": "Tiny ImageNet",
    "cifar100": "CIFAR-100",
    "cifar10": "CIFAR-10",
    "imagenet": "ImageNet",
}
"""What is looked for in a name without its punctuation, in this order, and what it means."""


def read_runs(folders: Iterable[Path]) -> Runs:
    """The runs of `folders`; a folder named twice counts once. Raises ValueError for a damaged one."""
    distinct = {folder.resolve(): folder for folder in folders}
    found = [read_run(folder) for folder in distinct.values()]
    _check_distinct(found)
    return Runs(
        trained=tuple(run for run in found if isinstance(run, Run) and run.finished),
        fine_tuned=tuple(run for run in found if isinstance(run, FineTuned) and run.finished),
        unfinished=tuple(run for run in found if not run.finished),
    )


def read_run(folder: Path) -> Run | FineTuned:
    """The run in `folder`. Raises ValueError naming the file that is missing or damaged."""
    record = folder / "run.json"
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: give run folders, as `stochcon train` makes them")
    if not record.exists():
        raise ValueError(
            f"{folder} has no run.json: it is no run folder, or its run has not reached a checkpoint yet"
        )
    fields = Fields.read(record)
    version = fields.integer("format")
    if version != _FORMAT:
        raise ValueError(f"{record} has format {version} and this version reads {_FORMAT}")
    images = Images(fields.text("images"), _dataset(fields), fields.integer("num_images"))
    effort = Effort(
        hardware=fields.text("hardware"),
        threads=fields.integer("threads"),
        ranks=fields.integer("ranks"),
        seconds=fields.number("seconds", 0),
    )
    finetune = folder / "finetune.json"
    if finetune.exists():
        return _fine_tuned(Fields.read(finetune), folder, images, effort)
    metrics = folder / "metrics.jsonl"
    return Run(
        folder=folder,
        setup=_setup(fields.nested("recipe")),
        images=images,
        effort=effort,
        steps=fields.integer("steps"),
        num_steps=fields.integer("num_steps", 1),
        metrics=tuple(_metrics(line) for line in read_lines(metrics)) if metrics.exists() else (),
        evaluation=_optional(folder / "evaluation.json", Fields.all_numbers) or {},
        baselines=_optional(folder / "baselines.json", _baselines) or {},
        units=_optional(folder / "units.json", _units),
        probe=_optional(folder / "probe.json", _probe),
        regressions={
            path.stem.removeprefix("probe-"): _regression(Fields.read(path))
            for path in sorted(folder.glob("probe-*.json"))
        },
    )


def _setup(recipe: Fields) -> Setup:
    return Setup(
        name=recipe.text("name"),
        objective=recipe.choice("objective", ("contrastive", "supervised")),
        latent=recipe.choice("latent", ("bernoulli", "gaussian", "none")),
        hard=recipe.truth("hard"),
        variance=recipe.choice("variance", ("opposing", "own")),
        placement=recipe.choice("placement", ("top", "bottom")),
        num_bits=recipe.integer("num_bits", 1),
        latent_dropout=recipe.number("latent_dropout", 0, 1),
        depth=recipe.integer("depth", 1),
        width=recipe.integer("width", 1),
        image_size=recipe.integer("image_size", 1),
        num_global_views=len(recipe.entries("global_views")),
        num_local_views=len(recipe.entries("local_views")),
        epochs=recipe.integer("epochs", 1),
        batch_size=recipe.integer("batch_size", 1),
        seed=recipe.integer("seed"),
        values=recipe.values,
    )


def _check_distinct(runs: Iterable[Run | FineTuned]) -> None:
    """Raise ValueError for a run that is given twice: it would count as two seeds."""
    seen: dict[tuple[object, ...], Path] = {}
    for run in runs:
        key: tuple[object, ...] = (identity(run), run.setup.seed)
        if isinstance(run, FineTuned):
            key += (run.on, run.epochs, run.seed)
        if key in seen:
            raise ValueError(
                f"{seen[key]} and {run.folder} are the same run (same images, settings and seed): "
                "give one of them"
            )
        seen[key] = run.folder


def _dataset(record: Fields) -> str:
    """What the images are called: by their paths in the command, or else by the recipe's name."""
    paths = _image_paths(record.text("command"))
    for text in (*paths, record.nested("recipe").text("name")):
        plain = re.sub(r"[^a-z0-9]", "", text.lower())
        for mark, dataset in _DATASETS.items():
            if mark in plain:
                return dataset
    return ", ".join(paths) or "unnamed images"


def _image_paths(command: str) -> list[str]:
    """What follows each `--images`, the last two parts of each path."""
    try:
        words = shlex.split(command)
    except ValueError:  # A quotation mark without its fellow: then the command names nothing.
        return []
    named = [after for word, after in itertools.pairwise(words) if word == "--images"]
    named += [word.partition("=")[2] for word in words if word.startswith("--images=")]
    return ["/".join(Path(path).parts[-2:]) for path in named]


def _optional(path: Path, read: Callable[[Fields], T]) -> T | None:
    return read(Fields.read(path)) if path.exists() else None


def _metrics(line: Fields) -> dict[str, float]:
    line.number("step", 0)
    line.number("epoch", 0)
    return line.all_numbers()


def _baselines(fields: Fields) -> dict[str, dict[int, dict[str, float]]]:
    found: dict[str, dict[int, dict[str, float]]] = {}
    for method in fields.values:
        sizes = fields.nested(method)
        found[method] = {
            _whole(sizes, num_bits): sizes.nested(num_bits).all_numbers() for num_bits in sizes.values
        }
    return found


def _units(fields: Fields) -> Units:
    scores = fields.nested("f1")
    return Units(
        num_images=fields.integer("num_images", 1),
        folds=fields.integer("folds", 2),
        f1={_whole(scores, key): scores.nested(key).number("mean", 0, 1) for key in scores.values},
        deviation={_whole(scores, key): scores.nested(key).number("std", 0) for key in scores.values},
    )


def _probe(fields: Fields) -> Probe:
    found = fields.nested("representations")
    return Probe(
        epochs=fields.integer("epochs", 1),
        sampled_at_test=fields.truth("sampled_at_test") if "sampled_at_test" in fields else None,
        scores={name: _scores(found.nested(name), "top1", 0) for name in found.values},
        errors={},
        baseline_error=None,
    )


def _regression(fields: Fields) -> Probe:
    found = fields.nested("representations")
    return Probe(
        epochs=fields.integer("epochs", 1),
        sampled_at_test=fields.truth("sampled_at_test") if "sampled_at_test" in fields else None,
        scores={name: _scores(found.nested(name), "r2", -math.inf) for name in found.values},
        errors={name: found.nested(name).numbers("mae", 0)[-1] for name in found.values},
        baseline_error=fields.number("baseline_mae", 0),
    )


def _fine_tuned(fields: Fields, folder: Path, images: Images, effort: Effort) -> FineTuned:
    return FineTuned(
        folder=folder,
        setup=_setup(fields.nested("pretraining")),
        images=images,
        effort=effort,
        on=fields.choice("on", ("h", "z", "bits")),
        epochs=fields.integer("epochs", 1),
        seed=fields.integer("seed"),
        scores=_scores(fields, "top1", 0),
    )


def _scores(fields: Fields, name: str, lowest: float) -> Scores:
    """Scores that agree with themselves: `best` and `last` are those of the list."""
    scores = Scores(
        epochs=fields.numbers(name, lowest, 1),
        best=fields.number("best", lowest, 1),
        last=fields.number("last", lowest, 1),
        best_epoch=fields.integer("best_epoch"),
    )
    for field, value, listed in (
        ("best", scores.best, max(scores.epochs)),
        ("last", scores.last, scores.epochs[-1]),
    ):
        if abs(value - listed) > _ROUNDING:
            raise fields.error(field, f"is {value} and {name} says {listed}")
    return scores


def _whole(fields: Fields, name: str) -> int:
    if not name.isdecimal():
        raise fields.error(name, "is a name, where a whole number belongs")
    return int(name)
