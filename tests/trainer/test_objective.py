import dataclasses

import pytest
import torch
from torch.nn import functional as F

from tests.trainer.naive_info_nce import naive_info_nce
from trainer.objective import objective
from trainer.recipe import Recipe, View

MULTI_CROP = Recipe(
    name="test", image_size=8, global_views=(View(8),) * 2, local_views=(View(4),) * 3, temperature=0.3
)


def test_multi_crop_averages_over_every_pair_of_a_global_and_a_local_view() -> None:
    vectors = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(1))
    pairs = [naive_info_nce(vectors[i], vectors[j], 0.3) for i in (0, 1) for j in (2, 3, 4)]
    loss, _ = objective(MULTI_CROP, vectors, None)
    assert loss.item() == pytest.approx(sum(pairs) / 6, rel=1e-5)


def test_codes_have_their_share_and_a_temperature_of_their_own() -> None:
    recipe = dataclasses.replace(MULTI_CROP, head_width=6, code_share=0.25, code_temperature=0.7)
    vectors = torch.randn(5, 4, 14, generator=torch.Generator().manual_seed(1))
    expected = sum(
        0.75 * naive_info_nce(vectors[i, :, :6], vectors[j, :, :6], 0.3)
        + 0.25 * naive_info_nce(vectors[i, :, 6:], vectors[j, :, 6:], 0.7)
        for i in (0, 1)
        for j in (2, 3, 4)
    )
    loss, gradient = objective(recipe, vectors, None)
    assert loss.item() == pytest.approx(expected / 6, rel=1e-5)
    alone, _ = objective(MULTI_CROP, vectors[..., :6], None)
    assert gradient.shape == vectors.shape
    assert loss.item() != pytest.approx(alone.item(), rel=0.01)


def test_the_gradient_is_that_of_the_loss() -> None:
    vectors = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(2)).double()
    _, gradient = objective(MULTI_CROP, vectors.float(), None)
    for place in ((0, 0, 0), (1, 3, 5), (4, 2, 1)):
        moved = [vectors.clone(), vectors.clone()]
        moved[0][place] += 1e-4
        moved[1][place] -= 1e-4
        up, down = (
            sum(naive_info_nce(v[i], v[j], 0.3) for i in (0, 1) for j in (2, 3, 4)) / 6 for v in moved
        )
        assert gradient[place].item() == pytest.approx((up - down) / 2e-4, rel=1e-3, abs=1e-6)


def test_a_supervised_objective_is_cross_entropy() -> None:
    recipe = Recipe(name="test", image_size=8, global_views=(View(8),), objective="supervised", latent="none")
    logits, labels = (
        torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(3)),
        torch.tensor([0, 2, 1, 1]),
    )
    loss, gradient = objective(recipe, logits, labels)
    p = logits[0].softmax(1)
    assert loss.item() == pytest.approx(-p[range(4), labels].log().mean().item(), rel=1e-5)
    torch.testing.assert_close(gradient[0], (p - F.one_hot(labels, 3)) / 4)
