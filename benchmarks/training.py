"""Training: the whole step beside the bare network, and what gradient caching costs, each in one run.

    python -m benchmarks.training --images train.parquet [--recipe NAME] [--precision fp32] [--threads N]
    python -m benchmarks.training --memory [--recipe NAME] [--precision fp32] [--threads N]

The first compares `stochcon train` itself, as it reports its images/s (reading, decoding, views, noise, loss,
optimizer, metrics and checkpoints are in it), with forward and backward passes of the same network over
views that are ready in memory. The two take turns, each in a process of its own, and the median turn counts.
It also prints which share of its time training waits for images.

The second takes one step of the paper's batch with DINO's 2 + 8 views of 32 and 16 pixels, chunk by chunk,
and tells the peak memory of its process; that depends on the chunk, so `--batch 128` does for a large
network. At a batch that fits as a whole it compares the direct computation with the cached one: gradients
(with BatchNorm in evaluation mode, since its groups are the chunks), time and peak memory. Nothing else
should run beside either.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from trainer.catalogue import find_recipe
from trainer.dataset import Batch
from trainer.memory import keep_freed_memory
from trainer.model import StochCon
from trainer.multicrop import dino_views
from trainer.ranks import OneProcess
from trainer.recipe import Recipe
from trainer.step import autocast, make_views, take_gradients

T = TypeVar("T")

_TURNS = 3
_TURN_S = 60.0


def main() -> None:
    """Parse the arguments, measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="a Parquet file, .tar or folder to train on")
    parser.add_argument("--recipe", default="cifar10-small-bernoulli")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="fp32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--memory", action="store_true", help="measure gradient caching instead")
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--chunk-size", type=int, default=256)
    parser.add_argument("--direct-batch", type=int, default=512, help="a batch that fits as a whole")
    options = parser.parse_args()
    recipe = dataclasses.replace(find_recipe(options.recipe), precision=options.precision)
    if options.memory:
        measure_caching(recipe, options.batch, options.chunk_size, options.direct_batch, options.threads)
    elif options.images is None:
        parser.error("--images is missing: name images to train on, or give --memory")
    else:
        measure_throughput(recipe, options.images, options.threads)


def measure_throughput(recipe: Recipe, images: Path, threads: int) -> None:
    """Print images/s of training and of the bare network, their ratio, and the share of waiting."""
    trained, bare, waits = [], [], []
    for turn in range(_TURNS):
        speed, wait = _train_a_while(recipe, images, threads)
        trained.append(speed)
        waits.append(wait)
        bare.append(_in_a_process(_bare_speed, recipe, threads))
        print(f"turn {turn + 1}: training {speed:.1f}, bare {bare[-1]:.1f} images/s", flush=True)
    ratio = statistics.median(a / b for a, b in zip(trained, bare, strict=True))
    print(f"{recipe.name}, {recipe.precision}, {threads} threads")
    print(f"training step    {statistics.median(trained):8.1f} images/s")
    print(f"bare network     {statistics.median(bare):8.1f} images/s")
    print(f"ratio            {ratio:8.3f}")
    print(f"waiting for data {statistics.median(waits):8.2%}")


def measure_caching(recipe: Recipe, batch: int, chunk_size: int, direct_batch: int, threads: int) -> None:
    """Print memory and time of a cached step of `batch` images, and of both ways at a smaller one."""
    global_views, local_views = dino_views(32, 16)
    recipe = dataclasses.replace(
        recipe, image_size=32, global_views=global_views, local_views=local_views, chunk_size=0
    )
    whole = dataclasses.replace(recipe, batch_size=batch, chunk_size=chunk_size)
    direct = dataclasses.replace(recipe, batch_size=direct_batch)
    cached = dataclasses.replace(direct, chunk_size=min(chunk_size, direct_batch // 2))
    print(f"{recipe.name}, {recipe.precision}, {threads} threads, 2 + 8 views")
    idle = _in_a_process(_idle_memory)
    print(f"torch alone: {idle / 2**30:.2f} GiB")
    seconds: dict[str, float] = {}
    gradients = {}
    for name, setup in (("direct", direct), ("cached", cached), ("cached, whole batch", whole)):
        seconds[name], peak, gradients[name] = _in_a_process(_step_of, setup, threads)
        size = setup.chunk_size or setup.batch_size
        print(
            f"{name}: batch {setup.batch_size} in chunks of {size}: {seconds[name]:.1f} s a step, "
            f"peak {peak / 2**30:.2f} GiB",
            flush=True,
        )
    a, b = gradients["direct"], gradients["cached"]
    print(f"slowdown of caching: {seconds['cached'] / seconds['direct']:.2f}")
    print(f"gradients differ by {float((a - b).norm() / a.norm()):.1e} of their norm")


def _train_a_while(recipe: Recipe, images: Path, threads: int) -> tuple[float, float]:
    """Images/s of `stochcon train`, and its share of waiting, from the reports after its first."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stochcon", "train", recipe.name, "--images", str(images)]
        command += ["--out", folder, "--precision", recipe.precision, "--threads", str(threads)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        metrics = Path(folder) / "metrics.jsonl"
        try:
            started_s = time.monotonic()
            lines: list[dict[str, float]] = []
            # The first report has the warm-up in it.
            while time.monotonic() - started_s < _TURN_S or len(lines) < 3:
                if process.poll() is not None:
                    sys.exit(f"`{' '.join(command)}` ended early with exit code {process.returncode}")
                time.sleep(1)
                if metrics.exists():
                    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        finally:
            process.kill()
            process.wait()
    reports = lines[1:]
    return (
        statistics.harmonic_mean([line["images_per_s"] for line in reports]),
        statistics.fmean(line["data_wait"] for line in reports),
    )


def _bare_speed(recipe: Recipe, threads: int) -> float:
    """Images/s of forward and backward over views and noise that are made already."""
    torch.set_num_threads(threads)
    model = _model(recipe)
    views = make_views(recipe, _batch(recipe.batch_size, recipe.image_size), 0, "cpu")

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with autocast(recipe, torch.device("cpu")):
            branches = model(views, 1.0)
        torch.stack(branches.vectors).float().square().sum().backward()

    step()
    started_s, count = time.monotonic(), 0
    while (elapsed_s := time.monotonic() - started_s) < _TURN_S / 2:
        step()
        count += 1
    return count * recipe.batch_size / elapsed_s


def _idle_memory() -> int:
    return _peak_bytes()


def _step_of(recipe: Recipe, threads: int) -> tuple[float, int, torch.Tensor]:
    """Seconds of one step, the peak memory of this process in bytes, and all gradients in one row."""
    torch.set_num_threads(threads)
    model = _model(recipe)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    batch = _batch(recipe.batch_size, recipe.image_size)
    size = recipe.chunk_size or recipe.batch_size
    chunks = [
        Batch(batch.samples[i : i + size], batch.images[i : i + size], batch.aspects[i : i + size])
        for i in range(0, recipe.batch_size, size)
    ]
    started_s = time.monotonic()
    take_gradients(model, chunks, 0, 1.0, OneProcess())
    seconds = time.monotonic() - started_s
    found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return seconds, _peak_bytes(), torch.cat(found)


def _model(recipe: Recipe) -> StochCon:
    keep_freed_memory()  # as the commands of the trainer do
    torch.manual_seed(0)
    model = StochCon(recipe).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _batch(count: int, side: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
    return Batch(torch.arange(count), images, torch.ones(count))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _in_a_process(function: Callable[..., T], *arguments: Any) -> T:
    """What the function returns in a process of its own, whose memory nobody used before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


if __name__ == "__main__":
    main()
