"""Figure 2: frozen top-1 against the width of a Bernoulli latent, and F1 against the number of units."""

from collections.abc import Sequence

from trainer.report import commands, paper
from trainer.report.content import Chart, Line, Missing, Part, Reference, Role
from trainer.report.curves import (
    READINGS,
    points,
    probe_caption,
    probe_epochs,
    probe_lines,
    several_widths,
)
from trainer.report.groups import by, grouped, identity, numbered, system_of, variant_of
from trainer.report.records import Run, Runs

_LEFT = "Figure 2 (left)"
_RIGHT = "Figure 2 (right)"
_VARIED = ("latent", "num_bits", "hard", "placement", "variance", "gumbel_start", "gumbel_end")


def figure_2_left(runs: Runs) -> list[Part]:
    """Frozen top-1 of Bernoulli runs that differ in nothing but the width of their latent."""
    ours = [run for run in runs.trained if system_of(run.setup) == "bernoulli"]
    probed = [run for run in ours if run.probe]
    ladders = grouped(probed, "num_bits", also=probe_epochs, keep=several_widths)
    if not ladders:
        return [_no_ladder(runs, ours, probed)]
    return [
        Chart(
            key=numbered("figure-2-left", number),
            title=f"{_LEFT}: frozen top-1 against the width of the bottleneck",
            x_label="width of the Bernoulli latent (bits)",
            y_label="test top-1 (%)",
            lines=probe_lines(group, READINGS),
            undrawn=probe_lines(group, READINGS, best=False, suffix=", last epoch"),
            x_scale="log2",
            source=source,
            caption=f"{probe_caption(group)}",
            paper=paper.FIGURE_2_LEFT,
        )
        for number, (group, source) in enumerate(ladders)
    ]


def _no_ladder(runs: Runs, ours: Sequence[Run], probed: Sequence[Run]) -> Missing:
    unprobed = [run.folder for run in ours if not run.probe]
    if len({run.setup.num_bits for run in ours}) > 1 and unprobed:
        return Missing(
            _LEFT,
            "fewer than two widths of one setting have probe.json",
            commands.probe(unprobed),
        )
    widths = sorted({run.setup.num_bits for run in probed})
    seen = (
        f"those given with probe.json have {', '.join(map(str, widths))} bits" if widths else "none is given"
    )
    return Missing(
        _LEFT,
        f"it takes Bernoulli runs that differ in nothing but their width, two at least: {seen}",
        commands.train(runs, "bernoulli-64", "bernoulli-512") + "; then stochcon probe",
    )


def figure_2_right(runs: Runs) -> list[Part]:
    """F1 of a random forest against the number of units that it sees."""
    ours = [run for run in runs.trained if system_of(run.setup) in ("bernoulli", "gaussian")]
    grown = [run for run in ours if run.units]
    if not grown:
        narrow = [run.folder for run in ours if run.setup.num_bits == 64]
        reason = "no run of a Bernoulli or Gaussian latent has units.json"
        if narrow:
            return [Missing(_RIGHT, reason, commands.evaluate(narrow, "units"))]
        train = commands.train(runs, "bernoulli-64", "gaussian-64")
        return [Missing(_RIGHT, reason, f"{train}; then stochcon evaluate --only units")]
    made: list[Part] = []
    groups = grouped(grown, *_VARIED, also=lambda run: run.units and run.units.folds)
    for number, (group, source) in enumerate(groups):
        forests = [run.units for run in group if run.units]
        spread = max(deviation for units in forests for deviation in units.deviation.values())
        made.append(
            Chart(
                key=numbered("figure-2-right", number),
                title=f"{_RIGHT}: a random forest against the number of units",
                x_label="units that the forest sees",
                y_label="F1, mean over classes",
                lines=_forest_lines(group),
                references=(
                    Reference(paper.SUFFICIENT_UNITS, f"paper: {paper.SUFFICIENT_UNITS} bits of 64", "x"),
                ),
                x_scale="log2",
                source=source,
                caption=f"Units are chosen by importance inside each of {forests[0].folds} stratified folds, "
                "and F1 is that of the held-out fold; its standard deviation over folds is at most "
                f"{spread:.3f}.",
                paper=paper.FIGURE_2_RIGHT,
            )
        )
        made += _without_other_latent(runs, group)
    return made


def _forest_lines(group: Sequence[Run]) -> tuple[Line, ...]:
    """A line for each latent, the widest first."""
    lines = []
    shades: dict[Role, int] = {}
    latents = sorted(by(group, identity).values(), key=lambda runs: -runs[0].setup.num_bits)
    for found in sorted(latents, key=lambda runs: runs[0].setup.latent):
        setup = found[0].setup
        role: Role = "bernoulli" if setup.latent == "bernoulli" else "gaussian"
        pairs = [(count, f1) for run in found if run.units for count, f1 in run.units.f1.items()]
        label = f"{role.capitalize()} {variant_of(setup)}"
        lines.append(Line(label, role, points(pairs), shade=shades.setdefault(role, 0)))
        shades[role] += 1
    return tuple(lines)


def _without_other_latent(runs: Runs, group: Sequence[Run]) -> list[Part]:
    """What is missing where only one kind of latent was measured."""
    latents = {run.setup.latent for run in group}
    return [
        Missing(
            f"{_RIGHT}, {latent.capitalize()}",
            f"no {latent.capitalize()} run like those of the figure has units.json",
            f"{commands.train(runs, f'{latent}-64')}; then stochcon evaluate --only units",
        )
        for latent in ("bernoulli", "gaussian")
        if latent not in latents
    ]
