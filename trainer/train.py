"""The training loop: Algorithm 1 from top to bottom."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import torch
from torch.optim import Optimizer

from trainer import checkpoint as checkpoints
from trainer.batchnorm import synchronise
from trainer.dataset import Batch, Dataset
from trainer.failures import check_finite, not_finite
from trainer.initial_weights import Weights
from trainer.keeper import REMEDY, Keeper
from trainer.model import StochCon
from trainer.optimizer import make_optimizer
from trainer.plan import Plan
from trainer.ranks import OneProcess, Ranks, gather_texts, together
from trainer.recipe import Recipe
from trainer.schedules import gumbel_temperature, learning_rate
from trainer.sources import Source
from trainer.start import start
from trainer.step import take_gradients


def train(
    recipe: Recipe,
    source: Source,
    folder: Path,
    *,
    weights: Weights | None = None,
    held_out: Source | None = None,
    ranks: Ranks | None = None,
    checkpoint_every_s: float = 60.0,
    command: str = "",
) -> StochCon:
    """Train `recipe` on `source`, or go on where `folder` stopped; return the trained model.

    A new run starts from `weights`, whose digest the recipe has, or from random ones.
    Checkpoint and metrics are kept in `folder`, which only rank 0 needs to see. Of `held_out` the latent's
    statistics (Figures 3 and 4), or the accuracy of a supervised recipe, are reported after each epoch.
    Raises ValueError if the folder is in use or holds the run of another recipe or on other images, or if the
    source has fewer images than a batch, none that can be read, or no labels for a supervised recipe,
    FloatingPointError if the loss or a weight is not finite, and ConnectionError if a rank is lost.
    """
    ranks = ranks or OneProcess()
    with ExitStack() as stack:
        saved = None
        with together(ranks):
            plan = Plan.of(recipe, source)
            if recipe.latent_start == "whitened" and weights is None:
                raise ValueError(
                    f"recipe {recipe.name} starts from weights that make good features: give --init"
                )
            if ranks.rank == 0:
                stack.enter_context(checkpoints.owned(folder))
                saved = checkpoints.read(folder)
        if len(set(gather_texts(plan.images, ranks))) > 1:
            raise ValueError("the ranks have different images: give each machine the same --images")
        if len(set(gather_texts(json.dumps(recipe.to_dict()), ranks))) > 1:
            raise ValueError("the ranks have different recipes: give each machine the same command")
        saved = ranks.broadcast(saved)

        torch.manual_seed(recipe.seed)  # decides the initial weights and nothing else
        model = StochCon(recipe, len(plan.classes)).to(ranks.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if saved is None and weights is not None:
            told = start(model, weights, source, ranks)
            if ranks.rank == 0:
                print(told, file=sys.stderr, flush=True)
        optimizer = make_optimizer(model)
        keeper = None
        with together(ranks):
            start_step = 0 if saved is None else _restore(saved, folder, plan, model, optimizer)
            dataset = stack.enter_context(Dataset(source, recipe.training_preprocessing))
            if ranks.rank == 0:
                keeper = stack.enter_context(
                    Keeper.of(
                        folder,
                        plan,
                        model,
                        optimizer,
                        start_step,
                        held_out=held_out,
                        ranks=ranks,
                        checkpoint_every_s=checkpoint_every_s,
                        command=command,
                    )
                )
        synchronise(model, ranks)

        model.train()
        nothing_learnt = start_step == 0
        warmup_steps = round(recipe.warmup_epochs * plan.steps_per_epoch)
        batches = dataset.batches(plan.orders(start_step, ranks))
        census = _Census(dataset, ranks)
        for step in range(start_step, plan.num_steps):
            chunks = census.agree([next(batches) for _ in range(plan.num_chunks)])
            if not chunks:
                continue  # all but one of these images are broken, and one alone has no negatives
            lr = learning_rate(step, plan.num_steps, warmup_steps, recipe.peak_lr)
            gumbel = gumbel_temperature(step, plan.num_steps, recipe.gumbel_start, recipe.gumbel_end)
            for group in optimizer.param_groups:
                group["lr"] = lr * group["rate"]
            result = take_gradients(model, chunks, step, gumbel, ranks, plan.targets(chunks))
            if not result.loss.isfinite():
                raise not_finite(f"the loss is {float(result.loss)}", step + 1, folder, REMEDY)
            optimizer.step()
            nothing_learnt = False
            if keeper is not None:
                settings = {"lr": lr, "gumbel_temperature": gumbel}
                keeper.after_step(step + 1, result, settings, dataset.wait_s, census.broken)
        if nothing_learnt:
            first = next(iter(census.broken))
            raise ValueError(f"no batch has two images that can be read; the first that cannot: {first}")
        check_finite(model, plan.num_steps, folder, REMEDY)
        if keeper is not None:
            keeper.save(plan.num_steps, census.broken)
    return model


class _Census:
    """What the ranks tell each other of their images before each step, so that all decide alike."""

    def __init__(self, dataset: Dataset, ranks: Ranks) -> None:
        self.broken: dict[str, None] = {}
        """Images of all ranks that cannot be read, with the reason, as they were met."""
        self._dataset = dataset
        self._ranks = ranks
        self._num_met = 0

    def agree(self, chunks: list[Batch]) -> list[Batch]:
        """The chunks that have images on some rank; none if there are fewer than two images in all."""
        ours = list(self._dataset.broken.values())  # decoding threads go on adding to it
        told = torch.tensor([*(len(chunk.samples) for chunk in chunks), len(ours)])
        *counts, num_met = self._ranks.sum(told).tolist()
        if num_met > self._num_met:
            for text in gather_texts(json.dumps(ours), self._ranks):
                self.broken.update(dict.fromkeys(json.loads(text)))
            self._num_met = num_met
        if sum(counts) < 2:
            return []
        return [chunk for chunk, count in zip(chunks, counts, strict=True) if count]


def _restore(content: bytes, folder: Path, plan: Plan, model: StochCon, optimizer: Optimizer) -> int:
    """Load the checkpoint of `folder`; the number of steps done."""
    checkpoint = checkpoints.parse(content, folder)
    if checkpoint.finetuning is not None:
        raise ValueError(f"{folder} holds a fine-tuned model: choose another --out")
    theirs, ours = checkpoint.recipe.to_dict(), plan.recipe.to_dict()
    different = sorted(key for key in ours if ours[key] != theirs.get(key))
    if different:
        changes = "; ".join(f"{key} is {theirs.get(key)} there and {ours[key]} here" for key in different)
        raise ValueError(f"{folder} holds a run of another recipe ({changes}): choose another --out")
    if checkpoint.images != plan.images:
        raise ValueError(
            f"{folder} holds a run on other images: name the same --images to go on, or choose another --out"
        )
    model.load_state_dict(checkpoint.model)
    optimizer.load_state_dict(checkpoint.optimizer)
    return checkpoint.step
