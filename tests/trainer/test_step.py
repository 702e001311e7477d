import copy
import dataclasses

import pytest
import torch

from tests.trainer.one_step import cut, direct, some_batch
from trainer.dataset import Batch
from trainer.model import StochCon
from trainer.randomness import keys, uniform
from trainer.ranks import OneProcess
from trainer.recipe import Recipe, View
from trainer.step import autocast, make_views, take_gradients


@pytest.mark.parametrize(
    ("latent", "code_share"), [("bernoulli", 0.0), ("gaussian", 0.0), ("none", 0.0), ("bernoulli", 0.5)]
)
def test_gradient_caching_gives_the_gradients_of_the_direct_computation(
    recipe: Recipe, latent: str, code_share: float
) -> None:
    recipe = dataclasses.replace(recipe, latent=latent, local_views=(View(8),) * 2, code_share=code_share)
    torch.manual_seed(0)
    model = StochCon(recipe)
    other = copy.deepcopy(model)
    chunks = cut(some_batch(15), 6, 5, 4)
    loss = direct(model, chunks, None)
    found = take_gradients(other, chunks, 7, 0.5, OneProcess())
    assert found.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    for (name, ours), theirs in zip(other.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4, msg=name)
    for name, buffer in other.named_buffers():  # running statistics are followed once, not twice
        torch.testing.assert_close(buffer, dict(model.named_buffers())[name], msg=name)
    assert all(module.track_running_stats for module in other.modules() if hasattr(module, "running_mean"))


def test_the_chunks_are_batchnorms_groups_and_matter(recipe: Recipe) -> None:
    torch.manual_seed(0)
    model = StochCon(recipe)
    whole = take_gradients(copy.deepcopy(model), [some_batch(12)], 7, 0.5, OneProcess()).loss
    cached = take_gradients(copy.deepcopy(model), cut(some_batch(12), 6, 6), 7, 0.5, OneProcess()).loss
    assert whole.item() != pytest.approx(cached.item(), rel=1e-4)


def test_supervised_gradients_are_those_of_cross_entropy_over_all_chunks(recipe: Recipe) -> None:
    recipe = dataclasses.replace(recipe, objective="supervised", global_views=(View(16),), latent_dropout=0.5)
    torch.manual_seed(0)
    model = StochCon(recipe, num_classes=3)
    other = copy.deepcopy(model)
    chunks, labels = cut(some_batch(10), 6, 4), torch.arange(10) % 3
    loss = direct(model, chunks, labels)
    found = take_gradients(other, chunks, 7, 0.5, OneProcess(), labels.split([6, 4]))
    assert found.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    for (name, ours), theirs in zip(other.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_samples_drop_out_of_the_latent_with_the_recipes_probability(recipe: Recipe) -> None:
    recipe = dataclasses.replace(
        recipe, objective="supervised", global_views=(View(16),), latent_dropout=0.25
    )
    (view,) = make_views(recipe, some_batch(4000), 0, "cpu")
    assert view.bypass.shape == (4000, 1)
    assert view.bypass.float().mean().item() == pytest.approx(0.25, abs=0.03)
    # Independent of the latent's noise: neither is the other's number again.
    key = keys(recipe.seed, 0, torch.arange(100, 4100), 0)
    assert torch.equal(view.noise, uniform(key, recipe.num_bits, stream=1))
    assert abs(torch.corrcoef(torch.stack([view.bypass[:, 0].float(), view.noise[:, 0]]))[0, 1]) < 0.05


@pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_matrix_products_have_the_precision_of_the_recipe(
    recipe: Recipe, precision: str, kind: object
) -> None:
    with autocast(dataclasses.replace(recipe, precision=precision), "cpu"):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == kind


def test_views_and_noise_do_not_depend_on_how_a_batch_is_split(recipe: Recipe) -> None:
    recipe = dataclasses.replace(recipe, local_views=(View(8),))
    images = torch.randint(
        0, 256, (6, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    whole = Batch(torch.tensor([4, 8, 15, 16, 23, 42]), images, torch.ones(6))
    half = Batch(whole.samples[3:], images[3:], torch.ones(3))
    of_whole, of_half = make_views(recipe, whole, 9, "cpu"), make_views(recipe, half, 9, "cpu")
    for a, b in zip(of_whole, of_half, strict=True):
        torch.testing.assert_close(a.images[3:], b.images, atol=1e-6, rtol=0)
        assert (a.noise is None) == (b.noise is None)
        assert a.noise is None or torch.equal(a.noise[3:], b.noise)
    assert not torch.equal(of_whole[0].noise, of_whole[1].noise)
