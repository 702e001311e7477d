import dataclasses

import pytest
import torch

from trainer.model import StochCon
from trainer.optimizer import make_optimizer
from trainer.recipe import Recipe


def step(recipe: Recipe) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Parameters before and after one step along gradients of 1."""
    torch.manual_seed(0)
    model = StochCon(recipe)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group["rate"]
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return before, {name: p.detach() for name, p in model.named_parameters()}


def test_adam_moves_each_number_by_its_rate_and_lets_matrices_decay(recipe: Recipe) -> None:
    adam = dataclasses.replace(
        recipe, optimizer="adam", base_lr=0.01, head_rate=10, weight_decay=0.5, frozen_stages=2
    )
    before, after = step(adam)
    for name, was in before.items():
        lr = 0.1 if name.startswith("head.") else 0.01
        # The first step of Adam is the learning rate along the gradient's sign (Kingma and Ba 2015).
        expected = was * (1 - lr * (0.5 if was.ndim > 1 else 0)) - lr
        if name.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1", "backbone.layer2")):
            expected = was
        torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-5, msg=name)


def test_the_head_can_learn_at_a_rate_of_its_own_with_lars(recipe: Recipe) -> None:
    _, alike = step(recipe)
    before, faster = step(dataclasses.replace(recipe, head_rate=4))
    for name, was in before.items():
        rate = 4 if name.startswith("head.") else 1
        torch.testing.assert_close(faster[name] - was, rate * (alike[name] - was), atol=1e-7, rtol=1e-3)


@pytest.mark.parametrize(("optimizer", "expected"), [("lars", 0.3 * 16 / 256), ("adam", 0.3)])
def test_the_learning_rate_of_lars_grows_with_the_batch(
    recipe: Recipe, optimizer: str, expected: float
) -> None:
    changed = dataclasses.replace(recipe, optimizer=optimizer, base_lr=0.3)
    assert changed.peak_lr == pytest.approx(expected)
