"""LARS (You, Gitman and Ginsburg 2017) as google-research/simclr has it.

The learning rate is inside the momentum, and the trust ratio is taken over the gradient with weight
decay. Biases and normalisation parameters get neither decay nor adaptation: with them, large-batch
contrastive training diverges.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """v <- m v + lr * trust * (g + wd * w); w <- w - v, with trust = eta |w| / |g + wd * w|.

    Groups with `adapt=False` have trust = 1 and no weight decay.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        eta: float = 1e-3,
    ) -> None:
        if lr <= 0 or eta <= 0 or not 0 <= momentum < 1 or weight_decay < 0:
            raise ValueError(
                f"LARS needs lr > 0, eta > 0, 0 <= momentum < 1 and weight_decay >= 0, and got lr={lr}, "
                f"eta={eta}, momentum={momentum}, weight_decay={weight_decay}"
            )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eta": eta,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            momenta = [self._momentum(p) for p in params]
            torch._foreach_mul_(momenta, group["momentum"])
            if group["adapt"]:
                grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
                trust = _trust(torch._foreach_norm(params), torch._foreach_norm(grads), group["eta"])
                torch._foreach_mul_(grads, trust.unbind())
            torch._foreach_add_(momenta, grads, alpha=group["lr"])
            torch._foreach_sub_(params, momenta)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum


def _trust(weight_norms: Sequence[Tensor], grad_norms: Sequence[Tensor], eta: float) -> Tensor:
    """eta |w| / |g| of each parameter, and 1 where either norm is 0."""
    weight, grad = torch.stack(list(weight_norms)), torch.stack(list(grad_norms))
    ratio = eta * weight / grad
    return torch.where((weight > 0) & (grad > 0), ratio, torch.ones_like(ratio))
