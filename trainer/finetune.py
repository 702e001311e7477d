"""Fine-tuning (A.3's *Finetuned*): the whole network and a new linear layer learn from labels."""

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer import checkpoint as checkpoints
from trainer.augmentation import crop_and_flip, latent_noise
from trainer.checkpoint import Checkpoint
from trainer.classifier import Classifier
from trainer.dataset import Batch, Dataset
from trainer.epochs import Epochs
from trainer.failures import check_finite, list_broken, not_finite
from trainer.frozen import FrozenEncoder
from trainer.held_out import SAMPLED, score
from trainer.metrics import MetricsWriter
from trainer.pace import Pace
from trainer.recipe import FineTuning, Recipe
from trainer.run_record import RunRecord
from trainer.runs import Trained
from trainer.schedules import stepped_rate
from trainer.scores import summary, write_json
from trainer.sources import Source, fingerprint
from trainer.targets import Classification

FINETUNE = "finetune.json"

_REMEDY = "a lower --lr or --precision fp32"


def finetune(
    run: Trained,
    source: Source,
    held_out: Source,
    folder: Path,
    settings: FineTuning,
    *,
    device: str = "cpu",
    checkpoint_every_s: float = 60.0,
    command: str = "",
) -> Classifier:
    """Fine-tune the network of `run`, or go on where `folder` stopped; return the classifier.

    The backbone and the latent keep what they have learnt; head g and decoder rho are left behind. In
    `folder` are kept checkpoint and metrics, and, once all is done, `finetune.json` with the accuracy on
    `held_out` after each epoch. Raises ValueError if the folder is in use or holds another run, or if the
    images have no labels, lack a class of `held_out`, or are fewer than a batch; FloatingPointError if the
    loss or a weight is not finite.
    """
    if run.finetuning is not None:
        raise ValueError("the run is fine-tuned already: name the one that it was fine-tuned from")
    recipe, task = run.recipe, Classification(source, held_out)
    epochs = Epochs(source, task.learnable, settings.epochs, settings.batch_size, settings.seed)
    images = fingerprint(source)
    both = f"{images} {fingerprint(held_out)}"  # which a resumed run must have again
    torch.manual_seed(settings.seed)  # decides the new layer's initial weights and nothing else
    model = Classifier(recipe, settings.on, task.num_outputs)
    model.adopt(run.model)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), settings.lr, fused=True)

    with ExitStack() as stack:
        stack.enter_context(checkpoints.owned(folder))
        start_step, scores = _restore(folder, settings, both, model, optimizer)
        record = RunRecord.open(
            folder,
            recipe,
            task.classes,
            len(task.learnable),
            images,
            start_step,
            epochs.num_steps,
            command,
            device,
        )
        dataset = stack.enter_context(Dataset(source, recipe.training_preprocessing))
        measured = stack.enter_context(Dataset(held_out, recipe.preprocessing))
        metrics = stack.enter_context(MetricsWriter(folder, epochs.num_steps, start_step))
        pace = Pace(start_step, epochs.num_steps, settings.batch_size, checkpoint_every_s)

        def save(step: int) -> None:
            check_finite(model, step, folder, _REMEDY)
            weights, moments = model.state_dict(), optimizer.state_dict()
            checkpoints.save(
                folder, Checkpoint(recipe, step, weights, moments, both, task.classes, settings, scores)
            )
            record.save(step)
            list_broken(folder, [*dataset.broken.values(), *measured.broken.values()])
            pace.saved()

        model.train()
        loss: float | None = None
        for step, batch in enumerate(dataset.batches(epochs.batches(start_step)), start_step):
            done = step + 1
            lr = stepped_rate(step, epochs.num_steps, settings.lr)
            for group in optimizer.param_groups:
                group["lr"] = lr
            if len(batch.samples) >= 2:  # else all but one of these images are broken
                loss = float(_take_gradients(model, batch, task, settings, step))
                if not np.isfinite(loss):
                    raise not_finite(f"the loss is {loss}", done, folder, _REMEDY)
                optimizer.step()

            epoch = done / epochs.steps_per_epoch
            if loss is not None and pace.report_is_due(done):
                speed = pace.since_report(done, dataset.wait_s) | {"broken_images": len(dataset.broken)}
                metrics.write(done, {"epoch": epoch, "loss": loss, "lr": lr, **speed})
            if done % epochs.steps_per_epoch == 0:
                if not optimizer.state:
                    first = next(iter(dataset.broken.values()))
                    raise ValueError(
                        f"no batch has two images that can be read; the first that cannot: {first}"
                    )
                with pace.standing():
                    found = measure(model, measured, task, settings, step)
                    for name, value in found.items():
                        scores.setdefault(name, []).append(value)
                    metrics.write(done, {"epoch": epoch, **{f"test_{key}": found[key] for key in found}})
            if pace.save_is_due(done):
                save(done)
        save(epochs.num_steps)
        write_json(folder / FINETUNE, _results(recipe, settings, scores))
    return model.eval()


