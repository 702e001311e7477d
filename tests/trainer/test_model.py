import dataclasses

import pytest
import torch
from torch.nn import functional as F

from trainer.latent import gumbel_bernoulli
from trainer.model import StochCon, ViewInput, sign
from trainer.recipe import Recipe, View


@pytest.fixture
def multi_crop(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, local_views=(View(size=8),) * 3)


def some_views(recipe: Recipe, count: int = 6) -> list[ViewInput]:
    generator = torch.Generator().manual_seed(0)
    return [
        ViewInput(
            torch.rand(count, 3, view.size, view.size, generator=generator),
            torch.rand(count, recipe.num_bits, generator=generator) if i in recipe.stochastic_views else None,
        )
        for i, view in enumerate(recipe.views)
    ]


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
    views = some_views(multi_crop)
    branches = model(views, 0.5)
    for i, view in enumerate(views):
        h = model.backbone((view.images - model.mean) / model.std)
        if view.noise is not None:
            logits = F.linear(h, model.projector.weight, model.projector.bias)
            z = gumbel_bernoulli(logits, view.noise, 0.5, hard)
            h = F.linear(z, model.decoder.weight, model.decoder.bias)
        torch.testing.assert_close(branches.vectors[i], model.head(h), atol=1e-5, rtol=1e-4)
    assert len(branches.parameters) == 2
    assert branches.parameters[0].dtype == torch.float32


def test_one_pass_per_resolution_and_one_of_the_head(multi_crop: Recipe) -> None:
    model = StochCon(multi_crop)
    passes: dict[str, list[int]] = {"backbone": [], "head": []}
    model.backbone.register_forward_hook(lambda _, inputs, __: passes["backbone"].append(len(inputs[0])))
    model.head.register_forward_hook(lambda _, inputs, __: passes["head"].append(len(inputs[0])))
    model(some_views(multi_crop), 1.0)
    assert passes == {"backbone": [12, 18], "head": [30]}


@pytest.mark.parametrize("hard", [False, True])
def test_the_backbone_learns_through_the_bits(recipe: Recipe, hard: bool) -> None:
    model = StochCon(dataclasses.replace(recipe, hard=hard))
    # The latent itself does not reach the loss through the deterministic branch.
    model(some_views(recipe), 1.0).vectors[1].square().sum().backward()
    assert model.projector.weight.grad.abs().sum() > 0
    assert model.decoder.weight.grad.abs().sum() > 0
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("placement", ["top", "bottom"])
def test_a_gaussian_takes_its_mean_from_its_own_view_and_its_variance_from_the_opposing_ones(
    multi_crop: Recipe, placement: str
) -> None:
    recipe = dataclasses.replace(multi_crop, latent="gaussian", placement=placement)
    model = StochCon(recipe).eval()
    views = some_views(recipe)
    branches = model(views, 1.0)
    h = [model.features(view.images) for view in views]
    means = [F.linear(x, model.projector.weight[:64], model.projector.bias[:64]) for x in h]
    variances = [
        torch.log1p(torch.exp(F.linear(x, model.projector.weight[64:], model.projector.bias[64:]))) for x in h
    ]
    stochastic = [0, 1] if placement == "top" else [2, 3, 4]
    opposing = [i for i in range(5) if i not in stochastic]
    mean_variance = sum(variances[i] for i in opposing) / len(opposing)
    for place, i in enumerate(stochastic):
        torch.testing.assert_close(branches.parameters[place], mean_variance, atol=1e-6, rtol=1e-5)
        normal = torch.distributions.Normal(means[i], mean_variance.sqrt())
        z = normal.icdf(views[i].noise)  # the variate by another way
        v = model.head(F.linear(z, model.decoder.weight, model.decoder.bias))
        torch.testing.assert_close(branches.vectors[i], v, atol=1e-4, rtol=1e-4)


def test_the_deviation_does_not_depend_on_the_views_own_features(multi_crop: Recipe) -> None:
    """d sigma / d h' = 0 and d sigma / d h != 0: what keeps the variance from collapsing (section 4.2)."""
    recipe = dataclasses.replace(multi_crop, latent="gaussian")
    for variance, from_own, from_opposing in (("opposing", False, True), ("own", True, False)):
        model = StochCon(dataclasses.replace(recipe, variance=variance)).eval()
        views = some_views(recipe)
        for view in views:
            view.images.requires_grad_()
        model(views, 1.0).parameters[0].sqrt().sum().backward()
        reached = [view.images.grad is not None and bool(view.images.grad.abs().sum() > 0) for view in views]
        assert reached == [from_own, False, *[from_opposing] * 3]


