"""EfficientNet-Lite0 (Tan and Le 2019; tensorflow/tpu, `efficientnet/lite`) as a backbone f.

Mobile inverted bottlenecks without squeeze-and-excitation, with ReLU6, padded as TensorFlow pads. Parameters
have the names of the PyTorch conversion `efficientnet_lite_pytorch`, so that its ImageNet weights load; the
classifier `_fc` is left out. They were trained on pixels (x - 127) / 128 with x from 0 to 255.
"""

from itertools import islice

from torch import Tensor, nn
from torch.nn import functional as F

from trainer.pooling import num_pooled, pool
from trainer.recipe import Pooling

PIXEL_MEAN = 127 / 255
PIXEL_STD = 128 / 255
"""Of each channel, for pixels in [0, 1]."""

_STAGES = (
    # repeats, kernel, stride, expansion, channels (table 1 of the paper)
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280


class EfficientNetLite0(nn.Module):
    """Images [N, 3, H, W] to pooled features h [N, num_features]: 1280 from 0 to 6 for `average`."""

    def __init__(self, pooling: Pooling = "average") -> None:
        super().__init__()
        self._pooling = pooling
        widths = [channels for *_, channels in _STAGES[:-1]]
        self.num_features = num_pooled([*widths, _HEAD_CHANNELS], pooling)
        self._conv_stem = SameConv2d(3, _STEM_CHANNELS, 3, stride=2)
        self._bn0 = _norm(_STEM_CHANNELS)
        blocks: list[nn.Module] = []
        in_channels = _STEM_CHANNELS
        for repeats, kernel, stride, expansion, channels in _STAGES:
            for number in range(repeats):
                blocks.append(
                    InvertedBottleneck(in_channels, channels, kernel, stride if number == 0 else 1, expansion)
                )
                in_channels = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(in_channels, _HEAD_CHANNELS, 1)
        self._bn1 = _norm(_HEAD_CHANNELS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stages(self) -> list[list[nn.Module]]:
        """What has parameters, in the order of the forward pass; the stem is of the first stage."""
        blocks = iter(self._blocks)
        found = [list(islice(blocks, repeats)) for repeats, *_ in _STAGES]
        found[0] = [self._conv_stem, self._bn0, *found[0]]
        return [*found, [self._conv_head, self._bn1]]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        maps = []
        blocks = iter(self._blocks)
        for repeats, *_ in _STAGES[:-1]:
            for block in islice(blocks, repeats):
                x = block(x)
            maps.append(x)
        for block in blocks:
            x = block(x)
        return pool([*maps, F.relu6(self._bn1(self._conv_head(x)))], self._pooling)


class InvertedBottleneck(nn.Module):
    """1x1 to `expansion` times the channels, depthwise, 1x1 down; with a shortcut where shapes allow one."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self._expands = expansion != 1
        if self._expands:
            self._expand_conv = SameConv2d(in_channels, inner, 1)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv2d(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = SameConv2d(inner, channels, 1)
        self._bn2 = _norm(channels)
        self._has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        out = F.relu6(self._bn1(self._depthwise_conv(out)))
        out = self._bn2(self._project_conv(out))
        found: Tensor = out + x if self._has_shortcut else out
        return found


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": of an odd number of zeros the last is right and below.

    It has no bias of its own; folding BatchNorm into it gives it one.
    """

    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(in_channels, channels, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = self._padding(x.shape[2])
        left, right = self._padding(x.shape[3])
        if top == bottom and left == right:
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), 1, self.groups)
        return super().forward(F.pad(x, (left, right, top, bottom)))

    def _padding(self, size: int) -> tuple[int, int]:
        """Zeros before and after an axis of `size` pixels."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
