"""Beyond the paper: what learned bits are worth beside bits that need no training, and how full they are."""

from collections.abc import Sequence

from trainer.report import commands
from trainer.report.content import Chart, Line, Missing, Part, Reference, Role, Stat
from trainer.report.curves import PERCENT, points
from trainer.report.groups import (
    LATENT_FIELDS,
    by,
    grouped,
    headline,
    identity,
    kind_of,
    numbered,
    source,
    system_of,
    variant_of,
)
from trainer.report.records import Run, Runs

_WHAT = "Bits against quality"

_METHODS: dict[str, tuple[str, Role]] = {
    "sign": ("sign", "sign"),
    "itq": ("ITQ", "itq"),
    "projection": ("random projection", "projection"),
    "pq": ("product quantisation", "pq"),
}
"""Codes that need no training of a network, as figures name them."""

_FEWEST, _MOST = 32, 2048
"""Bits of the codes that are compared."""

_SCORES = {"map": ("mAP", "mAP (%)"), "knn_top1": ("k-NN", "k-NN top-1 (%)")}


def bits_against_quality(runs: Runs) -> list[Part]:
    """Learned codes beside codes made of SimCLR's h, and beside codes made of StochCon's own h."""
    ours = [run for run in runs.trained if system_of(run.setup) in ("simclr", "bernoulli")]
    made: list[Part] = []
    groups = grouped(ours, *LATENT_FIELDS, keep=lambda group: any(run.baselines for run in group))
    for number, (group, _) in enumerate(groups):
        learned = [run for run in group if system_of(run.setup) == "bernoulli"]
        made += _charts("SimCLR's h", "simclr", _makers(group, "simclr"), learned, number)
        made += _charts("StochCon's own h", "stochcon", _makers(group, "bernoulli"), learned, number)
    if made:
        return made
    reason = "no SimCLR or Bernoulli run has baselines.json"
    return [Missing(_WHAT, reason, commands.evaluate([run.folder for run in ours], "baselines"))]


def _makers(group: Sequence[Run], system: str) -> list[Run]:
    """Seeds of one setting whose h is coded: of the widest latent, and of its variants the first."""
    compared = [run for run in group if system_of(run.setup) == system and run.baselines]
    variants = by(headline(compared), identity)
    return next(iter(variants.values()), [])


def _charts(name: str, short: str, makers: Sequence[Run], learned: Sequence[Run], number: int) -> list[Part]:
    """A chart for each score, of codes of the h of `makers` beside `learned` ones."""
    if not makers:
        return []
    where = source([*makers, *(run for run in learned if run not in makers)], "num_bits", "latent")
    return [
        Chart(
            key=numbered(f"bits-{short}-{score}", number),
            title=f"{_WHAT} ({label}): learned codes and codes of {name}",
            x_label="bits of a code",
            y_label=y_label,
            lines=(*_learned_lines(learned, score), *_baseline_lines(makers, score)),
            references=_floats(makers, score, name),
            x_scale="log2",
            source=where,
            caption=f"Every query against the whole gallery. Coded is {_coded(makers[0], name)}.",
            paper="Not in the paper.",
        )
        for score, (label, y_label) in _SCORES.items()
    ]


def _coded(maker: Run, name: str) -> str:
    variant = variant_of(maker.setup)
    return f"{name} ({variant})" if variant else name


def _learned_lines(runs: Sequence[Run], score: str) -> tuple[Line, ...]:
    """A line for each variant of the latent, over its widths."""
    lines = []
    for shade, variant in enumerate(by(runs, lambda run: identity(run, "num_bits")).values()):
        kind = kind_of(variant[0].setup)
        found = points((run.setup.num_bits, PERCENT * value) for run, value in _learned(variant, score))
        if found:
            lines.append(Line(f"learned, {kind}", "bernoulli", found, shade=shade))
    return tuple(lines)


def _learned(runs: Sequence[Run], score: str) -> list[tuple[Run, float]]:
    """Scores of the runs' own codes, all from the one file or all from the other."""
    sized = [run for run in runs if _FEWEST <= run.setup.num_bits <= _MOST]
    compared = [(run, scores[score]) for run in sized if score in (scores := _own_scores(run))]
    evaluated = [
        (run, run.evaluation[f"codes_{score}"]) for run in sized if f"codes_{score}" in run.evaluation
    ]
    return compared if len(compared) >= len(evaluated) else evaluated


def _own_scores(run: Run) -> dict[str, float]:
    return dict(run.baselines.get("learned", {}).get(run.setup.num_bits, {}))


def _baseline_lines(makers: Sequence[Run], score: str) -> tuple[Line, ...]:
    lines = []
    for method, (label, role) in _METHODS.items():
        found = points(
            (num_bits, PERCENT * scores[score])
            for run in makers
            for num_bits, scores in run.baselines.get(method, {}).items()
            if score in scores and _FEWEST <= num_bits <= _MOST
        )
        if found:
            lines.append(Line(label, role, found))
    return tuple(lines)


def _floats(makers: Sequence[Run], score: str, name: str) -> tuple[Reference, ...]:
    values = [PERCENT * run.baselines["floats"][0][score] for run in makers if _has_floats(run, score)]
    if not values:
        return ()
    mean = Stat.of(values).mean
    return (Reference(mean, f"floats of {name}: {mean:.1f}"),)


def _has_floats(run: Run, score: str) -> bool:
    return score in run.baselines.get("floats", {}).get(0, {})
