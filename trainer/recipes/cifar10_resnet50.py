"""CIFAR-10 with ResNet-50 at the paper's settings: batch 4096, LARS, 2 global and 8 local views.

    torchrun --nproc-per-node 8 --no-python stochcon train cifar10-resnet50-bernoulli \
        --images cifar10-train.parquet --device cuda

The paper gives no number of epochs, learning rate or InfoNCE temperature. The number of epochs is
solo-learn's for CIFAR-10, learning rate and temperature are google-research/simclr's. Cost: not measured;
on one device give `--chunk-size 512`, which keeps the gradients of the batch (BatchNorm's groups are then
of 512 images).
"""

from trainer.catalogue import BOTTLENECKS, GAUSSIAN_WIDTHS, systems
from trainer.multicrop import dino_views
from trainer.recipe import Recipe, View

_GLOBAL, _LOCAL = dino_views(global_size=32, local_size=16)

ENTRIES = systems(
    Recipe(
        name="cifar10-resnet50",
        image_size=32,
        global_views=_GLOBAL,
        local_views=_LOCAL,
        depth=50,
        stem="cifar",
        epochs=1000,
        base_lr=1.0,
        temperature=0.5,
        pixel_mean=(0.4914, 0.4822, 0.4465),
        pixel_std=(0.2470, 0.2435, 0.2616),
    ),
    # "standard ImageNet augmentations (random flip, random-resized crop)", appendix A.3
    View(size=32, jitter=0, grey=0),
    command="torchrun --nproc-per-node 8 --no-python stochcon train {name} --images cifar10-train.parquet "
    "--monitor cifar10-test.parquet --device cuda",
    cost="not measured; 8 GPUs, or one with --chunk-size 512",
    expected={
        "bernoulli": "paper: 96.42 fine-tuned, 91.96 frozen",
        "gaussian": "paper: 96.08 fine-tuned, 92.40 frozen",
        "simclr": "paper: 94.35 fine-tuned, 91.67 frozen",
        "supervised": "paper: 95.00",
        "supervised-bernoulli": "paper: StochCon outperforms it by 1.78",
        **dict.fromkeys(
            ("bernoulli-hard-top", "bernoulli-soft-bottom", "bernoulli-hard-bottom"),
            "paper: half of the bits are active at first, and fewer later",
        ),
        **{f"bernoulli-{width}": "paper: frozen top-1 is robust to the width" for width in BOTTLENECKS},
        **{
            f"gaussian-{width}": "paper: the narrower, the more it relies on its variance"
            for width in GAUSSIAN_WIDTHS
        },
        "bernoulli-512": "paper: half of the bits stay active",
        "bernoulli-64": "paper: 11 units are enough for the random forest",
        "gaussian-own-2048": "paper: the variance collapses to 0",
        "gaussian-own-64": "paper: the variance collapses to 0",
    },
)
