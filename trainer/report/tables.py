"""Beyond the paper: retrieval and the bits of codes, regression, and every run with what it took."""

from collections.abc import Callable, Sequence
from statistics import fmean, median

from trainer.report import commands
from trainer.report.content import DASH, Cell, Missing, Part, Table
from trainer.report.curves import GAUSSIAN_READINGS, PERCENT, READINGS
from trainer.report.groups import (
    SYSTEMS,
    backbone,
    by,
    details,
    identity,
    machine,
    source,
    suffix,
    system_of,
    variant_of,
)
from trainer.report.records import Evaluation, Run, Runs

_CODE_COLUMNS: tuple[tuple[Callable[[Evaluation], float | None], float, int], ...] = (
    (lambda found: found.codes_knn_top1, PERCENT, 1),
    (lambda found: found.features_knn_top1, PERCENT, 1),
    (lambda found: found.codes_map, PERCENT, 1),
    (lambda found: found.features_map, PERCENT, 1),
    (lambda found: found.active_bits, 1, 0),
    (lambda found: found.entropy_bits, 1, 0),
    (lambda found: found.dead_bits, 1, 0),
    (lambda found: found.aggregate_variance, 1, 3),
)
"""A number of the evaluation, its scale, and digits after the point."""


def codes(runs: Runs) -> list[Part]:
    """Retrieval by codes and by floats, and how full the codes are: a table for each network."""
    evaluated = [run for run in runs.trained if run.evaluation != Evaluation()]
    made: list[Part] = []
    for number, group in enumerate(by(evaluated, backbone).values()):
        made.append(
            Table(
                key=f"codes{suffix(number)}",
                title=f"Codes and floats: {group[0].dataset}, ResNet-{group[0].setup.depth}",
                groups=(("", 1), ("k-NN top-1 (%)", 2), ("mAP (%)", 2), ("Bits", 3), ("Gaussian", 1)),
                header=("System", *("codes", "floats h") * 2, "active", "entropy", "dead", "variance"),
                rows=tuple((name, *_code_cells(found)) for name, found in _settings(group)),
                caption="Every test image against the whole gallery. Active: mean number of ones in a code. "
                "Entropy: that of all bits given the image, in bits. Dead: bits equal in every code. "
                "Variance: aggregate variance, mean over dimensions. Below a mean of several seeds is its "
                "range.",
                source=source(group),
            )
        )
    command = commands.measure("evaluate", runs.trained)
    return made or [Missing("Entropy and dead bits", "no run has evaluation.json", command)]


def regressions(runs: Runs) -> list[Part]:
    """R² and error of linear probes of numeric columns: a table for each column and network."""
    pairs = [(column, run) for run in runs.trained for column in run.regressions]
    made: list[Part] = []
    tables = by(pairs, lambda pair: (pair[0], backbone(pair[1]), pair[1].regressions[pair[0]].epochs))
    for number, ((column, _, epochs), entries) in enumerate(tables.items()):
        group = [run for _, run in entries]
        made.append(
            Table(
                key=f"regression{suffix(number)}",
                title=f"Regression of {column}: {group[0].dataset}, ResNet-{group[0].setup.depth}",
                groups=(("", 2), ("R²", 2), ("Mean absolute error", 2)),
                header=("System", "Reads", "best epoch", "last epoch", "last epoch", "always the mean"),
                rows=tuple(
                    row for name, found in _settings(group) for row in _regression_rows(name, found, column)
                ),
                caption=f"A linear probe of the frozen network, {epochs} epochs. “Always the mean” is the "
                "error of that answer. Below a mean of several seeds is its range.",
                source=source(group),
                paper="The paper claims regression (abstract) and gives no number.",
                num_text_columns=2,
            )
        )
    command = commands.measure("probe", runs.trained[:1], "--target COLUMN")
    return made or [Missing("Regression", "no run has probe-COLUMN.json", command)]


def efforts(runs: Runs) -> list[Part]:
    """Every run that was given, with its hardware, time and throughput."""
    return [
        Table(
            key="runs",
            title="Runs",
            groups=(),
            header=("Run", "Images", "Machine", "Seed", "Epochs", "Hours", "Images/s", "Data wait"),
            rows=tuple(map(_effort, (*runs.trained, *runs.fine_tuned, *runs.unfinished))),
            caption="Hours are those of training or fine-tuning. Images/s is the median over it. Data wait "
            "is the mean share of the time in which a step waits for its images. A run that is not finished "
            "is in no figure.",
            num_text_columns=3,
        )
    ]


def _settings(group: Sequence[Run]) -> list[tuple[Cell, list[Run]]]:
    """Runs of one setting, with its name; system by system, of each the variants from wide to narrow."""
    order = list(SYSTEMS)

    def rank(found: Sequence[Run]) -> tuple[int, int, bool, bool, int]:
        setup = found[0].setup
        place = order.index(system_of(found[0]))
        return place, -setup.epochs, setup.hard, setup.placement == "bottom", -setup.num_bits

    settings = sorted(by(group, identity).values(), key=rank)
    names = (
        Cell(SYSTEMS[system_of(found[0])], detail)
        for found, detail in zip(settings, details(settings), strict=True)
    )
    return list(zip(names, settings, strict=True))


def _code_cells(found: Sequence[Run]) -> tuple[Cell, ...]:
    columns = (
        ([read(run.evaluation) for run in found], scale, digits) for read, scale, digits in _CODE_COLUMNS
    )
    return tuple(
        Cell.over([scale * value for value in values if value is not None], digits)
        for values, scale, digits in columns
    )


def _regression_rows(name: Cell, found: Sequence[Run], column: str) -> list[tuple[Cell, ...]]:
    probes = [run.regressions[column] for run in found]
    readings = GAUSSIAN_READINGS if found[0].setup.latent == "gaussian" else READINGS
    rows: list[tuple[Cell, ...]] = []
    for reading, (label, _) in readings.items():
        fits = [probe.representations[reading] for probe in probes if reading in probe.representations]
        if fits:
            rows.append(
                (
                    Cell("") if rows else name,
                    Cell(label),
                    Cell.over([max(fit.r2) for fit in fits], 3),
                    Cell.over([fit.r2[-1] for fit in fits], 3),
                    Cell.over([fit.mae[-1] for fit in fits], 3),
                    Cell.over([probe.baseline_mae for probe in probes], 3),
                )
            )
    return rows


def _effort(run: Run) -> tuple[Cell, ...]:
    record, setup, tuning = run.record, run.setup, run.fine_tuning
    speeds = [line["images_per_s"] for line in run.metrics if "images_per_s" in line]
    waits = [line["data_wait"] for line in run.metrics if "data_wait" in line]
    told = (
        setup.name,
        variant_of(setup),
        f"fine-tuned on {tuning.on}" if tuning else "",
        "" if run.finished else f"not finished: step {record.steps:,} of {record.num_steps:,}",
    )
    return (
        Cell(run.folder.name, ", ".join(part for part in told if part)),
        Cell(run.dataset, f"{record.num_images:,} images"),
        Cell(machine(run)),
        Cell(str(tuning.seed if tuning else setup.seed)),
        Cell(str(tuning.epochs if tuning else setup.epochs)),
        Cell(f"{record.seconds / 3600:.2f}"),
        Cell(f"{median(speeds):,.0f}") if speeds else DASH,
        Cell(f"{PERCENT * fmean(waits):.1f} %") if waits else DASH,
    )
