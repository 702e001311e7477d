"""CIFAR-10 on two CPU cores in about an hour: a narrow ResNet-18, two views, 2048 bits.

    stochcon train cifar10-cpu --images train.parquet --out runs/cifar10-cpu

Cost: 45 epochs of 50,000 images at about 720 images/s (two cores of an AMD EPYC, Zen 5): 52 minutes.
Expected, 20-NN top-1 and mAP on the test set, seed 0: codes 56.9 % and 0.237, features 58.3 % and 0.237, the
sign of a random projection of the features to 2048 bits 58.6 % and 0.243: with 128 features it loses nothing.

The latent is on the second view (Figure 1). The network, the batch and the number of epochs are what an
hour allows; the augmentation is SimCLR's for CIFAR-10 (Chen et al. 2020a, appendix B.9: no blur).
"""

from trainer.catalogue import Entry
from trainer.recipe import Recipe, View

_VIEW = View(size=32, scale=(0.2, 1.0))

_RECIPE = Recipe(
    name="cifar10-cpu",
    image_size=32,
    global_views=(_VIEW, _VIEW),
    depth=18,
    stem="cifar",
    width=16,
    head_hidden=512,
    head_layers=2,
    epochs=45,
    batch_size=256,
    base_lr=1.5,
    warmup_epochs=2,
    temperature=0.2,
    pixel_mean=(0.4914, 0.4822, 0.4465),
    pixel_std=(0.2470, 0.2435, 0.2616),
)

ENTRIES = (
    Entry(
        _RECIPE,
        family="cifar10-cpu",
        reproduces="Figure 1: two views, the second one through the latent",
        command="stochcon train cifar10-cpu --images cifar10-train.parquet --monitor cifar10-test.parquet",
        cost="52 minutes on two cores of an AMD EPYC (Zen 5)",
        expected="20-NN top-1 56.9 % and mAP 0.237 by codes",
    ),
)
