"""The training loop: Algorithm 1 from top to bottom."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer import checkpoint as checkpoints
from trainer.checkpoint import Checkpoint
from trainer.dataset import Batch, Dataset, epoch_order
from trainer.lars import LARS, parameter_groups
from trainer.metrics import MetricsWriter
from trainer.model import StochCon
from trainer.monitor import Monitor
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.run_record import RunRecord
from trainer.schedules import gumbel_temperature, learning_rate
from trainer.sources import Source, fingerprint
from trainer.step import StepResult, take_gradients

_REPORT_EVERY = 10


def train(
    recipe: Recipe,
    source: Source,
    folder: Path,
    *,
    device: str = "cpu",
    held_out: Source | None = None,
    ranks: Ranks | None = None,
    checkpoint_every_s: float = 60.0,
    command: str = "",
) -> StochCon:
    """Train `recipe` on `source`, or go on where `folder` stopped; return the trained model.

    Checkpoint and metrics are kept in `folder`. Of `held_out` the latent's statistics (Figures 3 and 4), or
    the accuracy of a supervised recipe, are reported after each epoch. Raises ValueError if the folder is in
    use or holds the run of another recipe or on other images, or if the source has fewer images than a
    batch, none that can be read, or no labels for a supervised recipe, and FloatingPointError if the loss or
    a weight is not finite.
    """
    ranks = ranks or Ranks()
    labels = _labels(recipe, source)
    count = len(source) if labels is None else int((labels >= 0).sum())
    steps_per_epoch = count // recipe.batch_size
    if steps_per_epoch == 0:
        raise ValueError(
            f"the source has {count} images and a batch takes {recipe.batch_size}: "
            f"give --batch-size of at most {count}"
        )
    num_steps = recipe.epochs * steps_per_epoch
    warmup_steps = round(recipe.warmup_epochs * steps_per_epoch)
    peak_lr = recipe.base_lr * recipe.batch_size / 256
    classes = [] if labels is None else list(source.classes or ())
    images = fingerprint(source)

    torch.manual_seed(recipe.seed)  # decides the initial weights and nothing else
    model = StochCon(recipe, len(classes)).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = LARS(parameter_groups(model), peak_lr, recipe.momentum, recipe.weight_decay)

    with ExitStack() as stack:
        stack.enter_context(checkpoints.owned(folder))
        start_step = _restore(folder, recipe, images, model, optimizer)
        record = RunRecord.open(folder, recipe, classes, count, images, num_steps, command, device)
        dataset = stack.enter_context(Dataset(source, recipe.training_preprocessing))
        metrics = stack.enter_context(MetricsWriter(folder, num_steps, start_step))
        monitor = stack.enter_context(Monitor(recipe, source, held_out)) if held_out is not None else None

        def save(step: int) -> None:
            _check_finite(model, step, folder)
            state = Checkpoint(recipe, step, model.state_dict(), optimizer.state_dict(), images, classes)
            checkpoints.save(folder, state)
            record.save(step)
            _list_broken(folder, dataset)

        model.train()
        nothing_learnt = start_step == 0
        saved_s = reported_s = time.monotonic()
        reported_step, waited_s = start_step, 0.0
        batches = dataset.batches(_orders(recipe, labels, len(source), start_step, num_steps, ranks))
        for step in range(start_step, num_steps):
            asked_s = time.monotonic()
            chunks = [next(batches) for _ in range(_num_chunks(recipe))]
            waited_s += time.monotonic() - asked_s
            chunks = [chunk for chunk in chunks if len(chunk.samples)]
            if sum(len(chunk.samples) for chunk in chunks) < 2:
                continue  # all but one of these images are broken, and one alone has no negatives
            lr = learning_rate(step, num_steps, warmup_steps, peak_lr)
            gumbel = gumbel_temperature(step, num_steps, recipe.gumbel_start, recipe.gumbel_end)
            for group in optimizer.param_groups:
                group["lr"] = lr

            result = take_gradients(model, chunks, step, gumbel, ranks, _targets(labels, chunks))
            loss = float(result.loss)
            if not np.isfinite(loss):
                raise _not_finite(f"the loss is {loss}", step + 1, folder)
            optimizer.step()
            nothing_learnt = False

            done, now = step + 1, time.monotonic()
            if done % _REPORT_EVERY == 0 or done == num_steps:
                elapsed_s = now - reported_s
                values = {
                    "epoch": done / steps_per_epoch,
                    "loss": loss,
                    "lr": lr,
                    "gumbel_temperature": gumbel,
                    "images_per_s": (done - reported_step) * recipe.batch_size / elapsed_s,
                    "data_wait": waited_s / elapsed_s,
                    "broken_images": len(dataset.broken),
                }
                metrics.write(done, values | _latent_metrics(recipe, result))
                reported_s, reported_step, waited_s = now, done, 0.0
            if monitor is not None and done % steps_per_epoch == 0:
                metrics.write(done, {"epoch": done / steps_per_epoch, **monitor(model)})
                reported_s += time.monotonic() - now
            if now - saved_s >= checkpoint_every_s and done < num_steps:
                save(done)
                saved_s = now
        if nothing_learnt:
            first = next(iter(dataset.broken.values()))
            raise ValueError(f"no batch has two images that can be read; the first that cannot: {first}")
        save(num_steps)
    return model


def _labels(recipe: Recipe, source: Source) -> npt.NDArray[np.int64] | None:
    """For a supervised recipe, the class number of each image, and -1 where it has none."""
    if recipe.objective != "supervised":
        return None
    if source.classes is None:
        raise ValueError(
            f"recipe {recipe.name} is supervised and the images have no labels: give labelled ones"
        )
    found = (source.label(number) for number in range(len(source)))
    return np.array([-1 if label is None else label for label in found], np.int64)


def _targets(labels: npt.NDArray[np.int64] | None, chunks: list[Batch]) -> list[Tensor] | None:
    if labels is None:
        return None
    return [torch.from_numpy(labels[chunk.samples.numpy()]) for chunk in chunks]


def _num_chunks(recipe: Recipe) -> int:
    return -(-recipe.batch_size // recipe.chunk_size) if recipe.chunk_size else 1


def _orders(
    recipe: Recipe,
    labels: npt.NDArray[np.int64] | None,
    num_images: int,
    start_step: int,
    num_steps: int,
    ranks: Ranks,
) -> Iterator[npt.NDArray[np.int64]]:
    """Image numbers of this rank's share of each chunk of each step.

    The last images of an epoch that fill no batch are left out.
    """
    size = recipe.batch_size
    steps_per_epoch = num_steps // recipe.epochs
    for step in range(start_step, num_steps):
        epoch, position = divmod(step, steps_per_epoch)
        if position == 0 or step == start_step:
            order = epoch_order(recipe.seed, epoch, num_images)
            if labels is not None:
                order = order[labels[order] >= 0]
        batch = order[position * size : (position + 1) * size]
        for chunk in np.array_split(batch, _num_chunks(recipe)):
            yield ranks.share(chunk)


def _restore(folder: Path, recipe: Recipe, images: str, model: StochCon, optimizer: LARS) -> int:
    """Load the folder's checkpoint, if there is one; the number of steps done."""
    checkpoint = checkpoints.load(folder)
    if checkpoint is None:
        return 0
    theirs, ours = checkpoint.recipe.to_dict(), recipe.to_dict()
    different = sorted(key for key in ours if ours[key] != theirs.get(key))
    if different:
        changes = "; ".join(f"{key} is {theirs.get(key)} there and {ours[key]} here" for key in different)
        raise ValueError(f"{folder} holds a run of another recipe ({changes}): choose another --out")
    if checkpoint.images != images:
        raise ValueError(
            f"{folder} holds a run on other images: name the same --images to go on, or choose another --out"
        )
    model.load_state_dict(checkpoint.model)
    optimizer.load_state_dict(checkpoint.optimizer)
    return checkpoint.step


