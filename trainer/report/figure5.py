"""Figure 5: SimCLR fine-tuned for more and more epochs, and a supervised network with a Bernoulli layer."""

from collections.abc import Sequence

from trainer.report import commands, paper
from trainer.report.content import Chart, Line, Missing, Part, Reference, Role, Stat
from trainer.report.curves import PERCENT, over_fine_tuning, over_training, reports
from trainer.report.groups import (
    LATENT,
    backbone,
    by,
    grouped,
    headline,
    identity,
    of_system,
    source,
    tuning_of,
    variant_of,
)
from trainer.report.records import Run, Runs

_LEFT = "Figure 5 (left)"
_RIGHT = "Figure 5 (right)"


def figure_5(runs: Runs) -> list[Part]:
    return [*_left(runs), *_right(runs)]


def _left(runs: Runs) -> list[Part]:
    """Top-1 over the epochs of fine-tuning, a line for each number of them."""
    ours = [run for run in of_system(runs.fine_tuned, "simclr") if _reads(run) == "h"]
    made: list[Part] = []
    for suffix, group, where in grouped(ours, also=lambda run: tuning_of(run)[2:]):
        trials = sorted(by(group, _epochs).items(), reverse=True)
        epochs, best = max(trials, key=lambda trial: _best(trial[1]).mean)
        made.append(
            Chart(
                key=f"figure-5-left{suffix}",
                title=f"{_LEFT}: SimCLR fine-tuned for more epochs",
                x_label="epoch of fine-tuning",
                y_label="test top-1 (%)",
                lines=tuple(
                    Line(f"{number} epochs", "simclr", over_fine_tuning(found), shade=shade)
                    for shade, (number, found) in enumerate(trials)
                ),
                references=_paper_line(group[0]),
                source=where,
                caption="Every trial has its own learning rate schedule. The best one, of "
                f"{epochs} epochs, reaches {_best(best).mean:.2f} %.",
                paper=paper.FIGURE_5_LEFT,
            )
        )
    pretrained = of_system(runs.trained, "simclr")
    options = "--on h --epochs 20 --out FOLDER"
    command = (
        f"{commands.make(runs, pretrained, ('simclr',), 'finetune', options)}; and 40, 60, 80, 100 epochs"
    )
    return made or [Missing(_LEFT, "no fine-tuned SimCLR run is given", command)]


def _paper_line(run: Run) -> tuple[Reference, ...]:
    """The paper's fine-tuned SimCLR on these images, or on those that they stand in for."""
    column = paper.column_of(run.dataset, run.setup.depth)
    top1 = paper.TABLE_1[column]["simclr"].fine_tuned if column else None
    return (Reference(top1, f"paper, {column}: {top1:.2f}"),) if top1 else ()


def _right(runs: Runs) -> list[Part]:
    """Top-1 over supervised training, with and without the layer, and fine-tuned StochCon beside it."""
    ours = of_system(runs.trained, "supervised", "supervised-bernoulli")
    watched = [run for run in ours if reports(run, "test_top1")]
    made: list[Part] = []
    for suffix, group, _ in grouped(watched, *LATENT, keep=_has_layer):
        plain, layered = (of_system(group, system) for system in ("supervised", "supervised-bernoulli"))
        stochcon = _best_stochcon(runs, group[0])
        lines = [_curve("Supervised, plain", "supervised", plain)] if plain else []
        for shade, found in enumerate(by(layered, identity).values()):
            label = f"with Gumbel-Bernoulli, dropped with p = {found[0].setup.latent_dropout:g}"
            lines.append(_curve(label, "supervised-bernoulli", found, shade))
        top1 = _best(stochcon).mean if stochcon else 0
        made.append(
            Chart(
                key=f"figure-5-right{suffix}",
                title=f"{_RIGHT}: supervised, with a Bernoulli layer",
                x_label="epoch",
                y_label="test top-1 (%)",
                lines=tuple(lines),
                references=(Reference(top1, f"StochCon, fine-tuned: {top1:.2f}"),) if stochcon else (),
                source=source([*group, *stochcon]),
                caption=_margin(stochcon, layered),
                paper=paper.FIGURE_5_RIGHT,
            )
        )
        if not plain:
            reason = "no plain supervised run like those of the figure was trained with --monitor"
            made.append(Missing(f"{_RIGHT}, plain", reason, commands.train(runs, "supervised")))
        if not stochcon:
            pretrained = of_system(runs.trained, "bernoulli")[:1]
            command = commands.make(runs, pretrained, ("bernoulli",), "finetune", "--on z --out FOLDER")
            reason = "no fine-tuned Bernoulli-StochCon on the same images and network is given"
            made.append(Missing(f"{_RIGHT}, StochCon", reason, command))
    command = commands.train(runs, "supervised", "supervised-bernoulli")
    reason = "no supervised run with a Gumbel-Bernoulli layer was trained with --monitor"
    return made or [Missing(_RIGHT, reason, command)]


def _has_layer(group: Sequence[Run]) -> bool:
    return bool(of_system(group, "supervised-bernoulli"))


def _best_stochcon(runs: Runs, like: Run) -> list[Run]:
    """Seeds of the best Bernoulli-StochCon on the same images and network, fine-tuned on relaxed z."""
    ours = [
        run
        for run in of_system(runs.fine_tuned, "bernoulli")
        if _reads(run) == "z" and backbone(run) == backbone(like)
    ]
    groups = by(headline(ours), lambda run: (identity(run), tuning_of(run))).values()
    return max(groups, key=lambda group: _best(group).mean, default=[])


def _curve(label: str, role: Role, runs: Sequence[Run], shade: int = 0) -> Line:
    return Line(label, role, over_training(runs, "test_top1", PERCENT), shade=shade)


def _best(runs: Sequence[Run]) -> Stat:
    """Of fine-tuned runs, in per cent."""
    return Stat.of([PERCENT * run.fine_tuning.best for run in runs if run.fine_tuning])


def _reads(run: Run) -> str:
    return run.fine_tuning.on if run.fine_tuning else ""


def _epochs(run: Run) -> int:
    return run.fine_tuning.epochs if run.fine_tuning else 0


def _margin(stochcon: Sequence[Run], layered: Sequence[Run]) -> str:
    """How far StochCon is ahead, in a sentence."""
    tops = [max(line["test_top1"] for line in run.metrics if "test_top1" in line) for run in layered]
    supervised = Stat.of([PERCENT * top for top in tops]).mean
    if not stochcon:
        return f"At its best epoch the network with the layer reaches {supervised:.2f} %."
    ours, setup = _best(stochcon).mean, stochcon[0].setup
    margin = ours - supervised
    return (
        f"StochCon {variant_of(setup)}, trained for {setup.epochs} epochs and fine-tuned on relaxed z for "
        f"{_epochs(stochcon[0])}, reaches {ours:.2f} % and the network with the layer {supervised:.2f} %, "
        f"each at its best epoch: StochCon is {abs(margin):.2f} points "
        f"{'ahead' if margin >= 0 else 'behind'} (paper: {paper.SUPERVISED_MARGIN:.2f} ahead)."
    )
