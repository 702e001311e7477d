"""Every system of the paper on CIFAR-10 at the size of two CPU cores: a narrow ResNet-18, 2 + 4 views.

    stochcon train cifar10-small-bernoulli --images train.parquet --monitor test.parquet

The grid of docs/results.md is made of these. Against `cifar10_resnet50`: ResNet-18 with a quarter of the
channels and a stem of stride 2, four local views of 16 pixels, no blur or solarization (DINO's are a fraction
of a pixel at this size), a smaller head, batch 256, and learning rate and temperature found in short trials.
"""

from trainer.catalogue import systems
from trainer.recipe import Recipe, View

_GLOBAL = View(size=32, scale=(0.3, 1.0))
_LOCAL = View(size=16, scale=(0.08, 0.4))

ENTRIES = systems(
    Recipe(
        name="cifar10-small",
        image_size=32,
        global_views=(_GLOBAL, _GLOBAL),
        local_views=(_LOCAL,) * 4,
        depth=18,
        stem="strided",
        width=16,
        head_hidden=512,
        head_layers=2,
        epochs=8,
        batch_size=256,
        base_lr=1.5,
        warmup_epochs=1,
        temperature=0.2,
        pixel_mean=(0.4914, 0.4822, 0.4465),
        pixel_std=(0.2470, 0.2435, 0.2616),
    ),
    View(size=32, scale=(0.2, 1.0), jitter=0, grey=0),
    command="stochcon train {name} --images cifar10-train.parquet --monitor cifar10-test.parquet",
    cost="20 minutes on two idle cores of an AMD EPYC (Zen 3, fp32)",
    supervised_cost="13 minutes on one busy core of an AMD EPYC (Zen 3, fp32)",
    otherwise="docs/results.md, for 3 epochs",
    # Where there are two numbers, of seeds 0 and 1; fine-tuned for 4 epochs.
    expected={
        "bernoulli": "20-NN top-1 46.6, 45.2 by codes; frozen bits 45.2, 45.4; fine-tuned 58.8, 58.3",
        "gaussian": "20-NN top-1 53.8 by h; frozen means 50.1; fine-tuned 61.8",
        "simclr": "20-NN top-1 53.2, 52.8 by h; frozen 46.2, 46.9; fine-tuned 60.4, 61.3",
        "supervised": "66.9, 64.8",
        "supervised-bernoulli": "64.8",
    },
)
