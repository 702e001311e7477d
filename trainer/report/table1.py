"""Table 1: test top-1 of every system, fine-tuned and frozen, the paper's numbers beside ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from trainer.report import commands, paper
from trainer.report.content import DASH, Cell, Missing, Part, Table
from trainer.report.curves import GAUSSIAN_READINGS, PERCENT, READINGS, reports
from trainer.report.groups import (
    SYSTEMS,
    System,
    backbone,
    by,
    details,
    headline,
    identity,
    of_system,
    source,
    suffix,
    system_of,
    tuning_of,
)
from trainer.report.records import Reading, Run, Runs, Scores


@dataclass(frozen=True, slots=True)
class Outcome:
    """Top-1 in per cent of each seed."""

    best: tuple[float, ...]
    """Of the best epoch; empty where only the last one is known."""
    last: tuple[float, ...]
    epochs: int
    """Of the probe or of fine-tuning."""

    @classmethod
    def of(cls, scores: Sequence[Scores], epochs: int) -> "Outcome":
        best, last = (found.best for found in scores), (found.last for found in scores)
        return cls(tuple(PERCENT * top1 for top1 in best), tuple(PERCENT * top1 for top1 in last), epochs)


@dataclass(frozen=True, slots=True)
class Row:
    system: System
    detail: str
    """Variant and epochs of its runs."""
    reading: Reading | None
    """None for a network that was trained with labels, and has its own classifier."""
    fine_tuned: Outcome | None
    frozen: Outcome | None


def table_1(runs: Runs) -> list[Part]:
    """The paper's table, then one of ours for each data set and network, and what that lacks."""
    everyone = [*runs.trained, *runs.fine_tuned]
    measured = [run for run in everyone if run.fine_tuning or run.probe or _class_top1(run)]
    made: list[Part] = [_papers_own()]
    for number, (network, group) in enumerate(by(measured, backbone).items()):
        rows, shown = _rows(group)
        column = paper.column_of(group[0].dataset, group[0].setup.depth)
        made.append(_ours(f"table-1{suffix(number)}", group, rows, shown, column))
        trained = [run for run in runs.trained if backbone(run) == network]
        made += _absent(runs, trained, rows, column)
    if not measured:
        reason = "no run has probe.json, none is fine-tuned, and none was trained with labels"
        made.append(Missing("Table 1, our numbers", reason, commands.measure("probe", runs.trained)))
    return made


def _papers_own() -> Table:
    rows = []
    systems: tuple[paper.System, ...] = ("bernoulli", "gaussian", "supervised", "simclr")
    for system in systems:
        cells = [Cell(SYSTEMS[system])]
        for column in paper.TABLE_1.values():
            for kind in ("fine_tuned", "frozen"):
                best = max(getattr(other, kind) or 0 for other in column.values())
                cells.append(_papers(getattr(column[system], kind), best))
        rows.append(tuple(cells))
    return Table(
        key="table-1-paper",
        title="Table 1 of the paper: test top-1 (%)",
        groups=(("", 1), *((column, 2) for column in paper.TABLE_1)),
        header=("", *("Fine-tuned", "Frozen") * len(paper.TABLE_1)),
        rows=tuple(rows),
        caption="As printed: the best epoch (appendix A.3); the best of each column is bold.",
    )


def _papers(value: float | None, best: float | None = None) -> Cell:
    return DASH if value is None else Cell(f"{value:.2f}", strong=value == best)


def _ours(
    key: str, measured: Sequence[Run], rows: Sequence[Row], shown: Sequence[Run], column: paper.Column | None
) -> Table:
    """The table of one network."""
    images, depth = measured[0].dataset, measured[0].setup.depth
    theirs = f"those of {column}, its best epoch" if column else "left out: it has no such images"
    left_out = len({identity(run) for run in measured} - {identity(run) for run in shown})
    return Table(
        key=key,
        title=f"Table 1, ours: {images}, ResNet-{depth}",
        groups=(("", 2), ("Fine-tuned top-1 (%)", 3), ("Frozen top-1 (%)", 3)),
        header=("System", "Reads", *("paper", "best epoch", "last epoch") * 2),
        rows=_cells(rows, column),
        caption=f"The paper's numbers are {theirs}. They stand by what its probes read: z of StochCon and h "
        "of SimCLR. Below a mean of several seeds is its range. Fine-tuned is the best of the "
        "numbers of epochs that were tried. Of each system the runs with the most epochs and, of those, the "
        f"widest latent are listed{f' ({left_out} other settings are not)' if left_out else ''}.",
        source=source(shown),
        num_text_columns=2,
    )


