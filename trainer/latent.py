"""The stochastic layers: variates of q(z|x) that gradients pass through (Mohamed et al. 2020).

Both take uniform noise in (0, 1), which the caller keys by seed, step, sample and view.
"""

import math

import torch
from torch import Tensor


def gumbel_bernoulli(logits: Tensor, noise: Tensor, temperature: float, hard: bool = False) -> Tensor:
    """Bernoulli variates, [N, D], from logits and noise, [N, D] (Jang et al. 2017; Maddison et al. 2017).

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


def gaussian(mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    """Variates of N(mean, diag(variance)), [N, D] each, by the inverse of the normal distribution function.

    Source: Kingma and Welling 2014. Noise of 24 bits reaches 5.4 deviations.
    """
    normal = math.sqrt(2) * torch.erfinv(2 * noise - 1)
    return mean + variance.sqrt() * normal
