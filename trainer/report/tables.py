"""Beyond the paper: retrieval and the bits of codes, regression, and every run with what it took."""

from collections.abc import Sequence
from statistics import fmean, median

from trainer.report import commands
from trainer.report.content import Cell, Missing, Part, Stat, Table
from trainer.report.curves import GAUSSIAN_READINGS, PERCENT, READINGS
from trainer.report.groups import (
    SYSTEM_NAMES,
    backbone,
    by,
    details,
    identity,
    numbered,
    source,
    system_of,
    variant_of,
)
from trainer.report.records import FineTuned, Run, Runs

_DASH = Cell("–")

_CODE_COLUMNS: tuple[tuple[str, float, int], ...] = (
    ("codes_knn_top1", PERCENT, 1),
    ("features_knn_top1", PERCENT, 1),
    ("codes_map", PERCENT, 1),
    ("features_map", PERCENT, 1),
    ("active_bits", 1, 0),
    ("entropy_bits", 1, 0),
    ("dead_bits", 1, 0),
    ("aggregate_variance", 1, 3),
)
"""Field of `evaluation.json`, scale, and digits after the point."""


def codes(runs: Runs) -> list[Part]:
    """Retrieval by codes and by floats, and how full the codes are: a table for each network."""
    keys = {key for key, _, _ in _CODE_COLUMNS}
    evaluated = [run for run in runs.trained if keys & set(run.evaluation)]
    made: list[Part] = []
    for number, group in enumerate(by(evaluated, backbone).values()):
        settings = sorted(by(group, identity).values(), key=_rank)
        made.append(
            Table(
                key=numbered("codes", number),
                title=f"Codes and floats: {group[0].images.dataset}, ResNet-{group[0].setup.depth}",
                groups=(("", 1), ("k-NN top-1 (%)", 2), ("mAP (%)", 2), ("Bits", 3), ("Gaussian", 1)),
                header=(
                    "System",
                    *("codes", "floats h") * 2,
                    "active",
                    "entropy",
                    "dead",
                    "variance",
                ),
                rows=tuple(
                    (_name(found, detail), *_code_cells(found))
                    for found, detail in zip(settings, details(settings), strict=True)
                ),
                caption="Every test image against the whole gallery. Active: mean number of ones in a code. "
                "Entropy: that of all bits given the image, in bits. Dead: bits equal in every code. "
                "Variance: aggregate variance, mean over dimensions. Below a mean, its range over seeds.",
                source=source(group, "latent", "num_bits"),
                paper="Not in the paper, except the bit counts (Figure 4) and the variance (Figure 3).",
            )
        )
    if made:
        return made
    command = commands.evaluate([run.folder for run in runs.trained])
    return [Missing("Entropy and dead bits", "no run has evaluation.json", command)]


def regressions(runs: Runs) -> list[Part]:
    """R² and error of linear probes of numeric columns: a table for each column and network."""
    pairs = [(column, run) for run in runs.trained for column in run.regressions]
    made: list[Part] = []
    tables = by(pairs, lambda pair: (pair[0], backbone(pair[1]), pair[1].regressions[pair[0]].epochs))
    for number, ((column, _, epochs), entries) in enumerate(tables.items()):
        group = [run for _, run in entries]
        settings = sorted(by(group, identity).values(), key=_rank)
        made.append(
            Table(
                key=numbered("regression", number),
                title=f"Regression of {column}: {group[0].images.dataset}, ResNet-{group[0].setup.depth}",
                groups=(("", 2), ("R²", 2), ("Mean absolute error", 2)),
                header=("System", "Reads", "best epoch", "last epoch", "last epoch", "always the mean"),
                rows=tuple(
                    row
                    for found, detail in zip(settings, details(settings), strict=True)
                    for row in _regression_rows(found, detail, column)
                ),
                caption=f"A linear probe of the frozen network, {epochs} epochs. “Always the mean” is the "
                "error of that answer. Below a mean, its range over seeds.",
                source=source(group, "latent", "num_bits"),
                paper="The paper claims regression (abstract) and gives no number.",
                num_text_columns=2,
            )
        )
    if made:
        return made
    command = commands.probe([run.folder for run in runs.trained][:1], "COLUMN")
    return [Missing("Regression", "no run has probe-COLUMN.json", command)]


