"""Beyond the paper: what learned bits are worth beside bits that need no training."""

from collections.abc import Sequence

from trainer.report import commands
from trainer.report.content import Chart, Line, Missing, Part, Reference, Role, Stat
from trainer.report.curves import PERCENT, points
from trainer.report.groups import (
    LATENT,
    System,
    by,
    grouped,
    headline,
    identity,
    kind_of,
    of_system,
    source,
    variant_of,
)
from trainer.report.records import Quality, Run, Runs

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

_MADE_OF: dict[System, str] = {"simclr": "SimCLR's h", "bernoulli": "StochCon's own h"}


def bits_against_quality(runs: Runs) -> list[Part]:
    """Learned codes beside codes made of SimCLR's h, and beside codes made of StochCon's own h."""
    ours = of_system(runs.trained, "simclr", "bernoulli")
    made: list[Part] = []
    groups = grouped(ours, *LATENT, keep=lambda group: any(run.baselines for run in group))
    for suffix, group, _ in groups:
        learned = of_system(group, "bernoulli")
        for system, name in _MADE_OF.items():
            if makers := _makers(group, system):
                charts = [_chart(system, name, makers, learned, score, suffix) for score in _SCORES]
                made += [chart for chart in charts if chart.lines]
    lacking = [run for run in ours if not run.baselines]
    command = commands.make(runs, lacking, ("simclr", "bernoulli"), "evaluate", "--only baselines")
    reason = "no SimCLR or Bernoulli run has baselines.json"
    return made or [Missing("Bits against quality", reason, command)]


def _makers(group: Sequence[Run], system: System) -> list[Run]:
    """Seeds of one setting whose h is coded: of the widest latent, and of its variants the first."""
    compared = [run for run in of_system(group, system) if run.baselines]
    variants = by(headline(compared), identity)
    return next(iter(variants.values()), [])


def _chart(
    system: System, name: str, makers: Sequence[Run], learned: Sequence[Run], score: str, suffix: str
) -> Chart:
    label, y_label = _SCORES[score]
    variant = variant_of(makers[0].setup)
    others = [run for run in learned if run not in makers]
    return Chart(
        key=f"bits-{system}-{score.replace('_', '-')}{suffix}",
        title=f"{label}: learned codes, and codes of {name}",
        x_label="bits of a code",
        y_label=y_label,
        lines=(*_learned(learned, score), *_baselines(makers, score)),
        references=_floats(makers, score, name),
        x_scale="log2",
        source=source([*makers, *others]),
        caption="Every query against the whole gallery. "
        f"Coded is {name}{f' ({variant})' if variant else ''}.",
    )


def _learned(runs: Sequence[Run], score: str) -> tuple[Line, ...]:
    """The runs' own codes over their widths, of that variant of the latent that has most of them."""
    sized = [run for run in runs if _FEWEST <= run.setup.num_bits <= _MOST and _own(run, score) is not None]
    variants = by(sized, lambda run: identity(run, "num_bits")).values()
    if not variants:
        return ()
    most = max(variants, key=lambda variant: len({run.setup.num_bits for run in variant}))
    drawn = points((run.setup.num_bits, PERCENT * (_own(run, score) or 0)) for run in most)
    return (Line(f"learned, {kind_of(most[0].setup)}", "bernoulli", drawn),)


def _own(run: Run, score: str) -> float | None:
    """A run's codes are in either file."""
    if run.baselines and run.setup.num_bits in run.baselines.learned:
        return _score(run.baselines.learned[run.setup.num_bits], score)
    return run.evaluation.codes_map if score == "map" else run.evaluation.codes_knn_top1


def _baselines(makers: Sequence[Run], score: str) -> tuple[Line, ...]:
    lines = []
    for method, (label, role) in _METHODS.items():
        found = points(
            (num_bits, PERCENT * _score(quality, score))
            for run in makers
            for num_bits, quality in getattr(run.baselines, method).items()
            if _FEWEST <= num_bits <= _MOST
        )
        if found:
            lines.append(Line(label, role, found))
    return tuple(lines)


def _floats(makers: Sequence[Run], score: str, name: str) -> tuple[Reference, ...]:
    floats = [quality for run in makers if run.baselines for quality in run.baselines.floats.values()]
    if not floats:
        return ()
    mean = Stat.of([PERCENT * _score(quality, score) for quality in floats]).mean
    return (Reference(mean, f"{name} as floats: {mean:.1f}"),)


def _score(quality: Quality, score: str) -> float:
    return quality.map if score == "map" else quality.knn_top1
