"""Linear probes of a frozen network (A.3's *Frozen*): one layer for each representation, all at once.

The layers share no parameter, so training them together on one forward pass gives what training each alone
would. Their inputs are taken as they are, neither centred nor scaled.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from trainer.augmentation import crop_and_flip, latent_noise
from trainer.classifier import represent, width_of
from trainer.dataset import Dataset
from trainer.epochs import Epochs
from trainer.frozen import FrozenEncoder
from trainer.held_out import Scores, score
from trainer.model import Encoder
from trainer.recipe import Precision
from trainer.schedules import stepped_rate
from trainer.sources import Source
from trainer.targets import Task

LEARNING_RATE = 3e-4
"""Of Adam (appendix A.3)."""


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How the layers are trained."""

    epochs: int = 20
    batch_size: int = 256
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Probed:
    """What became of the layers."""

    scores: list[Scores]
    """After each epoch."""
    num_queries: int
    """Held-out images that they were measured on."""
    broken: list[str]
    """Images that cannot be read, of either source, with the reason; they are left out."""


def probe(
    model: Encoder,
    train: Source,
    test: Source,
    task: Task,
    settings: ProbeSettings,
    precision: Precision,
    on_epoch: Callable[[int, Scores], None] = lambda epoch, scores: None,
) -> Probed:
    """Train linear layers on `model`, which stays as it is, and measure them after each epoch.

    z is sampled anew for every image of every step in training. `on_epoch` is told the number of epochs
    done, and their last scores. Raises ValueError if there are fewer images than a batch, or none that can
    be read, and FloatingPointError if a loss is not finite.
    """
    frozen = FrozenEncoder(model, precision)
    recipe, device = frozen.recipe, frozen.device
    epochs = Epochs(train, task.learnable, settings.epochs, settings.batch_size, settings.seed)
    layers = {
        on: _layer(width_of(model, on), task, settings.seed).to(device) for on in recipe.representations
    }
    parameters = [parameter for layer in layers.values() for parameter in layer.parameters()]
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, fused=True)
    with Dataset(test, recipe.preprocessing) as held_out:
        measured, numbers = frozen.encode(held_out, task.measurable)
        broken = list(held_out.broken.values())
    found: list[Scores] = []
    with Dataset(train, recipe.training_preprocessing) as dataset:
        batches = dataset.batches(epochs.batches())
        for step, batch in enumerate(batches):
            if len(batch.samples):
                images = crop_and_flip(batch, recipe.image_size, settings.seed, step, device)
                noise = None
                if recipe.latent == "bernoulli":
                    noise = latent_noise(batch.samples, recipe.num_bits, settings.seed, step, 0, device)
                encoded = frozen(images)
                loss = torch.zeros((), device=device)
                for on, layer in layers.items():
                    loss = loss + task.loss(layer(represent(recipe, on, encoded, noise)), batch.samples)
                if not torch.isfinite(loss):
                    raise FloatingPointError(
                        f"the loss is {loss.item()} at step {step + 1}: the run's weights or the targets "
                        "hold values that are not finite"
                    )
                for group in optimizer.param_groups:
                    group["lr"] = stepped_rate(step, epochs.num_steps, LEARNING_RATE)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if (step + 1) % epochs.steps_per_epoch == 0:
                if not optimizer.state:
                    raise ValueError(
                        f"no image can be read; the first: {next(iter(dataset.broken.values()))}"
                    )
                found.append(score(recipe, layers, task, measured, numbers, settings.seed, step))
                on_epoch(len(found), found[-1])
        broken += dataset.broken.values()
    return Probed(found, len(numbers), broken)


def _layer(width: int, task: Task, seed: int) -> nn.Linear:
    torch.manual_seed(seed)  # for each, so that a layer starts alike whatever is beside it
    return nn.Linear(width, task.num_outputs)
