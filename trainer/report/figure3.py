"""Figure 3: test top-1 and aggregate variance of Gaussians latent; and its collapse."""

from collections.abc import Sequence
from dataclasses import replace

from trainer.report import commands, paper
from trainer.report.content import Chart, Line, Missing, Part, Point
from trainer.report.curves import (
    GAUSSIAN_READINGS,
    log_if_far_apart,
    over_training,
    points,
    probe_caption,
    probe_epochs,
    probe_lines,
    reports,
    several_widths,
)
from trainer.report.groups import grouped, of_system
from trainer.report.records import Run, Runs

_LEFT = "Figure 3 (left)"
_RIGHT = "Figure 3 (right)"
_COLLAPSE = "Section 4.2: collapse of the variance"
_X = "width of the Gaussian latent (dimensions)"
_VARIED = ("num_bits", "variance")
_OPPOSING, _OWN = "variance of the opposing views", "variance of the own view"
_LADDER = ("gaussian-64", "gaussian-512")


def figure_3(runs: Runs) -> list[Part]:
    """The three figures, each for every group of runs that differ in width and variance alone."""
    ours = of_system(runs.trained, "gaussian")
    return [*_left(runs, ours), *_right(runs, ours), *_collapse(runs, ours)]


def _left(runs: Runs, ours: Sequence[Run]) -> list[Part]:
    probed = [run for run in ours if run.probe]
    made: list[Part] = []
    for suffix, group, source in grouped(probed, *_VARIED, also=probe_epochs, keep=_is_ladder):
        apart = [
            replace(line, label=f"z (mean), {_OWN}", role="own-variance", dashed=True)
            for line in probe_lines(_with(group, "own"), {"z": GAUSSIAN_READINGS["z"]})
        ]
        opposing = _with(group, "opposing")
        made.append(
            Chart(
                key=f"figure-3-left{suffix}",
                title=f"{_LEFT}: frozen top-1 of Gaussians",
                x_label=_X,
                y_label="test top-1 (%)",
                lines=(*probe_lines(opposing, GAUSSIAN_READINGS), *apart),
                undrawn=probe_lines(opposing, GAUSSIAN_READINGS, best=False),
                x_scale="log2",
                source=source,
                caption=probe_caption(group),
                paper=paper.FIGURE_3,
            )
        )
    lacking = [run for run in ours if not run.probe]
    return made or [_no_ladder(runs, _LEFT, ours, lacking, "probe")]


def _right(runs: Runs, ours: Sequence[Run]) -> list[Part]:
    measured = [run for run in ours if run.evaluation.aggregate_variance is not None]
    made: list[Part] = []
    for suffix, group, source in grouped(measured, *_VARIED, keep=_is_ladder):
        lines = [Line(_OPPOSING, "gaussian", _variances(_with(group, "opposing")))]
        if own := _with(group, "own"):
            lines.append(Line(_OWN, "own-variance", _variances(own), dashed=True))
        made.append(
            Chart(
                key=f"figure-3-right{suffix}",
                title=f"{_RIGHT}: aggregate variance of Gaussians",
                x_label=_X,
                y_label="test aggregate variance",
                lines=tuple(lines),
                x_scale="log2",
                y_scale=log_if_far_apart(lines),
                source=source,
                caption="The variance of q(z) = E[q(z|x)] over the test images, mean over dimensions: the "
                "mean of σ² and the variance of μ.",
                paper=paper.FIGURE_3,
            )
        )
    lacking = [run for run in ours if run not in measured]
    return made or [_no_ladder(runs, _RIGHT, ours, lacking, "evaluate")]


def _collapse(runs: Runs, ours: Sequence[Run]) -> list[Part]:
    key = "latent_variance"
    reported = [run for run in ours if reports(run, key)]
    made: list[Part] = []
    groups = grouped(reported, "variance", keep=lambda group: bool(_with(group, "own")))
    for suffix, group, source in groups:
        lines = [Line(_OWN, "own-variance", over_training(_with(group, "own"), key), dashed=True)]
        if opposing := _with(group, "opposing"):
            lines.insert(0, Line(_OPPOSING, "gaussian", over_training(opposing, key)))
        made.append(
            Chart(
                key=f"section-4.2-collapse{suffix}",
                title=f"{_COLLAPSE}, {group[0].setup.num_bits} dimensions",
                x_label="epoch",
                y_label="mean σ² of q(z|x) in a batch",
                lines=tuple(lines),
                y_scale=log_if_far_apart(lines),
                source=source,
                caption="What the network says its variance is, on training views.",
                paper=paper.FIGURE_3,
            )
        )
    reason = "no Gaussian run whose variance is that of its own view is given"
    return made or [Missing(_COLLAPSE, reason, commands.train(runs, "gaussian-own-64"))]


def _with(runs: Sequence[Run], variance: str) -> list[Run]:
    return [run for run in runs if run.setup.variance == variance]


def _is_ladder(group: Sequence[Run]) -> bool:
    return several_widths(_with(group, "opposing"))


def _variances(runs: Sequence[Run]) -> tuple[Point, ...]:
    pairs = [(run.setup.num_bits, run.evaluation.aggregate_variance) for run in runs]
    return points((width, value) for width, value in pairs if value is not None)


def _no_ladder(runs: Runs, what: str, ours: Sequence[Run], lacking: Sequence[Run], verb: str) -> Missing:
    file = "probe.json" if verb == "probe" else "the variance in evaluation.json"
    reason = f"it takes Gaussian runs with {file} that differ in nothing but their width, two at least"
    return Missing(what, reason, commands.make(runs, lacking if _is_ladder(ours) else (), _LADDER, verb))
