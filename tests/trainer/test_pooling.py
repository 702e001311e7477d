import numpy as np
import pytest
import torch

from trainer.pooling import LEVELS, SCALE, num_pooled, pool


def test_the_generalised_mean_is_the_cubic_root_of_the_mean_cube() -> None:
    maps = torch.tensor([1.0, 2.0, 3.0, 0.0]).view(1, 1, 2, 2).repeat(2, 3, 1, 1)
    assert pool([maps], "gem").flatten().tolist() == pytest.approx([9 ** (1 / 3)] * 6, rel=1e-5)
    assert pool([maps], "average").flatten().tolist() == [1.5] * 6


def test_levels_are_three_vectors_of_fixed_length_side_by_side() -> None:
    generator = torch.Generator().manual_seed(0)
    stages = [torch.rand(2, c, s, s, generator=generator) for c, s in ((3, 9), (4, 8), (5, 4), (6, 2))]
    found = pool(stages, "levels").numpy()
    assert found.shape == (2, num_pooled([3, 4, 5, 6], "levels")) == (2, 15)

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    last = np.cbrt((stages[3].numpy() ** 3).mean((2, 3)))
    middle = [stage.numpy().std((2, 3)) for stage in stages[1:3]]
    expected = [unit(last), LEVELS[0] * unit(middle[0]), LEVELS[1] * unit(middle[1])]
    np.testing.assert_allclose(found, SCALE * np.concatenate(expected, axis=1), rtol=1e-4)


@pytest.mark.parametrize("pooling", ["gem", "levels"])
def test_channels_that_are_nowhere_active_have_a_finite_gradient(pooling: str) -> None:
    stages = [torch.zeros(1, 2, 2, 2, requires_grad=True) for _ in range(3)]
    pool(stages, pooling).sum().backward()
    for maps in stages:
        assert maps.grad is None or maps.grad.isfinite().all()
