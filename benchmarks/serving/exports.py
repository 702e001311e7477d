"""Models that were never trained, as our exporter writes them: weights do not change what a network costs."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from trainer import checkpoint as checkpoints
from trainer.checkpoint import Checkpoint
from trainer.efficientnet import PIXEL_MEAN, PIXEL_STD
from trainer.export import export
from trainer.model import StochCon
from trainer.recipe import Recipe, View

SIDE = 224
NUM_BITS = 2048
_VIEW = View(SIDE)

RECIPES = {
    "resnet50": Recipe(name="resnet50", image_size=SIDE, global_views=(_VIEW, _VIEW), num_bits=NUM_BITS),
    "lite0": Recipe(
        name="lite0",
        image_size=SIDE,
        global_views=(_VIEW, _VIEW),
        backbone="efficientnet-lite0",
        num_bits=NUM_BITS,
        pixel_mean=(PIXEL_MEAN,) * 3,
        pixel_std=(PIXEL_STD,) * 3,
    ),
}


def random_export(name: str, folder: Path) -> Path:
    """The export of a network of `RECIPES` with random weights, made unless `folder` has it."""
    path = folder / f"random-{name}.onnx"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = StochCon(RECIPES[name])
    for module in model.modules():
        # Residual branches start at zero weight, and would be no work for a runtime that sees it.
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.9, 1.1)
    with TemporaryDirectory() as run:
        checkpoint = Checkpoint(
            recipe=RECIPES[name], step=1, model=model.state_dict(), optimizer={}, images="", classes=[]
        )
        checkpoints.save(Path(run), checkpoint)
        export(Path(run), path, name=f"random-{name}", data="none: random weights")
    return path
