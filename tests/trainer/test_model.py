import dataclasses

import pytest
import torch
from torch.nn import functional as F

from trainer.latent import gumbel_bernoulli
from trainer.model import StochCon
from trainer.recipe import Recipe, View


@pytest.fixture
def multi_crop(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, local_views=(View(size=8),) * 3)


def some_views(recipe: Recipe, count: int = 6) -> tuple[list, list]:
    generator = torch.Generator().manual_seed(0)
    views = [torch.rand(count, 3, view.size, view.size, generator=generator) for view in recipe.views]
    noise = [
        torch.rand(count, recipe.num_bits, generator=generator) if i in recipe.stochastic_views else None
        for i in range(len(views))
    ]
    return views, noise


@pytest.mark.parametrize(
    ("changes", "stochastic", "pairs"),
    [
        ({}, {1}, {(0, 1)}),
        ({"latent": "none"}, set(), {(0, 1)}),
        ({"local_views": (View(8),) * 2}, {0, 1}, {(0, 2), (0, 3), (1, 2), (1, 3)}),
        ({"local_views": (View(8),) * 2, "placement": "bottom"}, {2, 3}, {(0, 2), (0, 3), (1, 2), (1, 3)}),
        ({"local_views": (View(8),), "latent": "none"}, set(), {(0, 2), (1, 2)}),
    ],
)
def test_the_latent_is_where_the_recipe_puts_it(recipe, changes, stochastic, pairs) -> None:
    changed = dataclasses.replace(recipe, **changes)
    assert changed.stochastic_views == stochastic
    assert set(changed.view_pairs) == pairs
    for i, j in pairs:  # one deterministic and one stochastic view, unless there is no latent
        assert changed.latent == "none" or (i in stochastic) != (j in stochastic)


@pytest.mark.parametrize("hard", [False, True])
def test_forward_is_algorithm_1(multi_crop: Recipe, hard: bool) -> None:
    model = StochCon(
        dataclasses.replace(multi_crop, hard=hard)
    ).eval()  # without batch statistics each part can be computed apart
    views, noise = some_views(multi_crop)
    branches = model(views, noise, 0.5)
    for i, (view, u) in enumerate(zip(views, noise, strict=True)):
        h = model.backbone((view - model.mean) / model.std)
        if u is not None:
            z = gumbel_bernoulli(F.linear(h, model.projector.weight, model.projector.bias), u, 0.5, hard)
            h = F.linear(z, model.decoder.weight, model.decoder.bias)
        torch.testing.assert_close(branches.vectors[i], model.head(h), atol=1e-5, rtol=1e-4)
    assert len(branches.logits) == 2
    assert branches.logits[0].dtype == torch.float32


def test_one_pass_per_resolution_and_one_of_the_head(multi_crop: Recipe) -> None:
    model = StochCon(multi_crop)
    passes: dict[str, list[int]] = {"backbone": [], "head": []}
    model.backbone.register_forward_hook(lambda _, inputs, __: passes["backbone"].append(len(inputs[0])))
    model.head.register_forward_hook(lambda _, inputs, __: passes["head"].append(len(inputs[0])))
    model(*some_views(multi_crop), 1.0)
    assert passes == {"backbone": [12, 18], "head": [30]}


@pytest.mark.parametrize("hard", [False, True])
def test_the_backbone_learns_through_the_bits(recipe: Recipe, hard: bool) -> None:
    model = StochCon(dataclasses.replace(recipe, hard=hard))
    views, noise = some_views(recipe)
    # The latent itself does not reach the loss through the deterministic branch.
    model(views, noise, 1.0).vectors[1].square().sum().backward()
    assert model.projector.weight.grad.abs().sum() > 0
    assert model.decoder.weight.grad.abs().sum() > 0
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def test_half_of_the_bits_are_active_at_the_start(recipe: Recipe) -> None:
    torch.manual_seed(0)
    model = StochCon(dataclasses.replace(recipe, num_bits=2048)).eval()
    logits = model.logits(model.features(torch.rand(32, 3, 16, 16)))
    assert 0.4 < (logits >= 0).float().mean() < 0.6


def test_simclr_has_no_latent_parameters(recipe: Recipe) -> None:
    names = dict(StochCon(dataclasses.replace(recipe, latent="none")).named_children())
    assert set(names) == {"backbone", "head"}


def test_a_recipe_survives_its_plain_form(multi_crop: Recipe) -> None:
    assert Recipe.from_dict(multi_crop.to_dict()) == multi_crop


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_bits": 60}, "num_bits is 60"),
        ({"global_views": (View(8),)}, "has 1 views"),
        ({"global_views": (View(8),) * 3}, "exactly two global"),
        ({"batch_size": 1}, "--batch-size of at least 2"),
    ],
)
def test_wrong_recipes_are_refused(recipe: Recipe, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(recipe, **changes)
