"""The commands that would make what is missing."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainer.report.records import Runs

_SYSTEM = re.compile(r"^(.+?)-(?:bernoulli|gaussian|simclr|supervised)(?:-.*)?$")


def train(runs: Runs, *systems: str) -> str:
    """To train the recipes of these `systems`, as `stochcon train --list` names them, of the runs' family."""
    names = [run.setup.name for run in runs.trained] + [run.setup.name for run in runs.fine_tuned]
    families = Counter(match[1] for name in names if (match := _SYSTEM.match(name)))
    family = families.most_common(1)[0][0] if families else "cifar10-small"
    return "; ".join(f"stochcon train {family}-{system} --images TRAIN --monitor TEST" for system in systems)


def evaluate(folders: Sequence[Path], only: str = "") -> str:
    return _each("evaluate", folders, f" --only {only}" if only else "")


def probe(folders: Sequence[Path], target: str = "") -> str:
    return _each("probe", folders, f" --target {target}" if target else "")


def finetune(folders: Sequence[Path], on: str) -> str:
    return _each("finetune", folders, f" --on {on} --out FOLDER")


def _each(verb: str, folders: Iterable[Path], options: str) -> str:
    """The command for the first folder; for the others it is the same."""
    named = list(folders)
    run = str(named[0]) if named else "RUN"
    others = f" (and for {len(named) - 1} more)" if len(named) > 1 else ""
    return f"stochcon {verb} {run} --images TRAIN --queries TEST{options}{others}"
