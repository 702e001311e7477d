"""Figure 2: frozen top-1 against the width of a Bernoulli latent, and F1 against the number of units."""

from collections.abc import Sequence

from trainer.report import commands, paper
from trainer.report.content import Chart, Line, Missing, Part, Reference, Role
from trainer.report.curves import READINGS, points, probe_caption, probe_epochs, probe_lines, several_widths
from trainer.report.groups import LATENT, by, grouped, identity, of_system, variant_of
from trainer.report.records import Run, Runs

_LEFT = "Figure 2 (left)"
_RIGHT = "Figure 2 (right)"


def figure_2(runs: Runs) -> list[Part]:
    return [*_left(runs), *_right(runs)]


def _left(runs: Runs) -> list[Part]:
    """Bernoulli runs that differ in nothing but the width of their latent."""
    ours = of_system(runs.trained, "bernoulli")
    probed = [run for run in ours if run.probe]
    made: list[Part] = [
        Chart(
            key=f"figure-2-left{suffix}",
            title=f"{_LEFT}: frozen top-1 against the bottleneck",
            x_label="width of the Bernoulli latent (bits)",
            y_label="test top-1 (%)",
            lines=probe_lines(group, READINGS),
            undrawn=probe_lines(group, READINGS, best=False),
            x_scale="log2",
            source=source,
            caption=probe_caption(group),
            paper=paper.FIGURE_2_LEFT,
        )
        for suffix, group, source in grouped(probed, "num_bits", also=probe_epochs, keep=several_widths)
    ]
    if made:
        return made
    unprobed = [run for run in ours if not run.probe] if several_widths(ours) else []
    reason = "it takes Bernoulli runs with probe.json that differ in nothing but their width, two at least"
    command = commands.make(runs, unprobed, ("bernoulli-64", "bernoulli-512"), "probe")
    return [Missing(_LEFT, reason, command)]


def _right(runs: Runs) -> list[Part]:
    """F1 of random forests on few units that it sees."""
    ours = of_system(runs.trained, "bernoulli", "gaussian")
    grown = [run for run in ours if run.units]
    made: list[Part] = []
    for suffix, group, source in grouped(grown, *LATENT, also=lambda run: run.units and run.units.folds):
        forests = [run.units for run in group if run.units]
        spread = max(f1.std for units in forests for f1 in units.f1.values())
        made.append(
            Chart(
                key=f"figure-2-right{suffix}",
                title=f"{_RIGHT}: random forests on few units",
                x_label="units that the forest sees",
                y_label="F1, mean over classes",
                lines=_forest_lines(group),
                references=(Reference(paper.SUFFICIENT_UNITS, "paper: 11 bits of 64 are enough", "x"),),
                x_scale="log2",
                source=source,
                caption=f"Units are chosen by importance inside each of {forests[0].folds} stratified folds, "
                "and F1 is that of the held-out fold; its standard deviation over folds is at most "
                f"{spread:.3f}.",
                paper=paper.FIGURE_2_RIGHT,
            )
        )
    for latent in ("bernoulli", "gaussian"):
        if not any(run.setup.latent == latent for run in grown):
            narrow = [run for run in ours if run.setup.latent == latent and run.setup.num_bits == 64]
            command = commands.make(runs, narrow, (f"{latent}-64",), "evaluate", "--only units")
            name = latent.capitalize()
            made.append(Missing(f"{_RIGHT}, {name}", f"no {name} run has units.json", command))
    return made


def _forest_lines(group: Sequence[Run]) -> tuple[Line, ...]:
    """A line for each latent, the widest first."""
    lines = []
    shades: dict[Role, int] = {}
    latents = by(group, identity).values()
    for found in sorted(latents, key=lambda runs: (runs[0].setup.latent, -runs[0].setup.num_bits)):
        setup = found[0].setup
        role: Role = "bernoulli" if setup.latent == "bernoulli" else "gaussian"
        pairs = [(count, f1.mean) for run in found if run.units for count, f1 in run.units.f1.items()]
        shade = shades.setdefault(role, 0)
        lines.append(Line(f"{role.capitalize()} {variant_of(setup)}", role, points(pairs), shade=shade))
        shades[role] += 1
    return tuple(lines)
