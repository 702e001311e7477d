"""ResNet backbones f (He et al. 2016) with torchvision's parameter names.

The names are torchvision's so that its weights load; the final classifier `fc` is left out, since the
backbone of the paper ends at spatial pooling (Figure 1).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainer.pooling import num_pooled, pool
from trainer.recipe import Pooling, Stem


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, for ResNet-18 and -34."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu_(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu_(out + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, with the stride on the 3x3 as torchvision has it ("ResNet v1.5")."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.downsample = _shortcut(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu_(self.bn1(self.conv1(x)))
        out = torch.relu_(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu_(out + shortcut)


Block = type[BasicBlock] | type[Bottleneck]

_LAYOUTS: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
    200: (Bottleneck, (3, 24, 36, 3)),
}

DEPTHS = tuple(_LAYOUTS)


class ResNet(nn.Module):
    """Images [N, 3, H, W] to pooled features h [N, num_features], which are never negative.

    `width` is the number of channels of the first stage (64 is the standard network). The `cifar` stem
    is one 3x3 convolution without stride or pooling, as SimCLR's appendix B.9 has it for small images; the
    `strided` one has stride 2, and the network after it a quarter of the cost.
    """

    def __init__(
        self, depth: int = 50, stem: Stem = "imagenet", width: int = 64, pooling: Pooling = "average"
    ) -> None:
        if depth not in _LAYOUTS:
            raise ValueError(f"depth is {depth}: it must be one of {', '.join(map(str, DEPTHS))}")
        if width < 1:
            raise ValueError(f"width is {width}: it must be at least 1")
        super().__init__()
        self._pooling = pooling
        block, counts = _LAYOUTS[depth]
        if stem != "imagenet":
            self.conv1 = _conv3x3(3, width, 2 if stem == "strided" else 1)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        channels = [width * factor for factor in (1, 2, 4, 8)]
        self.layer1 = _stage(block, width, channels[0], counts[0], stride=1)
        self.layer2 = _stage(block, channels[0] * block.expansion, channels[1], counts[1], stride=2)
        self.layer3 = _stage(block, channels[1] * block.expansion, channels[2], counts[2], stride=2)
        self.layer4 = _stage(block, channels[2] * block.expansion, channels[3], counts[3], stride=2)
        self.num_features = num_pooled([count * block.expansion for count in channels], pooling)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, BasicBlock | Bottleneck):
                # Each residual branch starts at zero, so that the network starts as the identity
                # (Goyal et al. 2017, section 5.1).
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                nn.init.zeros_(last.weight)

    @property
    def stages(self) -> list[list[nn.Module]]:
        """What has parameters, in the order of the forward pass; the stem is of the first stage."""
        return [[self.conv1, self.bn1, self.layer1], [self.layer2], [self.layer3], [self.layer4]]

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(torch.relu_(self.bn1(self.conv1(x))))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return pool(maps, self._pooling)


def _stage(block: Block, in_channels: int, channels: int, count: int, stride: int) -> nn.Sequential:
    make: Callable[[int, int, int], nn.Module] = block
    blocks = [make(in_channels, channels, stride)]
    blocks += [make(channels * block.expansion, channels, 1) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


def _conv3x3(in_channels: int, channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
    )
