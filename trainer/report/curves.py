"""Lines made of runs: against a width, over training, or over the epochs of fine-tuning."""

from collections.abc import Iterable, Sequence

from trainer.report.content import Line, Point, Role, Scale, Stat
from trainer.report.groups import by
from trainer.report.records import Reading, Run

PERCENT = 100.0

READINGS: dict[Reading, tuple[str, Role]] = {
    "h": ("h (floats)", "h"),
    "z": ("relaxed z", "z"),
    "z_sampled": ("relaxed z, sampled", "z-sampled"),
    "bits": ("hard bits", "bits"),
}
"""What a linear layer reads of a network, as figures and tables name it."""

GAUSSIAN_READINGS: dict[Reading, tuple[str, Role]] = READINGS | {"z": ("z (mean)", "z")}

_MOST_POINTS = 150
"""Of a curve over training; neighbours are averaged until it has no more."""


def points(pairs: Iterable[tuple[float, float]]) -> tuple[Point, ...]:
    """Pairs of x and y, over those of equal x, in the order of x."""
    found = by(pairs, lambda pair: pair[0])
    return tuple(Point(x, Stat.of([y for _, y in found[x]])) for x in sorted(found))


def probe_lines(
    runs: Sequence[Run], readings: dict[Reading, tuple[str, Role]], *, best: bool = True
) -> tuple[Line, ...]:
    """Top-1 of the probe (its best epoch, or its last) against the latent's width, for each reading."""
    lines = []
    for reading, (label, role) in readings.items():
        pairs = [
            (run.setup.num_bits, PERCENT * (scores.best if best else scores.last))
            for run in runs
            if run.probe and (scores := run.probe.representations.get(reading))
        ]
        if pairs:
            lines.append(Line(label if best else f"{label}, last epoch", role, points(pairs)))
    return tuple(lines)


def probe_epochs(run: Run) -> int | None:
    return run.probe.epochs if run.probe else None


def probe_caption(runs: Sequence[Run]) -> str:
    """Of runs that were probed for equally many epochs."""
    return (
        f"A linear probe of the frozen network, {probe_epochs(runs[0])} epochs: its best one, as the paper "
        "reports; the last one is among the numbers."
    )


def several_widths(runs: Sequence[Run]) -> bool:
    """Whether a line can be drawn against the width."""
    return len({run.setup.num_bits for run in runs}) > 1


def over_training(runs: Sequence[Run], key: str, scale: float = 1.0) -> tuple[Point, ...]:
    """A metric against epochs, over seeds, at those epochs where every run has reported it.

    If there are none, of the first one. Every run has to have reported it once.
    """
    series = [{line["epoch"]: line[key] for line in run.metrics if key in line} for run in runs]
    shared = sorted(set.intersection(*(set(found) for found in series)))
    if not shared:
        return over_training(runs[:1], key, scale)
    size = -(-len(shared) // _MOST_POINTS) or 1
    made = []
    for start in range(0, len(shared), size):
        epochs = shared[start : start + size]
        means = [scale * sum(found[epoch] for epoch in epochs) / len(epochs) for found in series]
        made.append(Point(epochs[-1], Stat.of(means)))
    return tuple(made)


def over_fine_tuning(runs: Sequence[Run]) -> tuple[Point, ...]:
    """Top-1 in per cent after each epoch, from 1, over runs of equally many epochs."""
    return points(
        (epoch, PERCENT * top1)
        for run in runs
        if run.fine_tuning
        for epoch, top1 in enumerate(run.fine_tuning.top1, start=1)
    )


def reports(run: Run, key: str) -> bool:
    """Whether the run reported this metric."""
    return any(key in line for line in run.metrics)


def log_if_far_apart(lines: Sequence[Line]) -> Scale:
    """Logarithmic where values are far apart, as those of a collapse are."""
    values = [point.y.mean for line in lines for point in line.points]
    return "log10" if min(values) > 0 and max(values) > 20 * min(values) else "linear"
