"""The commands that would make what is missing."""

import re
from collections import Counter
from collections.abc import Sequence

from trainer.report.records import Run, Runs

_SYSTEM = re.compile(r"^(.+?)-(?:bernoulli|gaussian|simclr|supervised)(?:-.*)?$")


def train(runs: Runs, *systems: str) -> str:
    """To train the recipes of these `systems`, as `stochcon train --list` names them, of the runs' family."""
    names = [run.setup.name for run in (*runs.trained, *runs.fine_tuned)]
    families = Counter(match[1] for name in names if (match := _SYSTEM.match(name)))
    family = families.most_common(1)[0][0] if families else "cifar10-small"
    return "; ".join(f"stochcon train {family}-{system} --images TRAIN --monitor TEST" for system in systems)


def measure(verb: str, of: Sequence[Run] = (), options: str = "") -> str:
    """To probe, evaluate or fine-tune the first run; for the others it is the same."""
    others = f" (and for {len(of) - 1} more)" if len(of) > 1 else ""
    given = f" {options}" if options else ""
    return f"stochcon {verb} {of[0].folder if of else 'RUN'} --images TRAIN --queries TEST{given}{others}"


def make(runs: Runs, of: Sequence[Run], systems: Sequence[str], verb: str, options: str = "") -> str:
    """To measure these runs; if there are none, to train these systems first."""
    if of:
        return measure(verb, of, options)
    return f"{train(runs, *systems)}; then {measure(verb, (), options)}"
