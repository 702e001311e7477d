"""Run folders, read and checked: all that the report knows."""

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from trainer.report.groups import identity, tuning_of
from trainer.report.records import (
    Baselines,
    Evaluation,
    FineTuning,
    Probe,
    Record,
    Regression,
    Run,
    Runs,
    Units,
)

M = TypeVar("M", bound=BaseModel)

_METRICS = TypeAdapter(dict[str, float])

_DATASETS = {
    "tinyimagenet": "Tiny ImageNet",
    "cifar100": "CIFAR-100",
    "cifar10": "CIFAR-10",
    "imagenet": "ImageNet",
}
"""What is looked for in a name without its punctuation, in this order, and what it means."""


def read_runs(paths: Iterable[Path]) -> Runs:
    """The runs of `paths`, each a run folder or a folder of run folders; named twice counts once.

    Raises ValueError, naming the file, for what is no run or is damaged.
    """
    folders = {folder.resolve(): folder for path in paths for folder in _run_folders(path)}
    found = [read_run(folder) for folder in folders.values()]
    finished = [run for run in found if run.finished]
    _check_distinct(finished)
    return Runs(
        trained=tuple(run for run in finished if run.fine_tuning is None),
        fine_tuned=tuple(run for run in finished if run.fine_tuning is not None),
        unfinished=tuple(run for run in found if not run.finished),
    )


def read_run(folder: Path) -> Run:
    """The run in `folder`. Raises ValueError naming the file that is damaged."""
    record = _read(Record, folder / "run.json")
    assert record is not None  # the folder is one of a run because it has that file
    probes = {path.stem.removeprefix("probe-"): path for path in sorted(folder.glob("probe-*.json"))}
    regressions = {column: _read(Regression, path) for column, path in probes.items()}
    return Run(
        folder=folder,
        dataset=_dataset(record),
        record=record,
        metrics=tuple(_metrics(folder / "metrics.jsonl")),
        evaluation=_read(Evaluation, folder / "evaluation.json") or Evaluation(),
        baselines=_read(Baselines, folder / "baselines.json"),
        units=_read(Units, folder / "units.json"),
        probe=_read(Probe, folder / "probe.json"),
        regressions={column: probe for column, probe in regressions.items() if probe},
        fine_tuning=_read(FineTuning, folder / "finetune.json"),
    )


def _run_folders(path: Path) -> list[Path]:
    if (path / "run.json").exists():
        return [path]
    found = sorted(record.parent for record in path.glob("*/run.json"))
    if not found:
        raise ValueError(f"{path} has no run.json, nor has a folder in it: give folders that `train` made")
    return found


def _read(kind: type[M], path: Path) -> M | None:
    """What the file holds, or None if there is none."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        raise _damaged(path, exc) from exc


def _metrics(path: Path) -> Iterator[dict[str, float]]:
    """Lines of numbers; a last line without its end is one that is being written."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            values = _METRICS.validate_json(line, strict=True)
        except ValidationError as exc:
            raise _damaged(path, exc, f"line {number}") from exc
        if "epoch" not in values:
            raise ValueError(f"{path} is damaged: line {number} has no epoch; train that run again")
        yield values


def _damaged(path: Path, exc: ValidationError, place: str = "") -> ValueError:
    first = exc.errors(include_url=False)[0]
    where = " ".join(part for part in (place, ".".join(map(str, first["loc"]))) if part) or "its content"
    return ValueError(f"{path} is damaged: {where}: {first['msg']}; write it again")


def _check_distinct(runs: Iterable[Run]) -> None:
    """Raise ValueError for a run that is given twice: it would count as two seeds."""
    seen: dict[tuple[object, ...], Path] = {}
    for run in runs:
        tuning = (*tuning_of(run), run.fine_tuning.seed) if run.fine_tuning else ()
        first = seen.setdefault((identity(run), run.setup.seed, *tuning), run.folder)
        if first != run.folder:
            raise ValueError(
                f"{first} and {run.folder} are the same run (images, settings and seed): give one of them"
            )


def _dataset(record: Record) -> str:
    """What the images are called: by their paths in the command, or else by the recipe's name."""
    paths = _image_paths(record.command)
    for text in (*paths, record.recipe.name):
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
