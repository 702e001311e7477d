"""Figure 4: the average number of active bits over training, on training and on test images."""

from collections.abc import Sequence

from trainer.report import commands, paper
from trainer.report.content import Chart, Line, Missing, Part, Reference
from trainer.report.curves import over_training, reports
from trainer.report.groups import by, grouped, identity, of_system, source, variant_of
from trainer.report.records import Run, Runs

_SIDES = (
    ("left", "train_active_bits", "training images"),
    ("right", "test_active_bits", "test images"),
)
_VARIANTS = {
    (False, "top"): "bernoulli",
    (True, "top"): "bernoulli-hard-top",
    (False, "bottom"): "bernoulli-soft-bottom",
    (True, "bottom"): "bernoulli-hard-bottom",
}
"""Section 4.3: by hardness and placement, the end of the recipe's name."""


def figure_4(runs: Runs) -> list[Part]:
    """The four variants of section 4.3 at their widest and, on test images, soft-top at a quarter of that."""
    ours = of_system(runs.trained, "bernoulli")
    made: list[Part] = []
    fullest: list[Run] = []
    for side, key, images in _SIDES:
        counted = [run for run in ours if reports(run, key)]
        for suffix, group, _ in grouped(counted, "hard", "placement", "num_bits"):
            shown = _shown(group, with_quarter=side == "right")
            widest = shown[0].setup.num_bits
            made.append(
                Chart(
                    key=f"figure-4-{side}{suffix}",
                    title=f"Figure 4 ({side}): average bit count of {images}",
                    x_label="epoch",
                    y_label="active bits",
                    lines=tuple(_line(found, key, widest) for found in by(shown, identity).values()),
                    references=tuple(
                        Reference(width / 2, f"half of {width} bits")
                        for width in sorted({run.setup.num_bits for run in shown}, reverse=True)
                    ),
                    source=source(shown),
                    caption="Ones among the bits of a code, in evaluation mode, after each epoch.",
                    paper=paper.FIGURE_4,
                )
            )
            fullest = fullest or (shown if side == "right" else [])
    if made:
        return made + (_absent(runs, fullest) if fullest and fullest[0].setup.local_views else [])
    reason = "no Bernoulli run was trained with --monitor, which counts its bits after each epoch"
    return [Missing("Figure 4", reason, commands.train(runs, "bernoulli", "bernoulli-512"))]


def _shown(group: Sequence[Run], with_quarter: bool) -> list[Run]:
    widest = max(run.setup.num_bits for run in group)
    shown = [
        run
        for run in group
        if run.setup.num_bits == widest
        or (with_quarter and 4 * run.setup.num_bits == widest and _variant(run) == (False, "top"))
    ]
    return sorted(shown, key=lambda run: (-run.setup.num_bits, run.setup.placement != "top", run.setup.hard))


def _variant(run: Run) -> tuple[bool, str]:
    """Hardness and placement. Without local views there is no bottom."""
    return run.setup.hard, run.setup.placement if run.setup.local_views else "top"


def _line(runs: Sequence[Run], key: str, widest: int) -> Line:
    """Colour tells the place of the latent, dashes its hardness, and a lighter shade the narrower one."""
    hard, placement = _variant(runs[0])
    setup = runs[0].setup
    return Line(
        variant_of(setup),
        "top" if placement == "top" else "bottom",
        over_training(runs, key),
        shade=2 if setup.num_bits < widest else 0,
        dashed=hard,
    )


def _absent(runs: Runs, shown: Sequence[Run]) -> list[Part]:
    """The paper's lines that are not there."""
    have = {_variant(run) for run in shown}
    lacking = [system for variant, system in _VARIANTS.items() if variant not in have]
    if len({run.setup.num_bits for run in shown}) == 1:
        lacking.append("bernoulli-512")
    reason = "no such run like those of the figure was trained with --monitor"
    return [Missing(f"Figure 4, {system}", reason, commands.train(runs, system)) for system in lacking]
