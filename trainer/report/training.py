"""Beyond the paper: the loss over training."""

from collections.abc import Sequence

from trainer.report.content import Chart, Line, Missing, Part
from trainer.report.curves import over_training, reports
from trainer.report.groups import LATENT, SYSTEMS, by, grouped, identity, system_of, variant_of
from trainer.report.records import Run, Runs

_MOST_LABELS = 6
"""Settings that a legend can tell apart; of more, it tells the systems only."""


def training_curves(runs: Runs) -> list[Part]:
    """A line for each setting, over seeds, on axes that it shares with what differs in the latent alone."""
    made: list[Part] = [
        Chart(
            key=f"training-loss{suffix}",
            title=f"Training loss{', with labels' if group[0].setup.objective == 'supervised' else ''}",
            x_label="epoch",
            y_label="loss (nats)",
            lines=_lines(group),
            source=source,
            caption="Losses of one figure are of one kind, temperature and batch. Averaged over neighbouring "
            "steps.",
        )
        for suffix, group, source in grouped([run for run in runs.trained if reports(run, "loss")], *LATENT)
    ]
    reason = "no finished run has metrics.jsonl"
    return made or [Missing("Training curves", reason, "stochcon train RECIPE --images TRAIN")]


def _lines(group: Sequence[Run]) -> tuple[Line, ...]:
    settings = sorted(by(group, identity).values(), key=lambda found: system_of(found[0]))
    are_few = len(settings) <= _MOST_LABELS
    shades: dict[str, int] = {}
    lines = []
    for found in settings:
        system = system_of(found[0])
        shade = shades.setdefault(system, 0)
        shades[system] += 1
        label = f"{SYSTEMS[system]} {variant_of(found[0].setup)}".strip() if are_few else SYSTEMS[system]
        curve = over_training(found, "loss")
        lines.append(Line(label, system, curve, shade=shade if are_few else 0))
    return tuple(lines)
