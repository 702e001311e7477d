"""Figure 4: the average number of active bits over training, on training and on test images."""

from collections.abc import Sequence

from trainer.report import commands, paper
from trainer.report.content import Chart, Line, Missing, Part, Reference
from trainer.report.curves import over_training, reports
from trainer.report.groups import by, grouped, identity, numbered, system_of, variant_of
from trainer.report.records import Run, Runs

_SIDES = (
    ("left", "train_active_bits", "training images"),
    ("right", "test_active_bits", "test images"),
)
_VARIED = ("hard", "placement", "num_bits", "gumbel_start", "gumbel_end")


def figure_4(runs: Runs) -> list[Part]:
    """The four variants of section 4.3 at their widest and, on test images, soft-top at a quarter of that."""
    ours = [run for run in runs.trained if system_of(run.setup) == "bernoulli"]
    made: list[Part] = []
    for side, key, images in _SIDES:
        counted = [run for run in ours if reports(run, key)]
        for number, (group, _) in enumerate(grouped(counted, *_VARIED)):
            shown = _shown(group, with_quarter=side == "right")
            (_, source), *_ = grouped(shown, *_VARIED)
            made.append(
                Chart(
                    key=numbered(f"figure-4-{side}", number),
                    title=f"Figure 4 ({side}): average bit count of {images}",
                    x_label="epoch",
                    y_label="active bits",
                    lines=tuple(_line(found, key, shown) for found in by(shown, identity).values()),
                    references=tuple(
                        Reference(width / 2, f"half of {width}")
                        for width in sorted({run.setup.num_bits for run in shown})
                    ),
                    source=source,
                    caption="Ones among the bits of a code, in evaluation mode, after each epoch.",
                    paper=paper.FIGURE_4,
                )
            )
            made += _absent(runs, shown) if side == "right" else []
    if made:
        return made
    reason = "no Bernoulli run was trained with --monitor, which counts its bits after each epoch"
    return [Missing("Figure 4", reason, commands.train(runs, "bernoulli", "bernoulli-512"))]


def _shown(group: Sequence[Run], with_quarter: bool) -> list[Run]:
    widest = max(run.setup.num_bits for run in group)
    quarter = [
        run
        for run in group
        if 4 * run.setup.num_bits == widest and not run.setup.hard and run.setup.placement == "top"
    ]
    shown = [run for run in group if run.setup.num_bits == widest] + (quarter if with_quarter else [])
    return sorted(shown, key=lambda run: (-run.setup.num_bits, run.setup.placement != "top", run.setup.hard))


def _line(runs: Sequence[Run], key: str, shown: Sequence[Run]) -> Line:
    """Colour tells the place of the latent, dashes its hardness, and a lighter shade the narrower one."""
    setup = runs[0].setup
    at_top = setup.placement == "top" or not setup.num_local_views
    return Line(
        variant_of(setup),
        "top" if at_top else "bottom",
        over_training(runs, key),
        shade=int(setup.num_bits < max(run.setup.num_bits for run in shown)),
        marks=False,
        dashed=setup.hard,
    )


def _absent(runs: Runs, shown: Sequence[Run]) -> list[Part]:
    """The paper's lines that are not there. Without local views there is no top and bottom."""
    widest = shown[0].setup.num_bits
    have = {(run.setup.hard, run.setup.placement) for run in shown if run.setup.num_bits == widest}
    wanted = {
        (False, "top"): ("soft top", "bernoulli"),
        (True, "top"): ("hard top", "bernoulli-hard-top"),
        (False, "bottom"): ("soft bottom", "bernoulli-soft-bottom"),
        (True, "bottom"): ("hard bottom", "bernoulli-hard-bottom"),
    }
    if not shown[0].setup.num_local_views:
        wanted = {key: names for key, names in wanted.items() if key[1] == "top"}
    lacking = [names for key, names in wanted.items() if key not in have]
    if all(run.setup.num_bits == widest for run in shown):
        lacking.append((f"soft top {widest // 4}", "bernoulli-512"))
    return [
        Missing(
            f"Figure 4, {name}",
            "no such run like those of the figure was trained with --monitor",
            commands.train(runs, system),
        )
        for name, system in lacking
    ]
