import math

import pytest
import torch

from trainer.latent import gaussian, gumbel_bernoulli, straight_through
from trainer.randomness import keys, uniform


def noise(rows: int, columns: int) -> torch.Tensor:
    return uniform(keys(0, 0, torch.arange(rows), 0), columns, stream=1)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_hard_variates_are_exact_bits_with_the_right_frequency(temperature: float) -> None:
    logits = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0])
    z = gumbel_bernoulli(logits.expand(100_000, 5), noise(100_000, 5), temperature, hard=True)
    assert set(z.unique().tolist()) == {0.0, 1.0}
    p = torch.sigmoid(logits)
    deviation = (p * (1 - p) / 100_000).sqrt()
    assert ((z.mean(0) - p).abs() < 4 * deviation).all()


def test_relaxed_variates_are_the_logistic_relaxation() -> None:
    logits, u = torch.tensor([[0.7]]), torch.tensor([[0.2]])
    # 1 / (1 + exp(-0.7 / tau) (0.8 / 0.2)^(1 / tau)) at tau = 1/2
    expected = 1 / (1 + math.exp(-1.4) * 16)
    assert gumbel_bernoulli(logits, u, 0.5).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("hard", [False, True])
def test_gradients_live_at_large_logits(hard: bool) -> None:
    for value in (-20.0, 20.0):
        logits = torch.full((1, 1), value, requires_grad=True)
        # The noise that brings the variate to its threshold, where the relaxation is steepest.
        u = torch.sigmoid(torch.tensor([[-value * 0.8]]))
        gumbel_bernoulli(logits, u, 1.0, hard).sum().backward()
        z = torch.sigmoid(logits.detach() + torch.log(u) - torch.log1p(-u))
        assert logits.grad is not None
        assert logits.grad.abs().item() > 1e-3
        assert logits.grad.item() == pytest.approx((z * (1 - z)).item(), rel=1e-3)


def test_straight_through_passes_the_relaxed_gradient() -> None:
    relaxed = torch.tensor([0.1, 0.49, 0.5, 0.93], requires_grad=True)
    hard = straight_through(relaxed)
    assert hard.tolist() == [0.0, 0.0, 1.0, 1.0]
    weights = torch.tensor([1.0, -2.0, 3.0, 4.0])
    (hard * weights).sum().backward()
    assert torch.equal(relaxed.grad, weights)


def test_bf16_logits_are_sampled_in_float32() -> None:
    z = gumbel_bernoulli(torch.zeros(1, 8, dtype=torch.bfloat16), noise(1, 8), 1.0)
    assert z.dtype == torch.float32


def test_gaussian_variates_have_the_mean_and_the_variance_asked_for() -> None:
    noise = torch.rand(200_000, 1, generator=torch.Generator().manual_seed(0))
    z = gaussian(torch.full_like(noise, 3.0), torch.full_like(noise, 4.0), noise)
    assert z.mean().item() == pytest.approx(3, abs=0.02)
    assert z.std().item() == pytest.approx(2, abs=0.02)
    # By the normal distribution function: a quantile of the noise is that of the variates.
    assert gaussian(torch.zeros(1), torch.ones(1), torch.tensor([0.975])).item() == pytest.approx(
        1.959964, abs=1e-5
    )
    assert gaussian(torch.zeros(2), torch.ones(2), torch.tensor([2.0**-25, 1 - 2.0**-24])).isfinite().all()
