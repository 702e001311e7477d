"""BatchNorm folded into convolutions, for networks that will not be trained any more."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_batchnorm(model: nn.Module) -> None:
    """Fold each BatchNorm of a ResNet in evaluation mode into the convolution before it, in place."""
    for module in model.modules():
        names = dict(module.named_children())
        pairs = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
        if isinstance(module, nn.Sequential):
            pairs = [("0", "1")]
        for conv, norm in pairs:
            first, second = names.get(conv), names.get(norm)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(first, second))
                setattr(module, norm, nn.Identity())
