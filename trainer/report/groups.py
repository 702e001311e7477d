"""Which runs belong together, and what to call them.

Runs are averaged or joined by a line only if they share their images and every setting, but for the seed
and for what a figure varies. Settings that have no effect on a run (the hardness of a Gaussian) do not count.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

from trainer.report.content import Source
from trainer.report.records import Run, Setup

T = TypeVar("T")
System = Literal["bernoulli", "gaussian", "supervised", "supervised-bernoulli", "simclr"]

SYSTEMS: dict[System, str] = {
    "bernoulli": "StochCon Bernoulli",
    "gaussian": "StochCon Iso-Gauss",
    "supervised": "Supervised",
    "supervised-bernoulli": "Supervised with Gumbel-Bernoulli",
    "simclr": "SimCLR",
}
"""In the order of Table 1."""

LATENT = (
    "latent",
    "num_bits",
    "hard",
    "variance",
    "placement",
    "gumbel_start",
    "gumbel_end",
    "latent_dropout",
)
"""Settings of a latent; systems of one backbone and budget differ in these."""


def system_of(run: Run) -> System:
    setup = run.setup
    if setup.objective == "supervised":
        return "supervised" if setup.latent == "none" else "supervised-bernoulli"
    return "simclr" if setup.latent == "none" else setup.latent


def of_system(runs: Iterable[Run], *systems: System) -> list[Run]:
    return [run for run in runs if system_of(run) in systems]


def kind_of(setup: Setup) -> str:
    """A latent without its width, for example `soft-top`; empty where there is but one kind."""
    if setup.latent == "bernoulli":
        place = f"-{setup.placement}" if setup.local_views else ""
        return f"{'hard' if setup.hard else 'soft'}{place}"
    return "own variance" if setup.latent == "gaussian" and setup.variance == "own" else ""


def variant_of(setup: Setup) -> str:
    """A latent as the paper names it, for example `soft-top 512`; empty without one."""
    return "" if setup.latent == "none" else f"{kind_of(setup)} {setup.num_bits}".strip()


def settings(setup: Setup) -> dict[str, Any]:
    """Every setting that has an effect on the run, without its name and seed."""
    idle = {"name", "seed"}
    if setup.latent == "none":
        idle |= {*LATENT[1:]}
    if setup.latent == "gaussian":
        idle |= {"hard", "gumbel_start", "gumbel_end"}
    if setup.latent == "bernoulli":
        idle |= {"variance"}
    if not setup.local_views:
        idle |= {"placement"}
    if setup.objective == "supervised":
        idle |= {"temperature", "head_hidden", "head_width", "head_layers", "placement"}
    return {name: value for name, value in setup.model_dump().items() if name not in idle}


def identity(run: Run, *varied: str) -> str:
    """Equal for runs that have the same images and the same settings, except those `varied`."""
    known = {name: value for name, value in settings(run.setup).items() if name not in varied}
    return json.dumps([run.record.images, known], sort_keys=True)


def tuning_of(run: Run) -> tuple[object, ...]:
    """Equal for runs that were fine-tuned alike; empty for one that was not."""
    tuning = run.fine_tuning
    return (tuning.on, tuning.epochs, tuning.batch_size, tuning.lr) if tuning else ()


def backbone(run: Run) -> tuple[object, ...]:
    """Equal for runs on the same images with the same network, whatever else they do."""
    setup = run.setup
    return run.record.images, setup.image_size, setup.depth, setup.width, setup.stem


def headline(runs: Sequence[Run]) -> list[Run]:
    """Of runs of one system those with the largest budget: the most epochs, and then the widest latent."""
    size = max(((run.setup.epochs, run.setup.num_bits) for run in runs), default=None)
    return [run for run in runs if (run.setup.epochs, run.setup.num_bits) == size]


def by(items: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    """Items that share a key, in the order of their first."""
    found: dict[Any, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def grouped(
    runs: Iterable[Run],
    *varied: str,
    also: Callable[[Run], object] = lambda run: None,
    keep: Callable[[list[Run]], bool] = bool,
) -> list[tuple[str, list[Run], Source]]:
    """Groups that one figure can show: of one identity, and of equal `also`, that `keep` accepts.

    Each with what to add to the key of its figure ("", "-2", "-3"), and with where its numbers come from.
    Those with the most settings come first.
    """
    made = by(runs, lambda run: (identity(run, *varied), also(run))).values()
    groups = sorted(filter(keep, made), key=lambda group: -len({identity(run) for run in group}))
    alike = by(groups, lambda group: source(group).setting)
    told = [
        _telling(group[0].setup, [other[0].setup for other in alike[source(group).setting]], varied)
        for group in groups
    ]
    return [
        (suffix(number), group, source(group, extra))
        for number, (group, extra) in enumerate(zip(groups, told, strict=True))
    ]


def suffix(number: int) -> str:
    """What to add to the key of the first, second, ... figure of one kind."""
    return f"-{number + 1}" if number else ""


def details(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Variant and epochs of each group, and what else tells it from those of the same name."""

    def name(setup: Setup) -> tuple[object, ...]:
        return setup.objective, variant_of(setup), setup.epochs

    setups = [group[0].setup for group in groups]
    alike = by(setups, name)
    phrases = [
        (variant_of(setup), count_of(setup.epochs, "epoch"), *_telling(setup, alike[name(setup)]))
        for setup in setups
    ]
    return [", ".join(phrase for phrase in of_one if phrase) for of_one in phrases]


