"""Figure 3: test top-1 and aggregate variance against the width of a Gaussian latent; and its collapse."""

from collections.abc import Sequence

from trainer.report import commands, paper
from trainer.report.content import Chart, Line, Missing, Part, Scale
from trainer.report.curves import (
    GAUSSIAN_READINGS,
    over_training,
    points,
    probe_caption,
    probe_epochs,
    probe_lines,
    reports,
    several_widths,
)
from trainer.report.groups import by, grouped, numbered, system_of
from trainer.report.records import Run, Runs

_LEFT = "Figure 3 (left)"
_RIGHT = "Figure 3 (right)"
_COLLAPSE = "Section 4.2, the collapse of the variance"
_X = "width of the Gaussian latent (dimensions)"
_VARIED = ("num_bits", "variance")
_OWN = "variance of the own view"


def figure_3(runs: Runs) -> list[Part]:
    """The three figures, each for every group of runs that differ in width and variance alone."""
    ours = [run for run in runs.trained if system_of(run.setup) == "gaussian"]
    return [*_left(runs, ours), *_right(runs, ours), *_collapse(runs, ours)]


def _left(runs: Runs, ours: Sequence[Run]) -> list[Part]:
    probed = [run for run in ours if run.probe]
    made: list[Part] = []
    for number, (group, source) in enumerate(grouped(probed, *_VARIED, also=probe_epochs, keep=_is_ladder)):
        opposing, own = _split(group)
        apart = probe_lines(own, {"z": ("z (mean)", "own-variance")}, suffix=f", {_OWN}", dashed=True)
        made.append(
            Chart(
                key=numbered("figure-3-left", number),
                title=f"{_LEFT}: frozen top-1 against the width of a Gaussian",
                x_label=_X,
                y_label="test top-1 (%)",
                lines=(*probe_lines(opposing, GAUSSIAN_READINGS), *apart),
                undrawn=probe_lines(opposing, GAUSSIAN_READINGS, best=False, suffix=", last epoch"),
                x_scale="log2",
                source=source,
                caption=f"{probe_caption(group)}",
                paper=paper.FIGURE_3,
            )
        )
    unprobed = [run.folder for run in _split(ours)[0] if not run.probe]
    command = commands.probe(unprobed) if unprobed and several_widths(ours) else _train_ladder(runs, "probe")
    return made or [Missing(_LEFT, _too_few("probe.json"), command)]


def _right(runs: Runs, ours: Sequence[Run]) -> list[Part]:
    key = "aggregate_variance"
    measured = [run for run in ours if key in run.evaluation]
    made: list[Part] = []
    for number, (group, source) in enumerate(grouped(measured, *_VARIED, keep=_is_ladder)):
        opposing, own = _split(group)
        pairs = [[(run.setup.num_bits, run.evaluation[key]) for run in found] for found in (opposing, own)]
        lines = [Line("variance of the opposing view", "gaussian", points(pairs[0]))]
        if own:
            lines.append(Line(_OWN, "own-variance", points(pairs[1]), dashed=True))
        made.append(
            Chart(
                key=numbered("figure-3-right", number),
                title=f"{_RIGHT}: aggregate variance against the width of a Gaussian",
                x_label=_X,
                y_label="test aggregate variance, mean over dimensions",
                lines=tuple(lines),
                x_scale="log2",
                y_scale=_scale(lines),
                source=source,
                caption="The variance of q(z) = E[q(z|x)] over the test images: the mean of σ² and the "
                "variance of μ.",
                paper=paper.FIGURE_3,
            )
        )
    unmeasured = [run.folder for run in _split(ours)[0] if key not in run.evaluation]
    has_ladder = unmeasured and several_widths(ours)
    command = commands.evaluate(unmeasured) if has_ladder else _train_ladder(runs, "evaluate")
    return made or [Missing(_RIGHT, _too_few("evaluation.json"), command)]


def _collapse(runs: Runs, ours: Sequence[Run]) -> list[Part]:
    key = "latent_variance"
    reported = [run for run in ours if reports(run, key)]
    made: list[Part] = []
    groups = grouped(reported, "variance", keep=lambda group: bool(_split(group)[1]))
    for number, (group, source) in enumerate(groups):
        opposing, own = _split(group)
        lines = [Line(_OWN, "own-variance", over_training(own, key), marks=False, dashed=True)]
        if opposing:
            curve = over_training(opposing, key)
            lines.insert(0, Line("variance of the opposing view", "gaussian", curve, marks=False))
        made.append(
            Chart(
                key=numbered("section-4.2-collapse", number),
                title=f"{_COLLAPSE} over training",
                x_label="epoch",
                y_label="mean σ² of q(z|x) in a batch",
                lines=tuple(lines),
                y_scale=_scale(lines),
                source=source,
                caption="What the network says its variance is, on training views.",
                paper=paper.FIGURE_3,
            )
        )
    reason = "no Gaussian run whose variance is that of its own view is given"
    return made or [Missing(_COLLAPSE, reason, commands.train(runs, "gaussian-own-64"))]


def _split(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Those whose variance is the opposing view's, and those whose it is their own."""
    found = by(runs, lambda run: run.setup.variance)
    return found.get("opposing", []), found.get("own", [])


def _is_ladder(group: Sequence[Run]) -> bool:
    return several_widths(_split(group)[0])


def _too_few(file: str) -> str:
    return f"it takes Gaussian runs with {file} that differ in nothing but their width, two at least"


def _train_ladder(runs: Runs, then: str) -> str:
    return f"{commands.train(runs, 'gaussian-64', 'gaussian-512')}; then stochcon {then}"


def _scale(lines: Sequence[Line]) -> Scale:
    """Logarithmic where values are far apart, as those of a collapse are."""
    values = [point.y.mean for line in lines for point in line.points]
    return "log" if min(values) > 0 and max(values) > 20 * min(values) else "linear"
