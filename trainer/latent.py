"""The stochastic layer: Gumbel-Bernoulli variates (Jang et al. 2017; Maddison et al. 2017)."""

import torch
from torch import Tensor


def gumbel_bernoulli(logits: Tensor, noise: Tensor, temperature: float, hard: bool = False) -> Tensor:
    """Pathwise differentiable Bernoulli variates, [N, D], from logits and uniform noise in (0, 1), [N, D].

    The difference of two Gumbel variates is logistic, so z = sigmoid((logit + log u - log(1-u)) / tau).
    It is computed from logits in float32: clamping probabilities, as `RelaxedBernoulli.rsample` does,
    ends the gradient where logits are large. With `hard`, the forward values are exactly 0 or 1 and
    P(1) = sigmoid(logit) at every temperature (Listing 1).
    """
    logits = logits.float()
    logistic = torch.log(noise) - torch.log1p(-noise)
    relaxed = torch.sigmoid((logits + logistic) / temperature)
    return straight_through(relaxed) if hard else relaxed


def straight_through(relaxed: Tensor) -> Tensor:
    """Listing 1: 0 or 1 forward, the gradient of `relaxed` backward.

    The listing adds `relaxed` back after subtracting it, which leaves rounding errors in the forward
    values; adding a zero that carries the gradient leaves none.
    """
    hard = (relaxed >= 0.5).to(relaxed.dtype)
    return hard + (relaxed - relaxed.detach())
