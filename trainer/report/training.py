"""Beyond the paper: the loss and the throughput of training."""

from collections.abc import Sequence

from trainer.report.content import Chart, Line, Missing, Part
from trainer.report.curves import over_training, reports
from trainer.report.groups import (
    LATENT_FIELDS,
    SYSTEM_NAMES,
    by,
    grouped,
    identity,
    numbered,
    system_of,
    variant_of,
)
from trainer.report.records import Run, Runs

_CURVES = (
    ("loss", "Training loss", "loss (nats)", "Losses of one figure are of one kind, temperature and batch."),
    ("images_per_s", "Throughput of training", "images/s", "Other work on the machine shows as well."),
)
_MOST_LABELS = 6
"""Settings that a legend can tell apart; of more, it tells the systems only."""


def training_curves(runs: Runs) -> list[Part]:
    """A line for each setting, over seeds, on axes that it shares with what differs in the latent alone."""
    made: list[Part] = []
    for key, title, y_label, caption in _CURVES:
        reported = [run for run in runs.trained if reports(run, key)]
        for number, (group, source) in enumerate(grouped(reported, *LATENT_FIELDS)):
            made.append(
                Chart(
                    key=numbered(f"training-{key.replace('_', '-')}", number),
                    title=f"{title}{', with labels' if group[0].setup.objective == 'supervised' else ''}",
                    x_label="epoch",
                    y_label=y_label,
                    lines=_lines(group, key),
                    source=source,
                    caption=f"{caption} Averaged over neighbouring steps.",
                    paper="Not in the paper.",
                )
            )
    if made:
        return made
    reason = "no finished run has metrics.jsonl"
    return [Missing("Training curves", reason, "stochcon train RECIPE --images TRAIN")]


def _lines(group: Sequence[Run], key: str) -> tuple[Line, ...]:
    settings = sorted(by(group, identity).values(), key=lambda found: system_of(found[0].setup))
    are_few = len(settings) <= _MOST_LABELS
    shades: dict[str, int] = {}
    lines = []
    for found in settings:
        setup = found[0].setup
        system = system_of(setup)
        shade = shades.setdefault(system, 0)
        shades[system] += 1
        label = f"{SYSTEM_NAMES[system]} {variant_of(setup)}".strip() if are_few else SYSTEM_NAMES[system]
        lines.append(
            Line(label, system, over_training(found, key), shade=shade if are_few else 0, marks=False)
        )
    return tuple(lines)
