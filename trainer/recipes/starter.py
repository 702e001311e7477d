"""Codes of photographs for near-duplicates and search, from an EfficientNet-Lite0 with ImageNet weights.

    stochcon train starter --images my-photos/

goes on from the model that ships. That one was made by the same recipe with --init efficientnet-lite0.pth
(models/README.md has the commands): pi starts from whitened features, which decide most of the quality, and
the last two stages, pi, rho and g follow StochCon's objective and the InfoNCE of the codes themselves, on
views that are edited as duplicates are.

Cost: 24 images/s on two cores of an AMD EPYC (Zen 3) in fp32, and two minutes before the first step.
"""

from contracts.model_file import SHIPPED_MODELS
from trainer.catalogue import Entry
from trainer.efficientnet import PIXEL_MEAN, PIXEL_STD
from trainer.recipe import Recipe, View

_RECIPE = Recipe(
    name="starter",
    image_size=224,
    global_views=(View(size=224, scale=(0.7, 1.0), jitter=0, grey=0),),
    local_views=(
        View(
            size=224,
            scale=(0.12, 1.0),
            jitter=0.5,
            grey=0.1,
            blur=0.3,
            blur_sigma=(0.5, 6.0),
            edits=0.25,
        ),
    ),
    resize="squash",
    held_size=320,
    backbone="efficientnet-lite0",
    pooling="levels",
    latent_start="whitened",
    frozen_stages=6,
    batch_statistics=False,
    head_rate=30.0,
    head_hidden=512,
    head_layers=2,
    code_share=0.5,
    code_temperature=0.07,
    optimizer="adam",
    base_lr=3e-5,
    weight_decay=1e-4,
    warmup_epochs=0.1,
    epochs=1,
    batch_size=128,
    temperature=0.1,
    pixel_mean=(PIXEL_MEAN,) * 3,
    pixel_std=(PIXEL_STD,) * 3,
)

ENTRIES = (
    Entry(
        _RECIPE,
        family="starter",
        reproduces="nothing of the paper: its latent and objective for photographs",
        command="stochcon train starter --images my-photos/ --monitor other-photos/",
        cost="24 images/s on two cores of an AMD EPYC (Zen 3)",
        expected="from EfficientNet-Lite0's weights: recall@1 of hard edits 0.903, TPR at 1e-4 0.851",
        weights=SHIPPED_MODELS / "starter.onnx",
    ),
)
