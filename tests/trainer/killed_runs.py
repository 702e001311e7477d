"""Training runs that are killed on the way, each in a process of its own.

The processes are forked from one that has imported torch, which takes seconds, and done nothing else.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer import checkpoint as checkpoints

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["trainer.train", "trainer.finetune"])


def steps_done(folder: Path) -> int:
    """Steps in the last checkpoint of a run."""
    checkpoint = checkpoints.load(folder)
    return 0 if checkpoint is None else checkpoint.step


def kill_after(steps: int, folder: Path, train: Callable[..., Any], *arguments: Any) -> None:
    """Start or resume a run into `folder`, and kill -9 it once so many steps are saved."""
    process = _CONTEXT.Process(target=_run, args=(train, *arguments))
    process.start()
    deadline = time.monotonic() + 120
    while steps_done(folder) < steps:
        assert process.is_alive(), f"the run ended by itself, with {process.exitcode}"
        assert time.monotonic() < deadline, "the run made no progress"
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def _run(train: Callable[..., Any], *arguments: Any) -> None:
    import torch

    torch.set_num_threads(1)
    train(*arguments)
