import math

import pytest
import torch

from trainer.loss import info_nce
from trainer.model import Branches
from trainer.recipe import Recipe, View
from trainer.train import contrastive_loss


def naive(a: torch.Tensor, b: torch.Tensor, temperature: float) -> float:
    """Eq. (1), written as the paper has it: loops, no matrices, no log-sum-exp."""
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


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_info_nce_is_equation_1(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 7, 5, generator=generator)
    assert info_nce(a, b, temperature).item() == pytest.approx(naive(a, b, temperature), rel=1e-5)


def test_multi_crop_averages_over_every_pair_of_a_global_and_a_local_view() -> None:
    recipe = Recipe(
        name="test", image_size=8, global_views=(View(8),) * 2, local_views=(View(4),) * 3, temperature=0.3
    )
    vectors = list(torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(1)))
    pairs = [naive(vectors[i], vectors[j], 0.3) for i in (0, 1) for j in (2, 3, 4)]
    loss = contrastive_loss(recipe, Branches(vectors, []))
    assert loss.item() == pytest.approx(sum(pairs) / 6, rel=1e-5)


def test_perfect_and_useless_vectors_give_the_known_losses() -> None:
    same = torch.ones(4, 3)
    assert info_nce(same, same, 0.1).item() == pytest.approx(math.log(7), rel=1e-6)
    apart = torch.eye(4)
    assert info_nce(apart, apart, 0.01).item() == pytest.approx(0, abs=1e-6)


def test_gradients_reach_both_views() -> None:
    a, b = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(2)).requires_grad_().unbind()
    a.retain_grad()
    b.retain_grad()
    info_nce(a, b, 0.2).backward()
    assert a.grad.abs().sum() > 0
    assert b.grad.abs().sum() > 0