def _rows(measured: Sequence[Run]) -> tuple[list[Row], list[Run]]:
    """A row for each setting and reading, and the runs that they are of."""
    rows: list[Row] = []
    shown: list[Run] = []
    for system in SYSTEMS:
        largest = headline(of_system(measured, system))
        shown += largest
        groups = list(by(largest, identity).values())
        for group, detail in zip(groups, details(groups), strict=True):
            trained = [run for run in group if not run.fine_tuning]
            if labelled := [run for run in trained if _class_top1(run)]:
                rows.append(Row(system, detail, None, _supervised(labelled), None))
            for reading in READINGS:
                tuned, frozen = _tuned(group, reading), _frozen(trained, reading)
                if tuned or frozen:
                    rows.append(Row(system, detail, reading, tuned, frozen))
    return rows, shown


def _class_top1(run: Run) -> list[float]:
    """Top-1 of a network trained with labels after each epoch, or after the last if no more is known."""
    over_training = [line["test_top1"] for line in run.metrics if "test_top1" in line]
    last = run.evaluation.top1
    return over_training if over_training or last is None else [last]


def _supervised(runs: Sequence[Run]) -> Outcome:
    watched = [run for run in runs if reports(run, "test_top1")]
    curves = [[PERCENT * top1 for top1 in _class_top1(run)] for run in watched or runs]
    best = tuple(max(curve) for curve in curves) if watched else ()
    return Outcome(best, tuple(curve[-1] for curve in curves), runs[0].setup.epochs)


def _tuned(runs: Sequence[Run], reading: Reading) -> Outcome | None:
    """The best of the epoch ranges, as appendix A.3 has it."""
    tuned = [run for run in runs if run.fine_tuning and reading in run.fine_tuning.readings]
    trials = [
        [run.fine_tuning for run in trial if run.fine_tuning] for trial in by(tuned, tuning_of).values()
    ]
    outcomes = [
        Outcome.of([tuning.readings[reading] for tuning in trial], trial[0].epochs) for trial in trials
    ]
    return max(outcomes, key=lambda outcome: fmean(outcome.best), default=None)


def _frozen(runs: Sequence[Run], reading: Reading) -> Outcome | None:
    """The longest probe there is."""
    probes = [run.probe for run in runs if run.probe and reading in run.probe.representations]
    if not probes:
        return None
    longest = max(probe.epochs for probe in probes)
    kept = [probe.representations[reading] for probe in probes if probe.epochs == longest]
    return Outcome.of(kept, longest)


def _cells(rows: Sequence[Row], column: paper.Column | None) -> tuple[tuple[Cell, ...], ...]:
    """Rows as they are printed."""
    made = []
    previous: Cell | None = None
    for row in rows:
        name, theirs = Cell(SYSTEMS[row.system], row.detail), _theirs(row, column)
        made.append(
            (
                Cell("") if name == previous else name,
                _reading(row),
                *(_papers(theirs.fine_tuned), *_pair(row.fine_tuned)),
                *(_papers(theirs.frozen), *_pair(row.frozen)),
            )
        )
        previous = name
    return tuple(made)


def _pair(outcome: Outcome | None) -> tuple[Cell, Cell]:
    if outcome is None:
        return DASH, DASH
    return Cell.over(outcome.best, 2), Cell.over(outcome.last, 2)


def _reading(row: Row) -> Cell:
    if row.reading is None:
        return Cell("classifier")
    name, _ = (GAUSSIAN_READINGS if row.system == "gaussian" else READINGS)[row.reading]
    budgets = (("tuned", row.fine_tuned), ("probed", row.frozen))
    told = ", ".join(f"{verb} {outcome.epochs}" for verb, outcome in budgets if outcome)
    return Cell(name, f"{told} epochs")


def _theirs(row: Row, column: paper.Column | None) -> paper.Top1:
    """The paper's numbers that belong to this row."""
    reading = {"simclr": "h", "supervised": None}.get(row.system, "z")
    if column is None or row.system == "supervised-bernoulli" or row.reading != reading:
        return paper.NOTHING
    return paper.TABLE_1[column][row.system]


def _absent(
    runs: Runs, trained: Sequence[Run], rows: Sequence[Row], column: paper.Column | None
) -> list[Part]:
    """The numbers of the paper's table that ours lacks."""
    made: list[Part] = []
    for system, printed in paper.TABLE_1[column].items() if column else ():
        of_it = [row for row in rows if row.system == system]
        have = [run for run in trained if system_of(run) == system]
        name = f"{SYSTEMS[system]} on {trained[0].dataset if trained else column}"
        if printed.fine_tuned and not any(row.fine_tuned for row in of_it):
            verb, options = "finetune", f"--on {'h' if system == 'simclr' else 'z'} --out FOLDER"
            if system == "supervised":
                verb, options = "evaluate", ""
            command = commands.make(runs, have, (system,), verb, options)
            made.append(Missing(f"{name}, fine-tuned", "no run given has it", command))
        if printed.frozen and not any(row.frozen for row in of_it):
            command = commands.make(runs, have, (system,), "probe")
            made.append(Missing(f"{name}, frozen", "no run given has probe.json", command))
    return made
