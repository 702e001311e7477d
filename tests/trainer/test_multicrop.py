import dataclasses

import torch

from trainer.dataset import Batch
from trainer.model import StochCon
from trainer.multicrop import dino_views
from trainer.ranks import OneProcess
from trainer.recipe import Recipe
from trainer.step import make_views, take_gradients


def test_dino_has_two_global_and_eight_local_views() -> None:
    global_views, local_views = dino_views(224, 96)
    assert [view.size for view in global_views] == [224, 224]
    assert [view.size for view in local_views] == [96] * 8
    # The table of facebookresearch/dino's DataAugmentationDINO.
    assert [view.blur for view in global_views] == [1.0, 0.1]
    assert [view.solarize for view in global_views] == [0.0, 0.2]
    assert local_views[0].blur == 0.5
    assert global_views[0].blur_sigma == (0.1, 2.0)
    assert dino_views(56, 24)[0][0].blur_sigma == (0.025, 0.5)


def test_a_step_with_all_ten_views_compares_sixteen_pairs(recipe: Recipe) -> None:
    global_views, local_views = dino_views(16, 8)
    recipe = dataclasses.replace(recipe, global_views=global_views, local_views=local_views)
    assert len(recipe.view_pairs) == 16
    images = torch.randint(
        0, 256, (4, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    batch = Batch(torch.arange(4), images, torch.ones(4))
    views = make_views(recipe, batch, 0, "cpu")
    assert [tuple(view.images.shape[1:]) for view in views] == [(3, 16, 16)] * 2 + [(3, 8, 8)] * 8
    assert [view.noise is not None for view in views] == [True] * 2 + [False] * 8
    model = StochCon(recipe)
    take_gradients(model, [batch], 0, 1.0, OneProcess())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
