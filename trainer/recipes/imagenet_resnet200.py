"""ImageNet-1k with ResNet-200: the last columns of Table 1. As `imagenet_resnet50`, but deeper."""

from dataclasses import replace

from trainer.catalogue import systems
from trainer.recipe import View
from trainer.recipes.imagenet_resnet50 import BASE

ENTRIES = systems(
    replace(BASE, name="imagenet-resnet200", depth=200),
    View(size=224, jitter=0, grey=0),
    command="torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:PORT "
    "--no-python stochcon train {name} --images imagenet-train/ --monitor imagenet-val/ --device cuda",
    cost="not measured; many GPUs",
    expected={
        "bernoulli": "paper: 80.24 fine-tuned, 64.25 frozen",
        "simclr": "paper: 79.82 fine-tuned, 73.52 frozen",
        "supervised": "paper: 78.34",
        "gaussian": "left out in the paper",
    },
    ablations=False,
)