def _check_finite(model: StochCon, step: int, folder: Path) -> None:
    """Raise FloatingPointError rather than save weights that nothing can be learnt from any more."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise _not_finite(f"{name} is not finite", step, folder)


def _not_finite(what: str, step: int, folder: Path) -> FloatingPointError:
    saved = checkpoints.load(folder)
    kept = (
        "nothing was saved before" if saved is None else f"{folder} keeps the checkpoint of step {saved.step}"
    )
    return FloatingPointError(
        f"{what} at step {step}, and {kept}: start again in another --out "
        "with a lower --base-lr, a longer warm-up or --precision fp32"
    )


def _list_broken(folder: Path, dataset: Dataset) -> None:
    """Keep the list of broken images, those that the run met before an interruption among them."""
    path = folder / "broken.txt"
    known = set(path.read_text().splitlines()) if path.exists() else set()
    if not known.issuperset(dataset.broken.values()):
        path.write_text("\n".join(sorted(known.union(dataset.broken.values()))) + "\n")


@torch.no_grad()
def _latent_metrics(recipe: Recipe, result: StepResult) -> dict[str, float]:
    """Average share of active bits (Figure 4) and the entropy of a bit, in bits; or the mean variance."""
    if not result.parameters:
        return {}
    parameters = torch.cat(result.parameters)
    if recipe.latent == "gaussian":
        return {"latent_variance": float(parameters.mean())}
    p = torch.sigmoid(parameters).clamp(1e-7, 1 - 1e-7)
    entropy = -(p * p.log2() + (1 - p) * (1 - p).log2())
    return {"active_share": float((parameters >= 0).float().mean()), "bit_entropy": float(entropy.mean())}
