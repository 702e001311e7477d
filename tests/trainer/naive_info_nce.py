"""Eq. (1) as the paper writes it: loops, no matrices, no log-sum-exp."""

import math

import torch


def naive_info_nce(a: torch.Tensor, b: torch.Tensor, temperature: float) -> float:
    """The mean over both directions, for views [N, D] of the same images."""
    vectors = [row.tolist() for row in torch.cat([a, b])]
    count = len(a)

    def sim(u: list[float], v: list[float]) -> float:
        dot = sum(x * y for x, y in zip(u, v, strict=True))
        return dot / math.sqrt(sum(x * x for x in u)) / math.sqrt(sum(y * y for y in v))

    losses = []
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        denominator = sum(
            math.exp(sim(vectors[i], vectors[k]) / temperature) for k in range(2 * count) if k != i
        )
        losses.append(-math.log(math.exp(sim(vectors[i], vectors[j]) / temperature) / denominator))
    return sum(losses) / len(losses)
