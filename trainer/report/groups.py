"""Which runs belong together, and what to call them.

Runs are averaged or joined by a line only if they share their images and every setting, but for the seed
and for what a figure varies. Settings that have no effect on a run (the hardness of a Gaussian) do not count.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

from trainer.report.content import Source
from trainer.report.records import Effort, FineTuned, Run, Setup

T = TypeVar("T")
AnyRun = TypeVar("AnyRun", bound=Run | FineTuned)
System = Literal["bernoulli", "gaussian", "supervised", "simclr", "supervised-bernoulli"]

SYSTEM_NAMES: dict[System, str] = {
    "bernoulli": "StochCon Bernoulli",
    "gaussian": "StochCon Iso-Gauss",
    "supervised": "Supervised",
    "simclr": "SimCLR",
    "supervised-bernoulli": "Supervised with Gumbel-Bernoulli",
}

LATENT_FIELDS = (
    "latent",
    "num_bits",
    "hard",
    "variance",
    "placement",
    "gumbel_start",
    "gumbel_end",
    "latent_dropout",
)
"""What a latent is; systems of one backbone and budget differ in these."""

_DESCRIBED = {
    "objective",
    "image_size",
    "depth",
    "width",
    "global_views",
    "local_views",
    "epochs",
    "batch_size",
    *LATENT_FIELDS[:5],
}
"""Settings that `describe` says of itself."""


def system_of(setup: Setup) -> System:
    if setup.objective == "supervised":
        return "supervised" if setup.latent == "none" else "supervised-bernoulli"
    return "simclr" if setup.latent == "none" else setup.latent


def kind_of(setup: Setup) -> str:
    """A latent without its width, for example `soft-top`; empty where there is but one kind."""
    place = f"-{setup.placement}" if setup.num_local_views else ""
    if setup.latent == "bernoulli":
        annealed = (setup.values.get("gumbel_start"), setup.values.get("gumbel_end"))
        usual = "" if annealed == (1.0, 0.1) else f" (τ from {annealed[0]} to {annealed[1]})"
        return f"{'hard' if setup.hard else 'soft'}{place}{usual}"
    own = "own variance" if setup.variance == "own" else ""
    return " ".join(part for part in (place.removeprefix("-"), own) if part)


def variant_of(setup: Setup) -> str:
    """A latent as the paper names it, for example `soft-top 512`; empty without one."""
    return "" if setup.latent == "none" else f"{kind_of(setup)} {setup.num_bits}".strip()


def details(groups: Sequence[Sequence[Run | FineTuned]]) -> list[str]:
    """Variant and epochs of each group, and what else tells it from those of the same name."""
    setups = [group[0].setup for group in groups]
    named = by(setups, lambda setup: (system_of(setup), variant_of(setup), setup.epochs))
    made = []
    for setup in setups:
        alike = named[system_of(setup), variant_of(setup), setup.epochs]
        phrases = [variant_of(setup), f"{setup.epochs} epochs", *_telling(setup, alike)]
        made.append(", ".join(phrase for phrase in phrases if phrase))
    return made


def settings(setup: Setup) -> dict[str, Any]:
    """Every setting that has an effect on the run, without its name and seed."""
    known = dict(setup.values)
    idle = ["name", "seed"]
    if setup.latent == "none":
        idle += LATENT_FIELDS[1:]
    if setup.latent == "gaussian":
        idle += ["hard", "gumbel_start", "gumbel_end"]
    if setup.latent == "bernoulli":
        idle += ["variance"]
    if not setup.num_local_views:
        idle += ["placement"]
    if setup.objective == "supervised":
        idle += ["temperature", "head_hidden", "head_width", "head_layers", "placement"]
    return {name: value for name, value in known.items() if name not in idle}


def identity(run: Run | FineTuned, *varied: str) -> str:
    """Equal for runs that have the same images and the same settings, except those `varied`."""
    known = {name: value for name, value in settings(run.setup).items() if name not in varied}
    return json.dumps([run.images.fingerprint, known], sort_keys=True)


def backbone(run: Run | FineTuned) -> tuple[object, ...]:
    """Equal for runs on the same images with the same network, whatever else they do."""
    setup = run.setup
    return run.images.fingerprint, setup.image_size, setup.depth, setup.width, setup.values.get("stem")


def headline(runs: Sequence[AnyRun]) -> list[AnyRun]:
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
    runs: Iterable[AnyRun],
    *varied: str,
    also: Callable[[AnyRun], object] = lambda run: None,
    keep: Callable[[list[AnyRun]], bool] = bool,
) -> list[tuple[list[AnyRun], Source]]:
    """Groups of one identity, and of equal `also`, that `keep` accepts, with where their numbers come from.

    What tells one group from another is said of each.
    """
    made = by(runs, lambda run: (identity(run, *varied), also(run))).values()
    groups = [group for group in made if keep(group)]
    setups = [group[0].setup for group in groups]
    return [
        (group, source(group, *varied, extra=_telling(setup, setups, {*_DESCRIBED, *varied})))
        for group, setup in zip(groups, setups, strict=True)
    ]


def _telling(setup: Setup, others: Sequence[Setup], said: Iterable[str] = ()) -> list[str]:
    """Settings in which `others` differ, those of `said` left out, with the value that `setup` has."""
    known = [settings(other) for other in others]
    names = sorted({name for values in known for name in values} - set(said))
    return [
        f"{name} {_shown(settings(setup).get(name))}"
        for name in names
        if len({json.dumps(values.get(name)) for values in known}) > 1
    ]


def _shown(value: object) -> str:
    """A setting in a few characters: of views, which are long, a digest."""
    text = json.dumps(value)
    return text if len(text) < 20 else f"#{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def source(runs: Sequence[Run | FineTuned], *varied: str, extra: Sequence[str] = ()) -> Source:
    return Source(" · ".join([*describe(runs, *varied), *extra]), provenance(runs))


def numbered(key: str, number: int) -> str:
    """The key of the first, second, ... figure of one kind."""
    return key if number == 0 else f"{key}-{number + 1}"


def describe(runs: Sequence[Run | FineTuned], *varied: str) -> list[str]:
    """Images, network, views and budget of runs, a phrase each; where they differ, every value."""
    setups = [run.setup for run in runs]
    images = _distinct(
        f"{run.images.dataset} ({run.images.count:,} images, {run.images.fingerprint[:8]})" for run in runs
    )
    found = [
        images,
        _distinct(f"ResNet-{s.depth}, width {s.width}, {s.image_size} px" for s in setups),
        _distinct(_views(s) for s in setups),
        _distinct(f"{s.epochs} epochs, batch {s.batch_size}" for s in setups),
    ]
    if "latent" not in varied:
        name = kind_of if "num_bits" in varied else variant_of
        hidden = {"hard", "variance"} & set(varied)
        found.append("" if hidden else _distinct(name(s) for s in setups if s.latent != "none"))
    return [phrase for phrase in found if phrase]


def provenance(runs: Sequence[Run | FineTuned]) -> str:
    """Names with their seeds, hardware, and the time of all runs together."""
    names = by(runs, lambda run: run.setup.name + (" fine-tuned" if isinstance(run, FineTuned) else ""))
    listed = ", ".join(f"{name} ({_seeds(found)})" for name, found in names.items())
    hardware = _distinct(_machine(run.effort) for run in runs)
    hours = sum(run.effort.seconds for run in runs) / 3600
    return f"{count_of(len(runs), 'run')}: {listed}. {hardware}; {hours:.1f} hours together."


def _machine(effort: Effort) -> str:
    return f"{effort.hardware}; {count_of(effort.threads, 'thread')}, {count_of(effort.ranks, 'rank')}"


def _seeds(runs: Sequence[Run | FineTuned]) -> str:
    seeds = sorted({run.setup.seed for run in runs})
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _views(setup: Setup) -> str:
    if setup.objective == "supervised":
        return "one view"
    return f"{setup.num_global_views} + {setup.num_local_views} views"


def _distinct(phrases: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(phrases))


def count_of(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