def _telling(setup: Setup, others: Sequence[Setup], said: Iterable[str] = ()) -> list[str]:
    """Settings in which `others` differ, those of `said` left out, with the value that `setup` has."""
    ours, known = settings(setup), [settings(other) for other in others]
    names = sorted({name for values in known for name in values} - set(said))
    return [
        f"{name} {_shown(ours.get(name))}"
        for name in names
        if len({json.dumps(values.get(name)) for values in known}) > 1
    ]


def _shown(value: object) -> str:
    """A setting in a few characters: of views, which are long, a digest."""
    text = json.dumps(value)
    return text if len(text) < 20 else f"#{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def source(runs: Sequence[Run], extra: Sequence[str] = ()) -> Source:
    """Images, network, views and budget, where they differ every value; and names, seeds, machine, time."""
    phrases = (
        _distinct(f"{run.dataset} ({run.record.num_images:,} images)" for run in runs),
        _distinct(f"ResNet-{s.depth}, width {s.width}, {s.image_size} px" for s in _setups(runs)),
        _distinct(_views(s) for s in _setups(runs)),
        _distinct(f"{count_of(s.epochs, 'epoch')}, batch {s.batch_size}" for s in _setups(runs)),
    )
    return Source(" · ".join((*phrases, *extra)), provenance(runs))


def provenance(runs: Sequence[Run]) -> str:
    """Names with their seeds, hardware, and the time of all runs together."""
    names = by(runs, lambda run: run.setup.name + (" fine-tuned" if run.fine_tuning else ""))
    listed = ", ".join(f"{name} ({_seeds(found)})" for name, found in names.items())
    hours = sum(run.record.seconds for run in runs) / 3600
    hardware = _distinct(machine(run) for run in runs)
    return f"{count_of(len(runs), 'run')}: {listed}. {hardware}; {hours:.1f} hours together."


def machine(run: Run) -> str:
    threads, ranks = count_of(run.record.threads, "thread"), count_of(run.record.ranks, "rank")
    return f"{run.record.hardware}; {threads}, {ranks}"


def count_of(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _seeds(runs: Sequence[Run]) -> str:
    seeds = sorted({run.setup.seed for run in runs})
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _setups(runs: Sequence[Run]) -> list[Setup]:
    return [run.setup for run in runs]


def _views(setup: Setup) -> str:
    if setup.objective == "supervised":
        return "one view"
    return f"{len(setup.global_views)} + {len(setup.local_views)} views"


def _distinct(phrases: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(phrases))
