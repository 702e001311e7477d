"""ImageNet-1k with ResNet-200: the last columns of Table 1. As `imagenet_resnet50`, with the deeper network.

torchrun --nproc-per-node 64 -m stochcon train imagenet-resnet200-bernoulli --images train/ --device cuda
"""

from dataclasses import replace

from trainer.catalogue import systems
from trainer.recipe import View
from trainer.recipes.imagenet_resnet50 import BASE

ENTRIES = systems(
    replace(BASE, name="imagenet-resnet200", depth=200),
    View(size=224, jitter=0, grey=0),
    images="imagenet-train/",
    cost="not measured; many GPUs",
    expected={
        "bernoulli": "paper: 80.24 fine-tuned, 64.25 frozen",
        "simclr": "paper: 79.82 fine-tuned, 73.52 frozen",
        "supervised": "paper: 78.34",
        "gaussian": "left out in the paper",
    },
    ablations=False,
)
