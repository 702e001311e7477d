"""What each of two ranks does in a test. Arrays are handed back, since tensors would be shared memory."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from tests.trainer.offered import offer
from tests.trainer.one_step import cut, some_batch
from trainer import cli
from trainer.batchnorm import SyncBatchNorm, synchronise
from trainer.initial_weights import Weights
from trainer.model import StochCon
from trainer.ranks import gather_texts, launched, together
from trainer.recipe import Recipe
from trainer.sources import open_source
from trainer.sources.parquet import ParquetSource
from trainer.start import start
from trainer.step import take_gradients
from trainer.train import train

TIMEOUT_S = 60.0


def arrays(named: Any) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in named}


def step(recipe: Recipe, shares: list[tuple[int, int]], num_classes: int) -> dict[str, Any]:
    """One step on chunks of which the two ranks have so many images each."""
    with launched("cpu", TIMEOUT_S) as ranks:
        torch.manual_seed(0)
        model = StochCon(recipe, num_classes)
        synchronise(model, ranks)
        count = sum(map(sum, shares))
        sizes = [size for of_chunk in shares for size in of_chunk]
        chunks = cut(some_batch(count), *sizes)[ranks.rank :: 2]
        labels = None
        if num_classes:
            labels = list((torch.arange(count) % num_classes).split(sizes))[ranks.rank :: 2]
        result = take_gradients(model, chunks, 7, 0.5, ranks, labels)
        return {
            "loss": float(result.loss),
            "gradients": arrays((name, p.grad) for name, p in model.named_parameters()),
            "buffers": arrays(model.named_buffers()),
        }


def begin(recipe: Recipe, weights: Path, images: list[Path]) -> dict[str, np.ndarray]:
    """What each rank starts from, with random numbers and images of its own."""
    with launched("cpu", TIMEOUT_S) as ranks:
        torch.manual_seed(ranks.rank)
        model = StochCon(recipe)
        start(model, Weights.read(weights), open_source([images[ranks.rank]]), ranks)
        return arrays(model.state_dict().items())


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """Values for a BatchNorm, of which each rank has a part."""

    shares: tuple[int, int]
    shape: tuple[int, ...]
    """Of one sample."""
    channels_last: bool = False
    dtype: torch.dtype = torch.float32
    offset: float = 0.0

    def values(self) -> tuple[torch.Tensor, torch.Tensor]:
        """x and the gradient of what becomes of it, of all ranks: float32."""
        generator = torch.Generator().manual_seed(1)
        shape = (sum(self.shares), *self.shape)
        x = torch.randn(shape, generator=generator) * 2 + self.offset
        x[: self.shares[0]] += 1  # so that the parts have moments of their own
        return x.to(self.dtype), torch.randn(shape, generator=generator).to(self.dtype)

    def norm(self) -> nn.Module:
        generator = torch.Generator().manual_seed(2)
        made = (nn.BatchNorm1d if len(self.shape) == 1 else nn.BatchNorm2d)(self.shape[0])
        with torch.no_grad():
            made.weight.copy_(torch.rand(self.shape[0], generator=generator) + 0.5)
            made.bias.copy_(torch.randn(self.shape[0], generator=generator))
            made.running_mean.fill_(3.0)
        return made


def normalise(case: Normalisation) -> dict[str, Any]:
    """Two batches through a BatchNorm of both ranks, the second without following, then evaluation."""
    with launched("cpu", TIMEOUT_S) as ranks:
        holder = nn.Sequential(case.norm())
        synchronise(holder, ranks)
        (norm,) = holder
        assert isinstance(norm, SyncBatchNorm)
        x, grad = (part.split(case.shares)[ranks.rank] for part in case.values())
        if case.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        out = norm(x)
        assert out.dtype == x.dtype
        assert out.stride() == x.stride()
        out.backward(grad)
        followed = arrays(norm.named_buffers())
        norm.track_running_stats = False
        again = norm(x)
        assert torch.equal(again, out)
        assert all((followed[name] == buffer.numpy()).all() for name, buffer in norm.named_buffers())
        norm.eval()
        evaluated = None
        if ranks.rank == 0:  # and the other knows nothing of it
            evaluated = norm(x).detach().float().numpy().copy()
        return {
            "out": out.detach().float().numpy().copy(),
            "x": x.grad.float().numpy().copy(),
            "weight": norm.weight.grad.numpy().copy(),
            "bias": norm.bias.grad.numpy().copy(),
            "evaluated": evaluated,
            "buffers": followed,
        }


def tell(texts: list[str]) -> list[str]:
    with launched("cpu", TIMEOUT_S) as ranks:
        return gather_texts(texts[ranks.rank], ranks)


def fail_on(rank: int, message: str) -> None:
    with launched("cpu", TIMEOUT_S) as ranks, together(ranks):
        if ranks.rank == rank:
            raise ValueError(message)


class Ending(ParquetSource):
    """Images that end whoever asks for the order of an epoch."""

    def __init__(self, path: Path, epoch: int, *, kill: bool) -> None:
        super().__init__([path])
        self._last_epoch = epoch
        self._kill = kill

    def epoch_order(self, seed: int, epoch: int) -> np.ndarray:
        if epoch == self._last_epoch:
            if self._kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise InterruptedError
        return super().epoch_order(seed, epoch)


def train_to_the_end(recipes: list[Recipe], paths: list[Path], folders: list[Path]) -> dict[str, np.ndarray]:
    """A run with each rank's own recipe, images and folder."""
    with launched("cpu", TIMEOUT_S) as ranks:
        source, folder = open_source([paths[ranks.rank]]), folders[ranks.rank]
        model = train(recipes[ranks.rank], source, folder, ranks=ranks, checkpoint_every_s=0)
        return arrays(model.state_dict().items())


def die(recipe: Recipe, path: Path, folder: Path, epoch: int) -> None:
    """A run of which rank 1 is killed when it comes to an epoch."""
    with launched("cpu", TIMEOUT_S) as ranks:
        source = Ending(path, epoch, kill=True) if ranks.rank == 1 else ParquetSource([path])
        train(recipe, source, folder, ranks=ranks, checkpoint_every_s=0)


def run_command(recipe: Recipe, arguments: list[list[str]]) -> tuple[int, str, str]:
    """`stochcon train` with each rank's own arguments: exit code, standard output and standard error."""
    app = typer.Typer(pretty_exceptions_enable=False)
    for command in cli.VERBS:
        app.command()(command)
    with pytest.MonkeyPatch.context() as patch:
        offer(recipe, patch)
        done = CliRunner().invoke(app, ["train", "tiny", *arguments[int(os.environ["RANK"])]])
    return done.exit_code, done.stdout, done.stderr
