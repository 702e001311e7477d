import math

import pytest
import torch

from tests.trainer.naive_info_nce import naive_info_nce
from trainer.loss import info_nce


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_info_nce_is_equation_1(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 7, 5, generator=generator)
    assert info_nce(a, b, temperature).item() == pytest.approx(naive_info_nce(a, b, temperature), rel=1e-5)


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
