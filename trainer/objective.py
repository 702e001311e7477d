"""What is minimised, as a number and its gradient with respect to the vectors of the whole batch.

The network and the loss meet only here: the vectors of all chunks (gradient caching) and of all ranks are
brought together, the loss is taken of them, and each part goes on backward with its own rows of the
gradient. So the gradients are those of one pass over the whole batch, however it was cut.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.loss import info_nce
from trainer.recipe import Recipe


def objective(recipe: Recipe, vectors: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss, a scalar, and its gradient, [V, N, D], at float32 `vectors` [V, N, D] of V views.

    Contrastive: Eq. (1) averaged over all compared pairs of views, both directions; with a loss of codes,
    which then follow the vectors of g, that of both with their shares. Supervised: cross entropy of the class
    logits of the one view with `labels`, int64 [N].
    """
    leaf = vectors.detach().requires_grad_()
    if recipe.objective == "supervised":
        assert labels is not None
        loss = F.cross_entropy(leaf[0], labels)
        loss.backward()  # type: ignore[no-untyped-call]
    else:
        loss = torch.zeros((), device=vectors.device)
        parts = [
            (slice(recipe.head_width), recipe.temperature, 1 - recipe.code_share),
            (slice(recipe.head_width, None), recipe.code_temperature, recipe.code_share),
        ]
        for columns, temperature, share in parts:
            for i, j in recipe.view_pairs if share else ():
                # Pair by pair, so that one similarity matrix [2N, 2N] is held at a time.
                pair = info_nce(leaf[i, :, columns], leaf[j, :, columns], temperature)
                part = pair * (share / len(recipe.view_pairs))
                part.backward()  # type: ignore[no-untyped-call]
                loss += part.detach()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad
