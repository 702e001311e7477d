"""The first row of Table 1 on Tiny ImageNet at the size of two CPU cores, in place of ImageNet.

    stochcon train tiny-imagenet-small-bernoulli --images train.parquet --monitor val.parquet

Images of 64 pixels and the ImageNet stem, so that features have the size that CIFAR-10's have.
"""

from trainer.catalogue import systems
from trainer.recipe import Recipe, View

_GLOBAL = View(size=64, scale=(0.3, 1.0))
_LOCAL = View(size=32, scale=(0.08, 0.4))

ENTRIES = systems(
    Recipe(
        name="tiny-imagenet-small",
        image_size=64,
        global_views=(_GLOBAL, _GLOBAL),
        local_views=(_LOCAL,) * 4,
        depth=18,
        stem="imagenet",
        width=16,
        head_hidden=512,
        head_layers=2,
        epochs=4,
        batch_size=256,
        base_lr=1.5,
        warmup_epochs=1,
        temperature=0.2,
    ),
    View(size=64, scale=(0.2, 1.0), jitter=0, grey=0),
    command="stochcon train {name} --images tiny-imagenet-train.parquet --monitor tiny-imagenet-val.parquet",
    cost="28 minutes on one busy core of an AMD EPYC (Zen 3, fp32)",
    supervised_cost="12 minutes on one such core",
    otherwise="not measured",
    # Fine-tuned for 4 epochs.
    expected={
        "bernoulli": "frozen bits 5.3; fine-tuned 7.0",
        "simclr": "frozen 5.7; fine-tuned 10.0",
        "supervised": "10.9",
    },
    figures={"simclr": "Figure 5 left when fine-tuned"},
    ablations=False,
)