def _take_gradients(
    model: Classifier, batch: Batch, task: Classification, settings: FineTuning, step: int
) -> Tensor:
    """The loss of a batch, a scalar; its gradients are in the parameters."""
    recipe, device = model.recipe, model.mean.device
    images = crop_and_flip(batch, recipe.image_size, settings.seed, step, device)
    noise = None
    if recipe.latent == "bernoulli" and settings.on == "z":
        noise = latent_noise(batch.samples, recipe.num_bits, settings.seed, step, 0, device)
    model.zero_grad(set_to_none=True)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bf16"):
        logits: Tensor = model(images, noise)
    loss = task.loss(logits, batch.samples)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def measure(
    model: Classifier, held_out: Dataset, task: Classification, settings: FineTuning, step: int
) -> dict[str, float]:
    """Top-1 without sampling, and for the z of a Bernoulli latent `top1_sampled` beside it."""
    encoded, numbers = FrozenEncoder(model, settings.precision).encode(held_out, task.measurable)
    found = score(model.recipe, {model.on: model.head}, task, encoded, numbers, settings.seed, step)
    top1 = {"top1": found[model.on]["top1"]}
    return top1 | ({"top1_sampled": found[SAMPLED]["top1"]} if SAMPLED in found else {})


def _restore(
    folder: Path,
    settings: FineTuning,
    images: str,
    model: Classifier,
    optimizer: torch.optim.Optimizer,
) -> tuple[int, dict[str, list[float]]]:
    """Load the folder's checkpoint, if there is one; the number of steps done and the scores so far."""
    checkpoint = checkpoints.load(folder)
    if checkpoint is None:
        return 0, {}
    if checkpoint.finetuning is None:
        raise ValueError(f"{folder} holds a run that is not one of fine-tuning: choose another --out")
    theirs, ours = dataclasses.asdict(checkpoint.finetuning), dataclasses.asdict(settings)
    if theirs["weights"] != ours["weights"]:
        raise ValueError(
            f"{folder} was fine-tuned from other weights: name that run, or choose another --out"
        )
    different = [key for key in ours if ours[key] != theirs[key]]
    if different:
        changes = "; ".join(f"{key} is {theirs[key]} there and {ours[key]} here" for key in different)
        raise ValueError(f"{folder} was fine-tuned otherwise ({changes}): choose another --out")
    if checkpoint.images != images:
        raise ValueError(
            f"{folder} was fine-tuned on other images: name the same --images and --queries to go on, "
            "or choose another --out"
        )
    model.load_state_dict(checkpoint.model)
    optimizer.load_state_dict(checkpoint.optimizer)
    return checkpoint.step, checkpoint.scores


def _results(recipe: Recipe, settings: FineTuning, scores: dict[str, list[float]]) -> dict[str, Any]:
    """What `finetune.json` says."""
    made = dataclasses.asdict(settings)
    values: dict[str, Any] = {"run": recipe.name, "pretraining": recipe.to_dict(), **made}
    values |= {"sampled_at_test": False, **summary("top1", scores["top1"])}
    if "top1_sampled" in scores:
        values["sampled"] = summary("top1", scores["top1_sampled"])
    return values
