"""ImageNet-1k with ResNet-50 at the paper's settings: batch 4096, LARS, 2 global and 8 local views.

    torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:PORT --no-python \
        stochcon train imagenet-resnet50-bernoulli --images imagenet-train/ --device cuda

The paper gives no number of epochs, learning rate or InfoNCE temperature: learning rate, decay and
temperature are google-research/simclr's, the epochs DINO's for ResNet-50. Cost: not measured.
"""

from trainer.catalogue import systems
from trainer.multicrop import dino_views
from trainer.recipe import Recipe, View

_GLOBAL, _LOCAL = dino_views(global_size=224, local_size=96)

BASE = Recipe(
    name="imagenet-resnet50",
    image_size=224,
    global_views=_GLOBAL,
    local_views=_LOCAL,
    depth=50,
    epochs=300,
    base_lr=0.3,
    temperature=0.1,
)

ENTRIES = systems(
    BASE,
    View(size=224, jitter=0, grey=0),
    command="torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:PORT "
    "--no-python stochcon train {name} --images imagenet-train/ --monitor imagenet-val/ --device cuda",
    cost="not measured; many GPUs",
    expected={
        "bernoulli": "paper: 77.49 fine-tuned, 67.00 frozen",
        "simclr": "paper: 76.37 fine-tuned (Figure 5 left: no trial does better), 71.34 frozen",
        "supervised": "paper: 76.13",
        "gaussian": "left out in the paper",
    },
    figures={"simclr": "Figure 5 left when fine-tuned"},
    ablations=False,
)
