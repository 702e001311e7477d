"""Run folders for tests: the files that training and evaluation leave, with numbers of the test's choice."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.catalogue import find_recipe

FINGERPRINT = "c1fa" * 16
HARDWARE = "AMD EPYC 9R45, 2 cores"
_BUDGET = {"width": 16, "epochs": 15, "batch_size": 256, "base_lr": 1.5, "temperature": 0.2}


def small(system: str, **changes: Any) -> dict[str, Any]:
    """The recipe `cifar10-small-SYSTEM`, as files hold it, with a budget of its own and changes."""
    return find_recipe(f"cifar10-small-{system}").to_dict() | _BUDGET | changes


def write_run(folder: Path, recipe: Mapping[str, Any], **record: Any) -> Path:
    """A finished run of `recipe`; `record` changes what run.json says."""
    values = {
        "format": 1,
        "recipe": dict(recipe),
        "classes": [],
        "num_images": 50_000,
        "images": FINGERPRINT,
        "command": f"stochcon train {recipe['name']} --images data/cifar10/train.parquet",
        "hardware": HARDWARE,
        "torch": "2.13.0",
        "threads": 1,
        "ranks": 1,
        "seconds": 1800.0,
        "steps": 195 * recipe["epochs"],
        "num_steps": 195 * recipe["epochs"],
    }
    folder.mkdir(parents=True)
    write(folder / "run.json", values | record)
    return folder


def write_probe(folder: Path, top1: Mapping[str, Sequence[float]], **changes: Any) -> None:
    """`probe.json` with top-1 after each epoch, by reading."""
    found = {name: scores("top1", values) for name, values in top1.items()}
    epochs = len(next(iter(top1.values())))
    values = {"epochs": epochs, "seed": 0, "sampled_at_test": False, "representations": found}
    write(folder / "probe.json", values | changes)


def write_regression(folder: Path, column: str, r2: Mapping[str, Sequence[float]], mae: float) -> None:
    """`probe-COLUMN.json`; the error falls to `mae` in the last epoch."""
    found = {
        name: scores("r2", values) | {"mae": [mae + 0.01 * i for i in reversed(range(len(values)))]}
        for name, values in r2.items()
    }
    epochs = len(next(iter(r2.values())))
    values = {"epochs": epochs, "seed": 0, "sampled_at_test": False, "baseline_mae": 0.4}
    write(folder / f"probe-{column}.json", values | {"representations": found})


def write_fine_tuned(
    folder: Path, pretraining: Mapping[str, Any], on: str, top1: Sequence[float], **record: Any
) -> Path:
    """The folder of a fine-tuned model."""
    write_run(folder, pretraining, **record)
    values = {
        "run": pretraining["name"],
        "pretraining": dict(pretraining),
        "on": on,
        "epochs": len(top1),
        "batch_size": 256,
        "lr": 3e-4,
        "seed": pretraining["seed"],
    }
    write(folder / "finetune.json", values | scores("top1", top1))
    return folder


def write_metrics(folder: Path, lines: Sequence[Mapping[str, float]]) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_units(folder: Path, f1: Mapping[int, float], recipe: Mapping[str, Any], std: float = 0.01) -> None:
    found = {str(count): {"mean": mean, "std": std} for count, mean in f1.items()}
    values = {"latent": recipe["latent"], "width": recipe["num_bits"], "num_images": 10_000, "folds": 5}
    write(folder / "units.json", values | {"f1": found})


def scores(name: str, values: Sequence[float]) -> dict[str, Any]:
    """Scores of epochs, and which of them is the best and the last."""
    best = max(values)
    return {name: list(values), "best": best, "last": values[-1], "best_epoch": list(values).index(best) + 1}


def write(path: Path, values: object) -> None:
    path.write_text(json.dumps(values))
