"""What rank 0 does beside its share of training: it alone keeps the run's folder and watches the model."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch.optim import Optimizer

from trainer import checkpoint as checkpoints
from trainer.checkpoint import Checkpoint
from trainer.failures import check_finite, list_broken
from trainer.metrics import MetricsWriter
from trainer.model import StochCon
from trainer.monitor import Monitor
from trainer.pace import Pace
from trainer.plan import Plan
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.run_record import RunRecord
from trainer.sources import Source
from trainer.step import StepResult

REMEDY = "a lower --base-lr, --precision fp32, or a recipe with more warmup_epochs"
"""What to try where the loss or a weight is not finite."""


class Keeper:
    """Checkpoints, metrics and the list of broken images of the run in a folder."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        model: StochCon,
        optimizer: Optimizer,
        record: RunRecord,
        metrics: MetricsWriter,
        monitor: Monitor | None,
        pace: Pace,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._model = model
        self._optimizer = optimizer
        self._record = record
        self._metrics = metrics
        self._monitor = monitor
        self._pace = pace

    @classmethod
    @contextmanager
    def of(
        cls,
        folder: Path,
        plan: Plan,
        model: StochCon,
        optimizer: Optimizer,
        start_step: int,
        *,
        held_out: Source | None,
        ranks: Ranks,
        checkpoint_every_s: float,
        command: str,
    ) -> Iterator["Keeper"]:
        """Open what a run writes to. Raises ValueError if `held_out` has other classes."""
        recipe = plan.recipe
        with ExitStack() as stack:
            monitor = None
            if held_out is not None:
                monitor = stack.enter_context(Monitor(recipe, plan.source, held_out))
            record = RunRecord.open(
                folder,
                recipe,
                plan.classes,
                plan.num_usable,
                plan.images,
                start_step,
                plan.num_steps,
                command,
                str(ranks.device),
                ranks.size,
            )
            metrics = stack.enter_context(MetricsWriter(folder, plan.num_steps, start_step))
            pace = Pace(start_step, plan.num_steps, recipe.batch_size, checkpoint_every_s)
            yield cls(folder, plan, model, optimizer, record, metrics, monitor, pace)

    def after_step(
        self,
        done: int,
        result: StepResult,
        settings: dict[str, float],
        wait_s: float,
        broken: Collection[str],
    ) -> None:
        """Report and save what is due once `done` steps are done.

        `settings` are the learning rate and the like, `wait_s` the seconds that the run has waited for images
        so far, and `broken` the images that cannot be read.
        """
        epoch = done / self._plan.steps_per_epoch
        if self._pace.report_is_due(done):
            values = {
                "epoch": epoch,
                "loss": float(result.loss),
                **settings,
                **self._pace.since_report(done, wait_s),
                "broken_images": len(broken),
            }
            self._metrics.write(done, values | _latent_metrics(self._plan.recipe, result))
        if self._monitor is not None and done % self._plan.steps_per_epoch == 0:
            with self._pace.standing():
                self._metrics.write(done, {"epoch": epoch, **self._monitor(self._model)})
        if self._pace.save_is_due(done):
            self.save(done, broken)

    def save(self, step: int, broken: Collection[str]) -> None:
        """Write the checkpoint of `step` steps. Raises FloatingPointError if a weight is not finite."""
        check_finite(self._model, step, self._folder, REMEDY)
        plan = self._plan
        state = Checkpoint(
            plan.recipe,
            step,
            self._model.state_dict(),
            self._optimizer.state_dict(),
            plan.images,
            plan.classes,
        )
        checkpoints.save(self._folder, state)
        self._record.save(step)
        list_broken(self._folder, broken)
        self._pace.saved()


@torch.no_grad()
def _latent_metrics(recipe: Recipe, result: StepResult) -> dict[str, float]:
    """Average share of active bits (Figure 4) and the entropy of a bit, in bits; or the mean variance."""
    parameters = torch.cat(result.parameters) if result.parameters else torch.empty(0)
    if not len(parameters):  # no latent, or no image of this rank's first chunk
        return {}
    if recipe.latent == "gaussian":
        return {"latent_variance": float(parameters.mean())}
    p = torch.sigmoid(parameters).clamp(1e-7, 1 - 1e-7)
    entropy = -(p * p.log2() + (1 - p) * (1 - p).log2())
    return {"active_share": float((parameters >= 0).float().mean()), "bit_entropy": float(entropy.mean())}
