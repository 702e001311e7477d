import pytest
import torch

from trainer.pooling import pool


def test_the_generalised_mean_is_the_cubic_root_of_the_mean_cube() -> None:
    maps = torch.tensor([1.0, 2.0, 3.0, 0.0]).view(1, 1, 2, 2).repeat(2, 3, 1, 1)
    assert pool(maps, "gem").flatten().tolist() == pytest.approx([9 ** (1 / 3)] * 6, rel=1e-5)
    assert pool(maps, "average").flatten().tolist() == [1.5] * 6


def test_a_channel_that_is_nowhere_active_has_a_finite_gradient() -> None:
    maps = torch.zeros(1, 1, 2, 2, requires_grad=True)
    pool(maps, "gem").sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
