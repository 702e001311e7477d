"""Table 1: test top-1 of every system, fine-tuned and frozen, the paper's numbers beside ours."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.report import commands, paper
from trainer.report.content import Cell, Missing, Part, Stat, Table
from trainer.report.curves import GAUSSIAN_READINGS, PERCENT, READINGS, reports
from trainer.report.groups import (
    SYSTEM_NAMES,
    System,
    backbone,
    by,
    details,
    headline,
    identity,
    numbered,
    source,
    system_of,
)
from trainer.report.records import FineTuned, Run, Runs

_DASH = Cell("–")
_ORDER: tuple[System, ...] = ("bernoulli", "gaussian", "supervised", "supervised-bernoulli", "simclr")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Top-1 in per cent over seeds, at the best epoch and at the last one."""

    best: Stat | None
    last: Stat
    epochs: int
    """Of the probe or of fine-tuning."""


@dataclass(frozen=True, slots=True)
class Row:
    system: System
    detail: str
    """Variant and epochs of its runs."""
    reading: str
    """`h`, `z`, `z_sampled`, `bits`, or `classifier` for a network that was trained with labels."""
    fine_tuned: Outcome | None
    frozen: Outcome | None


def table_1(runs: Runs) -> list[Part]:
    """The paper's table, then one of ours for each data set and network."""
    everyone: list[Run | FineTuned] = [*runs.trained, *runs.fine_tuned]
    measured = [run for run in everyone if isinstance(run, FineTuned) or run.probe or _class_top1(run)]
    made: list[Part] = [_papers_own()]
    for number, (network, group) in enumerate(by(measured, backbone).items()):
        trained = [run for run in runs.trained if backbone(run) == network]
        made += _ours(runs, group, trained, numbered("table-1", number))
    if not measured:
        reason = "no run has probe.json, none is fine-tuned, and none was trained with labels"
        command = commands.probe([run.folder for run in runs.trained])
        made.append(Missing("Table 1, our numbers", reason, command))
    return made


def _papers_own() -> Table:
    rows = []
    for system, name in paper.SYSTEMS.items():
        cells = [Cell(name)]
        for column in paper.COLUMNS:
            others = paper.TABLE_1[column].values()
            ours = paper.TABLE_1[column][system]
            cells.append(_papers(ours.fine_tuned, [other.fine_tuned for other in others]))
            cells.append(_papers(ours.frozen, [other.frozen for other in others]))
        rows.append(tuple(cells))
    return Table(
        key="table-1-paper",
        title="Table 1 of the paper: test top-1 (%)",
        groups=(("", 1), *((column, 2) for column in paper.COLUMNS)),
        header=("", *("Fine-tuned", "Frozen") * len(paper.COLUMNS)),
        rows=tuple(rows),
        caption="As printed: the best of each column is bold, a dash is a dash there.",
        paper=paper.TABLE_1_TEXT,
    )


def _papers(value: float | None, column: Sequence[float | None] = ()) -> Cell:
    if value is None:
        return _DASH
    return Cell(f"{value:.2f}", strong=value == max((other or 0 for other in column), default=None))


def _ours(runs: Runs, measured: Sequence[Run | FineTuned], trained: Sequence[Run], key: str) -> list[Part]:
    """The table of one network, and what it lacks; `trained` has its runs that were not measured, too."""
    rows: list[Row] = []
    shown: list[Run | FineTuned] = []
    for system in _ORDER:
        largest = headline([run for run in measured if system_of(run.setup) == system])
        shown += largest
        settings = list(by(largest, identity).values())
        for found, detail in zip(settings, details(settings), strict=True):
            rows += _rows(system, detail, found)
    images, depth = measured[0].images, measured[0].setup.depth
    column = paper.column_of(images.dataset, depth)
    theirs = f"those of {column}, its best epoch" if column else "left out: it has no such images"
    left_out = len({identity(run) for run in measured} - {identity(run) for run in shown})
    others = f" ({left_out} other settings are not)" if left_out else ""
    table = Table(
        key=key,
        title=f"Table 1, ours: {images.dataset}, ResNet-{depth}",
        groups=(("", 2), ("Fine-tuned top-1 (%)", 3), ("Frozen top-1 (%)", 3)),
        header=("System", "Reads", *("paper", "best epoch", "last epoch") * 2),
        rows=_cells(rows, column),
        caption=f"The paper's numbers are {theirs}. They stand by what its probes read: z of StochCon and h "
        "of SimCLR. Below a mean are the lowest and the highest over seeds. Of each system the runs with the "
        f"most epochs and, of those, the widest latent are listed{others}.",
        source=source(shown, "latent", "num_bits"),
        paper=paper.TABLE_1_TEXT,
        num_text_columns=2,
    )
    return [table, *_absent(runs, trained, rows, column, images.dataset)]


def _rows(system: System, detail: str, group: Sequence[Run | FineTuned]) -> list[Row]:
    """A row for each reading of runs of one setting."""
    trained = [run for run in group if isinstance(run, Run)]
    fine_tuned = [run for run in group if isinstance(run, FineTuned)]
    rows = []
    labelled = [run for run in trained if _class_top1(run)]
    if labelled:
        rows.append(Row(system, detail, "classifier", _supervised(labelled), None))
    for reading in READINGS:
        tuned = _tuned([run for run in fine_tuned if run.on == reading])
        frozen = _frozen(trained, reading)
        if tuned or frozen:
            rows.append(Row(system, detail, reading, tuned, frozen))
    return rows