def efforts(runs: Runs) -> list[Part]:
    """Every run that was given, with its time and throughput."""
    fine_tuned = [*runs.fine_tuned, *(run for run in runs.unfinished if isinstance(run, FineTuned))]
    trained = [*runs.trained, *(run for run in runs.unfinished if isinstance(run, Run))]
    return [
        Table(
            key="runs",
            title="Runs",
            groups=(),
            header=("Run", "Images", "Seed", "Epochs", "Hours", "Images/s", "Data wait"),
            rows=(*map(_trained, trained), *map(_fine_tuned, fine_tuned)),
            caption="Images/s is the median over training. Data wait is the mean share of the time in which "
            "a step waits for its images. A run that is not finished is in no figure.",
            num_text_columns=2,
        )
    ]


def _rank(found: Sequence[Run]) -> tuple[str, bool, str, int, int]:
    """System by system, of each the variants from wide to narrow."""
    setup = found[0].setup
    return system_of(setup), setup.hard, setup.placement, -setup.epochs, -setup.num_bits


def _name(found: Sequence[Run], detail: str) -> Cell:
    return Cell(SYSTEM_NAMES[system_of(found[0].setup)], detail)


def _code_cells(found: Sequence[Run]) -> tuple[Cell, ...]:
    return tuple(
        _over([scale * run.evaluation[key] for run in found if key in run.evaluation], digits)
        for key, scale, digits in _CODE_COLUMNS
    )


def _over(values: Sequence[float], digits: int) -> Cell:
    """Mean and range of a number over seeds."""
    if not values:
        return _DASH
    stat = Stat.of(values)
    over = f"{stat.low:,.{digits}f} to {stat.high:,.{digits}f}" if stat.count > 1 else ""
    return Cell(f"{stat.mean:,.{digits}f}", over, stat=stat)


def _regression_rows(found: Sequence[Run], detail: str, column: str) -> list[tuple[Cell, ...]]:
    probes = [run.regressions[column] for run in found]
    names = GAUSSIAN_READINGS if found[0].setup.latent == "gaussian" else READINGS
    readings = [reading for reading in names if any(reading in probe.scores for probe in probes)]
    rows: list[tuple[Cell, ...]] = []
    for number, reading in enumerate(readings):
        having = [probe for probe in probes if reading in probe.scores]
        rows.append(
            (
                _name(found, detail) if number == 0 else Cell(""),
                Cell(names[reading][0]),
                _over([probe.scores[reading].best for probe in having], 3),
                _over([probe.scores[reading].last for probe in having], 3),
                _over([probe.errors[reading] for probe in having], 3),
                _over([probe.baseline_error for probe in having if probe.baseline_error is not None], 3),
            )
        )
    return rows


def _trained(run: Run) -> tuple[Cell, ...]:
    speeds = [line["images_per_s"] for line in run.metrics if "images_per_s" in line]
    waits = [line["data_wait"] for line in run.metrics if "data_wait" in line]
    variant = variant_of(run.setup)
    progress = "" if run.finished else f"step {run.steps:,} of {run.num_steps:,}"
    return (
        Cell(run.setup.name, ", ".join(part for part in (variant, progress) if part)),
        Cell(run.images.dataset, f"{run.images.count:,} images"),
        Cell(str(run.setup.seed)),
        Cell(str(run.setup.epochs)),
        Cell(f"{run.effort.seconds / 3600:.2f}"),
        Cell(f"{median(speeds):,.0f}") if speeds else _DASH,
        Cell(f"{PERCENT * fmean(waits):.1f} %") if waits else _DASH,
    )


def _fine_tuned(run: FineTuned) -> tuple[Cell, ...]:
    progress = "" if run.finished else f", {len(run.scores.epochs)} of {run.epochs} epochs done"
    return (
        Cell(run.setup.name, f"fine-tuned on {run.on}{progress}"),
        Cell(run.images.dataset, f"{run.images.count:,} images"),
        Cell(str(run.setup.seed)),
        Cell(str(run.epochs)),
        Cell(f"{run.effort.seconds / 3600:.2f}"),
        _DASH,
        _DASH,
    )
