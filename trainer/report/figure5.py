"""Figure 5: SimCLR fine-tuned for more and more epochs, and a supervised network with a Bernoulli layer."""

from collections.abc import Sequence

from trainer.report import commands, paper
from trainer.report.content import Chart, Line, Missing, Part, Reference, Role, Stat
from trainer.report.curves import PERCENT, over_fine_tuning, over_training, reports
from trainer.report.groups import (
    LATENT_FIELDS,
    backbone,
    by,
    grouped,
    headline,
    identity,
    numbered,
    source,
    system_of,
    variant_of,
)
from trainer.report.records import FineTuned, Run, Runs

_LEFT = "Figure 5 (left)"
_RIGHT = "Figure 5 (right)"


def figure_5_left(runs: Runs) -> list[Part]:
    """Top-1 over the epochs of fine-tuning, a line for each number of them."""
    ours = [run for run in runs.fine_tuned if system_of(run.setup) == "simclr" and run.on == "h"]
    made: list[Part] = []
    for number, (group, where) in enumerate(grouped(ours)):
        trials = sorted(by(group, lambda run: run.epochs).items())
        best = max(trials, key=lambda trial: _best(trial[1]).mean)
        made.append(
            Chart(
                key=numbered("figure-5-left", number),
                title=f"{_LEFT}: SimCLR fine-tuned for different numbers of epochs",
                x_label="epoch of fine-tuning",
                y_label="test top-1 (%)",
                lines=tuple(
                    Line(f"{epochs} epochs", "simclr", over_fine_tuning(found), shade=shade, marks=False)
                    for shade, (epochs, found) in enumerate(reversed(trials))
                ),
                references=_paper_line(group[0]),
                source=where,
                caption="Every trial has its own learning rate schedule. The best one, of "
                f"{best[0]} epochs, reaches {_best(best[1]).mean:.2f} %.",
                paper=paper.FIGURE_5_LEFT,
            )
        )
    if made:
        return made
    pretrained = [run.folder for run in runs.trained if system_of(run.setup) == "simclr"]
    command = (
        commands.finetune(pretrained, "h")
        if pretrained
        else f"{commands.train(runs, 'simclr')}; then stochcon finetune RUN --on h"
    )
    return [
        Missing(_LEFT, "no fine-tuned SimCLR run is given", f"{command}, with --epochs 20, 40, 60, 80, 100")
    ]


def _paper_line(run: FineTuned) -> tuple[Reference, ...]:
    """The paper's fine-tuned SimCLR on these images, or on those that they stand in for."""
    column = paper.column_of(run.images.dataset, run.setup.depth)
    top1 = paper.TABLE_1[column]["simclr"].fine_tuned if column else None
    return (Reference(top1, f"paper, {column}: {top1:.2f}"),) if top1 else ()


def figure_5_right(runs: Runs) -> list[Part]:
    """Top-1 over supervised training, with and without the layer, and fine-tuned StochCon beside it."""
    ours = [run for run in runs.trained if run.setup.objective == "supervised" and reports(run, "test_top1")]
    made: list[Part] = []
    for number, (group, _) in enumerate(grouped(ours, *LATENT_FIELDS, keep=_has_layer)):
        plain = [run for run in group if system_of(run.setup) == "supervised"]
        layered = by([run for run in group if system_of(run.setup) != "supervised"], identity)
        stochcon = _best_stochcon(runs, group[0])
        lines = [_curve("Supervised, plain", "supervised", plain)] if plain else []
        for shade, found in enumerate(layered.values()):
            label = f"with Gumbel-Bernoulli, dropped with p = {found[0].setup.latent_dropout:g}"
            lines.append(_curve(label, "supervised-bernoulli", found, shade))
        shown: list[Run | FineTuned] = [*group, *stochcon]
        made.append(
            Chart(
                key=numbered("figure-5-right", number),
                title=f"{_RIGHT}: supervised, with a Gumbel-Bernoulli layer",
                x_label="epoch",
                y_label="test top-1 (%)",
                lines=tuple(lines),
                references=_stochcon_line(stochcon),
                source=source(shown, *LATENT_FIELDS),
                caption=f"{_margin(stochcon, next(iter(layered.values())))}",
                paper=paper.FIGURE_5_RIGHT,
            )
        )
        if not plain:
            made.append(_absent(f"{_RIGHT}, plain", "plain supervised", commands.train(runs, "supervised")))
        if not stochcon:
            pretrained = [run.folder for run in runs.trained if system_of(run.setup) == "bernoulli"]
            command = commands.finetune(pretrained[:1], "z")
            made.append(_absent(f"{_RIGHT}, StochCon", "fine-tuned Bernoulli-StochCon", command))
    command = commands.train(runs, "supervised", "supervised-bernoulli")
    reason = "no supervised run with a Gumbel-Bernoulli layer was trained with --monitor"
    return made or [Missing(_RIGHT, reason, command)]


def _has_layer(group: Sequence[Run]) -> bool:
    return any(system_of(run.setup) == "supervised-bernoulli" for run in group)


def _best_stochcon(runs: Runs, like: Run) -> list[FineTuned]:
    """Seeds of the best Bernoulli-StochCon on the same images and network, fine-tuned on relaxed z."""
    ours = [
        run
        for run in runs.fine_tuned
        if system_of(run.setup) == "bernoulli" and run.on == "z" and backbone(run) == backbone(like)
    ]
    groups = by(headline(ours), lambda run: (identity(run), run.epochs)).values()
    return max(groups, key=lambda group: _best(group).mean, default=[])


def _curve(label: str, role: Role, runs: Sequence[Run], shade: int = 0) -> Line:
    return Line(label, role, over_training(runs, "test_top1", PERCENT), shade=shade, marks=False)


def _best(runs: Sequence[FineTuned]) -> Stat:
    return Stat.of([PERCENT * run.scores.best for run in runs])


def _stochcon_line(runs: Sequence[FineTuned]) -> tuple[Reference, ...]:
    if not runs:
        return ()
    top1 = _best(runs).mean
    return (Reference(top1, f"StochCon Bernoulli, fine-tuned: {top1:.2f}"),)


def _margin(stochcon: Sequence[FineTuned], layered: Sequence[Run]) -> str:
    """How far StochCon is ahead, in a sentence."""
    tops = [max(line["test_top1"] for line in run.metrics if "test_top1" in line) for run in layered]
    supervised = Stat.of([PERCENT * top for top in tops]).mean
    if not stochcon:
        return f"At its best epoch the network with the layer reaches {supervised:.2f} %."
    ours, setup = _best(stochcon).mean, stochcon[0].setup
    margin = ours - supervised
    return (
        f"StochCon {variant_of(setup)}, trained for {setup.epochs} epochs and fine-tuned on relaxed z for "
        f"{stochcon[0].epochs}, reaches {ours:.2f} % and the network with the layer {supervised:.2f} %, each "
        f"at its best epoch: StochCon is {abs(margin):.2f} points {'ahead' if margin >= 0 else 'behind'} "
        f"(paper: {paper.SUPERVISED_MARGIN:.2f} ahead)."
    )


def _absent(what: str, kind: str, command: str) -> Missing:
    return Missing(what, f"no {kind} run on the same images and network is given", command)
