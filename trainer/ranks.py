"""Data parallel training over processes that `torchrun` starts; one process is the same code without any.

Each rank takes its share of every chunk of a batch. Vectors are gathered, so that every rank sees all
negatives, and gradients are summed: the loss each rank computes is that of the whole batch already, so
there is nothing to divide by the number of ranks.

Ranks wait for each other, so each of them must come to the same calls in the same order: whatever decides
that has to be known to all of them. One that dies ends the others with ConnectionError.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch import distributed as dist

TIMEOUT_S = 600.0
"""How long a rank waits for another that neither answers nor dies. Rank 0's monitor must be faster."""

_BUCKET_NUMBERS = 2**23
"""Gradients that are summed at a time: enough that messages are few, and 32 MiB of memory."""


class Ranks(Protocol):
    """This process among those that train together. The calls below are for all ranks at once."""

    rank: int
    size: int
    device: torch.device
    """Where this rank's network is to run."""

    def stack(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, alike in shape, in the order of ranks along a new first dimension."""
        ...

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of the tensors of all ranks, alike in shape. `tensor` may be overwritten."""
        ...

    def broadcast(self, content: bytes | None) -> bytes | None:
        """Rank 0's content; what the others give is not looked at."""
        ...


class OneProcess:
    """All there is: rank 0 of 1."""

    rank = 0
    size = 1

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def stack(self, tensor: Tensor) -> Tensor:
        return tensor[None]

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor

    def broadcast(self, content: bytes | None) -> bytes | None:
        return content


class TorchRun:
    """The ranks of torch's default process group."""

    def __init__(self, device: torch.device) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self.device = device

    def stack(self, tensor: Tensor) -> Tensor:
        everyone = tensor.new_empty((self.size, *tensor.shape))
        with self._lost_ranks_named():
            dist.all_gather(list(everyone), tensor.contiguous())
        return everyone

    def sum(self, tensor: Tensor) -> Tensor:
        with self._lost_ranks_named():
            dist.all_reduce(tensor)
        return tensor

    def broadcast(self, content: bytes | None) -> bytes | None:
        size = torch.tensor(-1 if content is None else len(content))
        with self._lost_ranks_named():
            dist.broadcast(size, src=0)
            if size < 0:
                return None
            sent = _as_tensor(content) if content is not None and self.rank == 0 else _empty(int(size))
            dist.broadcast(sent, src=0)
        return sent.numpy().tobytes()

    @contextmanager
    def _lost_ranks_named(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as exc:  # the root of torch's DistError, and what gloo itself raises
            raise ConnectionError(
                f"rank {self.rank} of {self.size} lost another rank, which died or did not answer "
                f"({_reason(exc)}): the same command goes on from the last checkpoint"
            ) from exc


@contextmanager
def launched(device: str, timeout_s: float = TIMEOUT_S) -> Iterator[Ranks]:
    """The ranks that torchrun started, on the local rank's own `device`; one process without torchrun.

    Raises ValueError if there are fewer GPUs than ranks on this machine, ConnectionError if not all ranks
    come, and, on leaving, if not all get there.
    """
    if not dist.is_torchelastic_launched():
        yield OneProcess(device)
        return
    here = torch.device(device)
    if here.type == "cuda":
        here = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if here.index >= torch.cuda.device_count():
            raise ValueError(
                f"torchrun started {os.environ['LOCAL_WORLD_SIZE']} processes on this machine, and it has "
                f"{torch.cuda.device_count()} GPUs: give --nproc-per-node of at most that"
            )
        torch.cuda.set_device(here)
    try:
        # gloo also beside nccl: small decisions are taken on the CPU, without waiting for the GPU.
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if here.type == "cuda" else "gloo", timeout=timedelta(seconds=timeout_s)
        )
    except RuntimeError as exc:
        raise ConnectionError(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} did not meet the others "
            f"({_reason(exc)}): see that every machine can reach torchrun's --rdzv-endpoint"
        ) from exc
    try:
        ranks = TorchRun(here)
        yield ranks
        # Rank 0 has more to do. Whoever ends before it would end the run, if this machine held the others'
        # meeting point; and with this, no rank succeeds where another failed.
        ranks.sum(torch.zeros(()))
    finally:
        dist.destroy_process_group()


def share(numbers: npt.NDArray[np.int64], ranks: Ranks) -> npt.NDArray[np.int64]:
    """This rank's part of the image numbers of a chunk; sizes differ by at most 1."""
    return np.array_split(numbers, ranks.size)[ranks.rank]


def gather(tensor: Tensor, dim: int, ranks: Ranks) -> tuple[Tensor, slice]:
    """The tensors of all ranks side by side along `dim`, where sizes may differ, and where one's own lies."""
    if ranks.size == 1:
        return tensor, slice(None)
    sizes: list[int] = ranks.stack(torch.tensor(tensor.shape[dim])).tolist()
    if max(sizes) == 0:
        return tensor, slice(0, 0)
    rows = tensor.movedim(dim, 0)
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [part[:size] for part, size in zip(ranks.stack(padded), sizes, strict=True)]
    start = sum(sizes[: ranks.rank])
    return torch.cat(parts).movedim(0, dim), slice(start, start + len(rows))


def gather_texts(text: str, ranks: Ranks) -> list[str]:
    """A text of each rank."""
    ours = _as_tensor(text.encode())
    sizes = ranks.stack(torch.tensor(len(ours))).tolist()
    everything, _ = gather(ours, 0, ranks)
    return [part.numpy().tobytes().decode() for part in torch.split(everything, sizes)]


def sum_gradients(model: nn.Module, ranks: Ranks) -> None:
    """Replace each gradient by its sum over ranks, many in one message."""
    if ranks.size == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    while gradients:
        bucket = [gradients.pop()]
        while gradients and sum(g.numel() for g in bucket) + gradients[-1].numel() <= _BUCKET_NUMBERS:
            bucket.append(gradients.pop())
        summed = ranks.sum(torch.cat([gradient.flatten() for gradient in bucket]))
        for gradient, part in zip(bucket, torch.split(summed, [g.numel() for g in bucket]), strict=True):
            gradient.copy_(part.view(gradient.shape))


@contextmanager
def together(ranks: Ranks) -> Iterator[None]:
    """Wrong use that one rank finds in the block ends all of them with ValueError, so that none waits.

    The block may not have the ranks wait for each other.
    """
    found: ValueError | OSError | None = None
    try:
        yield
    except (ValueError, OSError) as exc:
        found = exc
    texts = gather_texts("" if found is None else str(found) or type(found).__name__, ranks)
    if found is not None:
        raise found
    for rank, text in enumerate(texts):
        if text:
            raise ValueError(f"rank {rank}: {text}")


def _reason(exc: RuntimeError) -> str:
    """What gloo says between a place in its own source and general advice."""
    return str(exc).partition("] ")[2].partition(". ")[0] or str(exc)


def _as_tensor(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


def _empty(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8)