def _class_top1(run: Run) -> list[float]:
    """Top-1 of a network trained with labels after each epoch, or after the last if no more is known."""
    over_training = [line["test_top1"] for line in run.metrics if "test_top1" in line]
    return over_training or [run.evaluation[key] for key in ("class_top1",) if key in run.evaluation]


def _supervised(runs: Sequence[Run]) -> Outcome:
    watched = [run for run in runs if reports(run, "test_top1")]
    curves = [_class_top1(run) for run in watched or runs]
    return Outcome(
        Stat.of([PERCENT * max(curve) for curve in curves]) if watched else None,
        Stat.of([PERCENT * curve[-1] for curve in curves]),
        runs[0].setup.epochs,
    )


def _tuned(runs: Sequence[FineTuned]) -> Outcome | None:
    """The best of the epoch ranges, as appendix A.3 has it."""
    outcomes = [
        Outcome(
            Stat.of([PERCENT * run.scores.best for run in found]),
            Stat.of([PERCENT * run.scores.last for run in found]),
            epochs,
        )
        for epochs, found in by(runs, lambda run: run.epochs).items()
    ]
    return max(outcomes, key=lambda outcome: outcome.best.mean if outcome.best else 0, default=None)


def _frozen(runs: Sequence[Run], reading: str) -> Outcome | None:
    """The longest probe there is."""
    found = [
        (run.probe.epochs, scores) for run in runs if run.probe and (scores := run.probe.scores.get(reading))
    ]
    if not found:
        return None
    longest = max(epochs for epochs, _ in found)
    kept = [scores for epochs, scores in found if epochs == longest]
    return Outcome(
        Stat.of([PERCENT * scores.best for scores in kept]),
        Stat.of([PERCENT * scores.last for scores in kept]),
        longest,
    )


def _cells(rows: Sequence[Row], column: paper.Column | None) -> tuple[tuple[Cell, ...], ...]:
    """Rows as they are printed; the best of each of our columns is bold."""
    stats = [(*_pair(row.fine_tuned), *_pair(row.frozen)) for row in rows]
    leaders = [max((stat.mean for stat in kind if stat), default=0) for kind in zip(*stats, strict=True)]
    made = []
    for number, (row, four) in enumerate(zip(rows, stats, strict=True)):
        is_first = number == 0 or _name(rows[number - 1]) != _name(row)
        theirs = _theirs(row, column)
        ours = [_ours_cell(stat, leader) for stat, leader in zip(four, leaders, strict=True)]
        made.append(
            (
                _name(row) if is_first else Cell(""),
                _reading(row),
                _papers(theirs.fine_tuned),
                *ours[:2],
                _papers(theirs.frozen),
                *ours[2:],
            )
        )
    return tuple(made)


def _pair(outcome: Outcome | None) -> tuple[Stat | None, Stat | None]:
    return (outcome.best, outcome.last) if outcome else (None, None)


def _ours_cell(stat: Stat | None, leader: float) -> Cell:
    if stat is None:
        return _DASH
    over = f"{stat.low:.2f} to {stat.high:.2f}" if stat.count > 1 else "one seed"
    return Cell(f"{stat.mean:.2f}", over, strong=stat.mean == leader, stat=stat)


def _name(row: Row) -> Cell:
    return Cell(SYSTEM_NAMES[row.system], row.detail)


def _reading(row: Row) -> Cell:
    names = GAUSSIAN_READINGS if row.system == "gaussian" else READINGS
    name = names[row.reading][0] if row.reading in names else row.reading
    if row.reading == "classifier":
        return Cell(name)
    budgets = [
        f"{verb} {outcome.epochs}"
        for verb, outcome in (("tuned", row.fine_tuned), ("probed", row.frozen))
        if outcome
    ]
    return Cell(name, f"{', '.join(budgets)} epochs")


def _theirs(row: Row, column: paper.Column | None) -> paper.Top1:
    """The paper's numbers that belong to this row."""
    nothing = paper.Top1(None, None)
    if column is None or row.system == "supervised-bernoulli":
        return nothing
    reading = {"simclr": "h", "supervised": "classifier"}.get(row.system, "z")
    return paper.TABLE_1[column][row.system] if row.reading == reading else nothing


def _absent(
    runs: Runs, trained: Sequence[Run], rows: Sequence[Row], column: paper.Column | None, dataset: str
) -> list[Part]:
    """The numbers of the paper's table that ours lacks."""
    made: list[Part] = []
    for system in paper.SYSTEMS:
        printed = paper.TABLE_1[column][system] if column else paper.Top1(None, None)
        of_system = [row for row in rows if row.system == system]
        folders = [run.folder for run in trained if system_of(run.setup) == system]
        train = f"{commands.train(runs, system)}; then "
        on = "h" if system == "simclr" else "z"
        name = f"Table 1, {dataset}: {SYSTEM_NAMES[system]}"
        if printed.fine_tuned and not any(row.fine_tuned for row in of_system):
            if system == "supervised":
                command = commands.evaluate(folders) if folders else commands.train(runs, system)
            else:
                command = (
                    commands.finetune(folders, on) if folders else train + f"stochcon finetune RUN --on {on}"
                )
            made.append(Missing(f"{name}, fine-tuned", "no run given has it", command))
        if printed.frozen and not any(row.frozen for row in of_system):
            command = commands.probe(folders) if folders else train + "stochcon probe"
            made.append(Missing(f"{name}, frozen", "no run given has probe.json", command))
    return made