def test_a_supervised_latent_is_bypassed_by_the_samples_that_drop_out(recipe: Recipe) -> None:
    recipe = dataclasses.replace(
        recipe, objective="supervised", global_views=(View(16),), latent_dropout=0.5, hard=True
    )
    model = StochCon(recipe, num_classes=3).eval()
    (view,) = some_views(recipe)
    bypass = torch.tensor([[True], [False]] * 3)
    found = model([dataclasses.replace(view, bypass=bypass)], 0.3).vectors[0]
    h = model.features(view.images)
    bits = (torch.log(view.noise) - torch.log1p(-view.noise) + model.logits(h) >= 0).float()
    torch.testing.assert_close(found[::2], model.head(h)[::2])
    torch.testing.assert_close(found[1::2], model.head(model.decoder(bits))[1::2])
    assert found.shape == (6, 3)
    mean = model.class_logits(h)  # without sampling, the bits are those of the codes
    torch.testing.assert_close(mean, model.head(model.decoder((model.logits(h) >= 0).float())))


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
        ({"width": 8}, "width is 8: it must be at least 16"),
        ({"global_views": (View(8),)}, "has 1 views"),
        ({"global_views": (View(8),) * 3}, "exactly two global"),
        ({"batch_size": 1}, "--batch-size of at least 2"),
        ({"chunk_size": 1}, "--chunk-size from 2 to 16"),
        ({"chunk_size": 17}, "--chunk-size from 2 to 16"),
        ({"objective": "supervised"}, "exactly one view"),
        ({"objective": "supervised", "global_views": (View(8),), "latent": "gaussian"}, "only be Bernoulli"),
        ({"latent_dropout": 0.5}, "only a supervised latent"),
    ],
)
def test_wrong_recipes_are_refused(recipe: Recipe, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(recipe, **changes)


def test_codes_are_signs_with_the_gradient_of_tanh() -> None:
    logits = torch.tensor([-2.0, -0.0, 0.5], requires_grad=True)
    codes = sign(logits)
    assert codes.tolist() == [-1.0, 1.0, 1.0]
    codes.sum().backward()
    torch.testing.assert_close(logits.grad, 1 - torch.tanh(logits.detach()) ** 2)


def test_every_view_has_a_code_where_the_recipe_has_a_loss_of_them(multi_crop: Recipe) -> None:
    model = StochCon(dataclasses.replace(multi_crop, code_share=0.5)).eval()
    views = some_views(model.recipe)
    branches = model(views, 0.5)
    assert len(branches.codes) == len(views)
    for view, code in zip(views, branches.codes, strict=True):
        assert torch.equal(code > 0, model.logits(model.features(view.images)) >= 0)
    assert StochCon(multi_crop)(some_views(multi_crop), 0.5).codes == []


@pytest.mark.parametrize("backbone", ["resnet", "efficientnet-lite0"])
def test_stages_hold_every_parameter_of_a_backbone_once(recipe: Recipe, backbone: str) -> None:
    network = StochCon(dataclasses.replace(recipe, backbone=backbone)).backbone
    found = [p for stage in network.stages for module in stage for p in module.parameters()]
    assert len(found) == len({id(p) for p in found})
    assert {id(p) for p in found} == {id(p) for p in network.parameters()}


@pytest.mark.parametrize(
    ("backbone", "num_features"), [("resnet", 128 + 64 + 32), ("efficientnet-lite0", 1584)]
)
def test_levels_reach_the_latent(recipe: Recipe, backbone: str, num_features: int) -> None:
    changed = dataclasses.replace(recipe, backbone=backbone, pooling="levels")
    model = StochCon(changed).eval()
    h = model.features(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert h.shape == (2, num_features)
    assert model.logits(h).shape == (2, recipe.num_bits)


def test_frozen_stages_stay_as_they_are_and_the_rest_learns(recipe: Recipe) -> None:
    model = StochCon(dataclasses.replace(recipe, frozen_stages=2)).train()
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    sum(v.square().sum() for v in model(some_views(recipe), 0.5).vectors).backward()
    for name, tensor in model.backbone.state_dict().items():
        is_frozen = name.startswith(("conv1", "bn1", "layer1", "layer2"))
        if "running" in name:
            assert torch.equal(tensor, before[name]) == is_frozen, name
    for name, parameter in model.backbone.named_parameters():
        assert (parameter.grad is None) == name.startswith(("conv1", "bn1", "layer1", "layer2")), name


def test_a_backbone_without_batch_statistics_keeps_its_own(recipe: Recipe) -> None:
    model = StochCon(dataclasses.replace(recipe, batch_statistics=False)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    views = some_views(recipe)
    model(views, 0.5)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("head.") for name in moved)
    one = model.features(views[0].images[:1])
    torch.testing.assert_close(one, model.features(views[0].images)[:1], atol=1e-5, rtol=1e-4)
