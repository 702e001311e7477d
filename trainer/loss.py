"""InfoNCE, Eq. (1) of the paper."""

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Eq. (1) for one pair of views, float [N, D] each, averaged over both directions: a scalar.

    Row i of `a` and row i of `b` are views of the same image; the other 2N - 2 vectors of both views
    are the negatives. The similarity is the cosine. Computed in float32.
    """
    count = a.shape[0]
    vectors = F.normalize(torch.cat([a, b]).float(), dim=1)
    similarities = vectors @ vectors.T / temperature
    similarities.fill_diagonal_(-torch.inf)  # the indicator k != i of Eq. (1)
    positives = torch.arange(2 * count, device=a.device).roll(count)
    return F.cross_entropy(similarities, positives)
