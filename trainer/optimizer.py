"""The optimizer of a recipe."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.lars import LARS
from trainer.model import StochCon


def make_optimizer(model: StochCon) -> Optimizer:
    """LARS or Adam as the recipe says, over what is not frozen, at the peak of the learning rate.

    Each group has in `rate` its share of the learning rate, for whoever changes that.
    """
    recipe = model.recipe
    groups = parameter_groups(model, recipe.head_rate)
    if recipe.optimizer == "lars":
        return LARS(groups, recipe.peak_lr, recipe.momentum, recipe.weight_decay)
    for group in groups:
        if not group.pop("adapt"):
            group["weight_decay"] = 0.0
    return torch.optim.AdamW(groups, recipe.peak_lr, weight_decay=recipe.weight_decay, fused=True)


def parameter_groups(model: nn.Module, head_rate: float = 1.0) -> list[dict[str, Any]]:
    """What is not frozen, as matrices, which LARS adapts and which decay, and vectors (biases, norms), to
    which neither is done; and g's apart if it learns at a rate of its own.
    """
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = head_rate if name.startswith("head.") else 1.0
            found.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    return [{"params": params, "adapt": adapt, "rate": rate} for (rate, adapt), params in found.items()]
