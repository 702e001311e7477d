"""The training loop: Algorithm 1 from top to bottom."""

import math
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
from trainer.loss import info_nce
from trainer.metrics import MetricsWriter
from trainer.model import Branches, StochCon
from trainer.randomness import keys, uniform
from trainer.recipe import Recipe
from trainer.schedules import gumbel_temperature, learning_rate
from trainer.sources import Source, fingerprint
from trainer.views import make_view

_NOISE_STREAM = 1
_REPORT_EVERY = 10


def train(
    recipe: Recipe,
    source: Source,
    folder: Path,
    *,
    device: str = "cpu",
    checkpoint_every_s: float = 60.0,
) -> StochCon:
    """Train `recipe` on `source`, or go on where `folder` stopped; return the trained model.

    Checkpoint and metrics are kept in `folder`. Raises ValueError if it is in use or holds the run of
    another recipe or on other images, or if the source has fewer images than a batch or none that can be
    read, and FloatingPointError if the loss or a weight is not finite.
    """
    steps_per_epoch = len(source) // recipe.batch_size
    if steps_per_epoch == 0:
        raise ValueError(
            f"the source has {len(source)} images and a batch takes {recipe.batch_size}: "
            f"give --batch-size of at most {len(source)}"
        )
    num_steps = recipe.epochs * steps_per_epoch
    warmup_steps = round(recipe.warmup_epochs * steps_per_epoch)
    peak_lr = recipe.base_lr * recipe.batch_size / 256
    images = fingerprint(source)

    torch.manual_seed(recipe.seed)  # decides the initial weights and nothing else
    model = StochCon(recipe).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = LARS(parameter_groups(model), peak_lr, recipe.momentum, recipe.weight_decay)

    with ExitStack() as stack:
        stack.enter_context(checkpoints.owned(folder))
        start_step = _restore(folder, recipe, images, model, optimizer)
        dataset = stack.enter_context(Dataset(source, recipe.training_preprocessing))
        metrics = stack.enter_context(MetricsWriter(folder, num_steps, start_step))

        def save(step: int) -> None:
            _check_finite(model, step, folder)
            state = Checkpoint(recipe, step, model.state_dict(), optimizer.state_dict(), images)
            checkpoints.save(folder, state)
            _list_broken(folder, dataset)

        model.train()
        nothing_learnt = start_step == 0
        saved_s = reported_s = time.monotonic()
        reported_step = start_step
        batches = dataset.batches(_orders(recipe, len(source), start_step, num_steps))
        for step, batch in enumerate(batches, start=start_step):
            if len(batch.samples) < 2:
                continue  # all but one of these images are broken, and one alone has no negatives
            lr = learning_rate(step, num_steps, warmup_steps, peak_lr)
            gumbel = gumbel_temperature(step, num_steps, recipe.gumbel_start, recipe.gumbel_end)
            for group in optimizer.param_groups:
                group["lr"] = lr

            views, noise = make_views(recipe, batch, step, device)
            with autocast(recipe, device):
                branches = model(views, noise, gumbel)
            loss = contrastive_loss(recipe, branches)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            nothing_learnt = False

            done, now = step + 1, time.monotonic()
            if done % _REPORT_EVERY == 0 or done == num_steps:
                if not math.isfinite(loss.item()):
                    raise _not_finite(f"the loss is {loss.item()}", done, folder)
                rate = (done - reported_step) * recipe.batch_size / (now - reported_s)
                metrics.write(
                    done,
                    {
                        "loss": loss.item(),
                        "lr": lr,
                        "gumbel_temperature": gumbel,
                        "images_per_s": rate,
                        "broken_images": len(dataset.broken),
                        **_bit_metrics(branches),
                    },
                )
                reported_s, reported_step = now, done
            if now - saved_s >= checkpoint_every_s and done < num_steps:
                save(done)
                saved_s = now
        if nothing_learnt:
            first = next(iter(dataset.broken.values()))
            raise ValueError(f"no batch has two images that can be read; the first that cannot: {first}")
        save(num_steps)
    return model


def make_views(
    recipe: Recipe, batch: Batch, step: int, device: str
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Views [N, 3, S, S] of a batch and the noise [N, num_bits] of each stochastic one."""
    samples = batch.samples.to(device)
    aspects = batch.aspects.to(device)
    # [N, S, S, 3] bytes to [N, 3, S, S] floats in [0, 1]
    images = batch.images.to(device).permute(0, 3, 1, 2).float().div_(255)
    views: list[Tensor] = []
    noise: list[Tensor | None] = []
    for number, view in enumerate(recipe.views):
        key = keys(recipe.seed, step, samples, number)
        order_key = keys(recipe.seed, step, torch.full((1,), -1, dtype=torch.int64, device=device), number)
        made = make_view(images, aspects, key, order_key, view)
        views.append(made.contiguous(memory_format=torch.channels_last))
        stochastic = number in recipe.stochastic_views
        noise.append(uniform(key, recipe.num_bits, _NOISE_STREAM) if stochastic else None)
    return views, noise


def contrastive_loss(recipe: Recipe, branches: Branches) -> Tensor:
    """Eq. (1) averaged over all compared pairs of views, both directions."""
    losses = [
        info_nce(branches.vectors[i], branches.vectors[j], recipe.temperature) for i, j in recipe.view_pairs
    ]
    return torch.stack(losses).mean()


def autocast(recipe: Recipe, device: str) -> torch.autocast:
    """bf16 for matrix products where the recipe says so; weights, losses and latents stay float32."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=recipe.precision == "bf16")


def _orders(recipe: Recipe, count: int, start_step: int, num_steps: int) -> Iterator[npt.NDArray[np.int64]]:
    """Image numbers of each step. The last images of an epoch that fill no batch are left out."""
    steps_per_epoch = count // recipe.batch_size
    for step in range(start_step, num_steps):
        epoch, position = divmod(step, steps_per_epoch)
        if position == 0 or step == start_step:
            order = epoch_order(recipe.seed, epoch, count)
        yield order[position * recipe.batch_size : (position + 1) * recipe.batch_size]


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
    return FloatingPointError(
        f"{what} at step {step}, and {folder} keeps what was saved before: start again in another --out "
        "with a lower --base-lr or with --precision fp32"
    )


def _list_broken(folder: Path, dataset: Dataset) -> None:
    """Keep the list of broken images, those that the run met before an interruption among them."""
    path = folder / "broken.txt"
    known = set(path.read_text().splitlines()) if path.exists() else set()
    if not known.issuperset(dataset.broken.values()):
        path.write_text("\n".join(sorted(known.union(dataset.broken.values()))) + "\n")


def _bit_metrics(branches: Branches) -> dict[str, float]:
    """Average share of active bits (Figure 4), and the entropy of a bit's probability, in bits."""
    if not branches.logits:
        return {}
    with torch.no_grad():
        logits = torch.cat(branches.logits)
        p = torch.sigmoid(logits).clamp(1e-7, 1 - 1e-7)
        entropy = -(p * p.log2() + (1 - p) * (1 - p).log2())
        return {
            "active_share": float((logits >= 0).float().mean()),
            "bit_entropy": float(entropy.mean()),
        }
