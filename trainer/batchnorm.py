"""BatchNorm over the samples of all ranks (torch's SyncBatchNorm refuses tensors on a CPU).

Each rank takes mean and variance of its own values by the kernel of nn.BatchNorm, in float32 also where the
values are bf16; Chan, Golub and LeVeque's formula (1979) makes them those of all values without a difference
of large numbers. With mean and variance given, both passes are native kernels again: normalising is
BatchNorm in evaluation mode, and so is what training mode subtracts from the gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.ranks import Ranks


class SyncBatchNorm(_BatchNorm):
    """nn.BatchNorm1d and nn.BatchNorm2d whose batch is that of all ranks; a rank's part may be empty.

    Parameters, buffers and their names are BatchNorm's, so that a checkpoint does not depend on ranks. Every
    rank has to call it as often, forward and backward, in training mode; in evaluation mode it is alone.
    Where the ranks have one value a channel together, the variance is 0 (nn.BatchNorm raises).
    """

    def __init__(self, norm: _BatchNorm, ranks: Ranks) -> None:
        """Take the place of `norm`, sharing its parameters and buffers."""
        assert norm.affine
        assert norm.track_running_stats
        assert norm.momentum is not None
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.training = norm.training
        self._ranks = ranks

    def forward(self, x: Tensor) -> Tensor:
        """[N, C] or [N, C, ...], of any memory format, to the same shape, format and dtype."""
        if not self.training:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        out, mean, var, count = _Normalise.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, self.eps, self._ranks
        )
        if self.track_running_stats:
            self._follow(mean, var * count / (count - 1).clamp(min=1))
        normalised: Tensor = out
        return normalised

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased_var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased_var, self.momentum)
        self.num_batches_tracked.add_(1)


def synchronise(model: nn.Module, ranks: Ranks) -> None:
    """Have every BatchNorm below `model` see the samples of all ranks.

    Of one rank it is left as it is, so that one process keeps the native kernel.
    """
    if ranks.size == 1:
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, SyncBatchNorm(child, ranks))


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias; also mean, biased variance and number of all values."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, var, count = _moments(x, weight, ranks)
        out = F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps) if x.numel() else x.clone()
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps, ctx.ranks = eps, ranks
        ctx.mark_non_differentiable(mean, var, count)
        return out, mean, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """That of x is w / s (g - mean(g) - y mean(g y)), with s the deviation and y = (x - mean) / s.

        Weight and bias get this rank's own share of theirs: the ranks add them up with all others.
        """
        x, weight, mean, var, count = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = _backward_given_moments(grad, x, weight, mean, var, ctx.eps)
        sums = ctx.ranks.sum(torch.stack([grad_bias, grad_weight]))  # of g and of g y, over all values
        if x.numel():
            bias, scale = sums / count * weight * (var + ctx.eps).rsqrt()
            grad_x -= F.batch_norm(x, mean, var, scale, bias, training=False, eps=ctx.eps)
        return grad_x, grad_weight, grad_bias, None, None


def _moments(x: Tensor, weight: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of all ranks' values, [C] each, and their number, a scalar; as `weight`."""
    own = weight.new_zeros((3, len(weight)))  # the number of values, their mean and their variance
    if x.numel():
        own[0] = x.numel() / len(weight)
        unused = torch.zeros_like(own)  # running statistics, which also decide the dtype of what is found
        own[1], own[2] = torch.batch_norm_update_stats(x, unused[0], unused[1], 0.0)
    counts, means, variances = ranks.stack(own).unbind(dim=1)  # [ranks, C] each
    count = counts.sum(dim=0)
    mean = (counts * means).sum(dim=0) / count
    var = (counts * (variances + (means - mean).square())).sum(dim=0) / count
    return mean, var, count[0]


def _backward_given_moments(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias as if mean and variance did not depend on x."""
    if not x.numel():  # The kernel divides by the number of values.
        return torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(weight)
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, mean, var, None, None, False, eps, [True, True, True]
    )
    return gradients
