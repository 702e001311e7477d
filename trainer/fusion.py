"""BatchNorm folded into convolutions, for networks that will not be trained any more."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_PAIRS = (
    *((f"conv{i}", f"bn{i}") for i in (1, 2, 3)),
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)
"""Names of a convolution and of the BatchNorm after it, in a ResNet and in an EfficientNet."""


def fuse_batchnorm(model: nn.Module) -> None:
    """Fold each BatchNorm of a backbone in evaluation mode into the convolution before it, in place."""
    for module in model.modules():
        names = dict(module.named_children())
        for conv, norm in [("0", "1")] if isinstance(module, nn.Sequential) else _PAIRS:
            first, second = names.get(conv), names.get(norm)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(first, second))
                setattr(module, norm, nn.Identity())
