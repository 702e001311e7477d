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


def norms_after(model: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution below `model` that a BatchNorm follows, and of that BatchNorm."""
    found = []
    for path, module in model.named_modules():
        names = dict(module.named_children())
        for conv, norm in [("0", "1")] if isinstance(module, nn.Sequential) else _PAIRS:
            if isinstance(names.get(conv), nn.Conv2d) and isinstance(names.get(norm), nn.BatchNorm2d):
                prefix = f"{path}." if path else ""
                found.append((prefix + conv, prefix + norm))
    return found


def fuse_batchnorm(model: nn.Module) -> None:
    """Fold each BatchNorm of a backbone in evaluation mode into the convolution before it, in place."""
    for conv, norm in norms_after(model):
        first, second = model.get_submodule(conv), model.get_submodule(norm)
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.BatchNorm2d)
        model.set_submodule(conv, fuse_conv_bn_eval(first, second))
        model.set_submodule(norm, nn.Identity())
