"""Two processes that meet as ranks, kept from one job to the next, since importing torch takes seconds.

They are told of each other by the variables that torchrun sets, and so go through `launched` as a run does.
"""

import multiprocessing
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Any

import torch
from torch import distributed as dist


class TwoRanks:
    """Use as a context manager. Jobs are functions of a module that both processes can import."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes = [ProcessPoolExecutor(1, context) for _ in range(2)]

    def __enter__(self) -> "TwoRanks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.shutdown()

    def run(self, job: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What `job` returns on each rank."""
        outcomes = self.outcomes(job, *arguments)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes

    def outcomes(self, job: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What `job` returns or raises on each rank."""
        store = meeting_point()
        futures = [
            process.submit(_call, torchrun_environment(rank, 2, store), job, arguments)
            for rank, process in enumerate(self._processes)
        ]
        return [future.exception() or future.result() for future in futures]


def meeting_point() -> dist.TCPStore:
    """What torchrun's agent serves for the processes of one run to find each other."""
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def torchrun_environment(rank: int, size: int, store: dist.TCPStore) -> dict[str, str]:
    """What torchrun sets for a process."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": store.host,
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def _call(environment: dict[str, str], job: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    os.environ.update(environment)
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    return job(*arguments)
