import numpy as np
import pytest
import torch
from torch import nn

from trainer.lars import LARS
from trainer.optimizer import parameter_groups


def two_steps_by_hand(w, b, gradients, rates, momentum, decay, eta):
    """google-research/simclr's lars_optimizer.py with classic momentum, in numpy."""
    vw, vb = np.zeros_like(w), np.zeros_like(b)
    for (gw, gb), lr in zip(gradients, rates, strict=True):
        gw = gw + decay * w
        trust = eta * np.linalg.norm(w) / np.linalg.norm(gw)
        vw = momentum * vw + lr * trust * gw
        w = w - vw
        vb = momentum * vb + lr * gb  # no decay and no adaptation
        b = b - vb
    return w, b


def test_two_steps_equal_those_by_hand() -> None:
    rng = np.random.default_rng(0)
    layer = nn.Linear(3, 2)
    w, b = layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()
    gradients = [
        (rng.standard_normal((2, 3), np.float32), rng.standard_normal(2, np.float32)) for _ in range(2)
    ]
    optimizer = LARS(parameter_groups(layer), lr=0.7, momentum=0.9, weight_decay=0.01, eta=0.001)
    rates = (0.7, 0.2)  # unlike, since only then does it show whether the rate is inside the momentum
    for (gw, gb), rate in zip(gradients, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        layer.weight.grad, layer.bias.grad = torch.from_numpy(gw.copy()), torch.from_numpy(gb.copy())
        optimizer.step()
    expected_w, expected_b = two_steps_by_hand(w, b, gradients, rates, 0.9, 0.01, 0.001)
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected_w, rtol=1e-5)
    np.testing.assert_allclose(layer.bias.detach().numpy(), expected_b, rtol=1e-5)


def test_zero_weights_and_zero_gradients_are_not_adapted() -> None:
    layer = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = LARS(parameter_groups(layer), lr=0.5, weight_decay=0.0)
    layer.weight.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(layer.weight.detach(), torch.full((2, 2), -0.5))
    layer.weight.grad = torch.zeros(2, 2)
    optimizer.step()  # 0 / 0 would be nan
    torch.testing.assert_close(layer.weight.detach(), torch.full((2, 2), -0.5 - 0.45))


def test_biases_and_norms_are_in_the_group_without_adaptation() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    adapted, plain = parameter_groups(model)
    assert {p.ndim for p in adapted["params"]} == {2, 4}
    assert {p.ndim for p in plain["params"]} == {1}
    assert len(adapted["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="momentum=1"):
        LARS(parameter_groups(nn.Linear(1, 1)), lr=0.1, momentum=1)
