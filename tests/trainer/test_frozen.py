import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_images import make_png, write_parquet
from tests.trainer.labelled_images import make_network, pixels_of
from trainer.dataset import Dataset
from trainer.frozen import FrozenEncoder
from trainer.recipe import Recipe
from trainer.sources import open_source


def test_images_are_encoded_by_running_statistics_whatever_their_company(recipe: Recipe) -> None:
    network = make_network(recipe)
    reference = copy.deepcopy(network).eval()
    frozen = FrozenEncoder(network.train(), "fp32")
    images = torch.rand(6, 3, 16, 16)
    with torch.no_grad():
        h = reference.features(images)
        logits = reference.logits(h)
    for rows in (slice(0, 6), slice(2, 3), slice(4, 6)):
        found = frozen(images[rows])
        torch.testing.assert_close(found.h, h[rows], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.latent, logits[rows], atol=1e-5, rtol=1e-4)


def test_encoding_changes_neither_the_network_nor_the_copy(recipe: Recipe) -> None:
    network = make_network(recipe).train()
    before = copy.deepcopy(network.state_dict())
    frozen = FrozenEncoder(network, "fp32")
    images = torch.rand(6, 3, 16, 16)
    first = frozen(images)
    for _ in range(3):
        frozen(torch.rand(6, 3, 16, 16))
    again = frozen(images)
    assert torch.equal(first.h, again.h)
    assert torch.equal(first.latent, again.latent)
    assert not first.h.requires_grad
    assert not first.latent.requires_grad
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert network.training


def test_training_the_network_on_leaves_the_copy_as_it_was(recipe: Recipe) -> None:
    network = make_network(recipe)
    frozen = FrozenEncoder(network, "fp32")
    images = torch.rand(2, 3, 16, 16)
    first = frozen(images)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert torch.equal(frozen(images).h, first.h)


def test_bf16_is_close_and_latents_stay_float32(recipe: Recipe) -> None:
    network = make_network(recipe)
    images = torch.rand(4, 3, 16, 16)
    exact, rough = FrozenEncoder(network, "fp32")(images), FrozenEncoder(network, "bf16")(images)
    assert rough.h.dtype == rough.latent.dtype == torch.float32
    assert not torch.equal(rough.h, exact.h)
    torch.testing.assert_close(rough.h, exact.h, atol=0.1, rtol=0.1)
    h = rough.h
    with torch.no_grad():
        torch.testing.assert_close(rough.latent, network.logits(h))


def test_a_source_is_encoded_by_number_without_its_broken_images(recipe: Recipe, tmp_path: Path) -> None:
    images = [make_png(i % 3, i) for i in range(6)]
    source = open_source([write_parquet(tmp_path / "some.parquet", [*images[:2], b"text", *images[2:]])])
    frozen = FrozenEncoder(make_network(recipe), "fp32")
    with Dataset(source, recipe.preprocessing) as dataset:
        encoded, numbers = frozen.encode(dataset, np.array([5, 2, 0]))
        assert numbers.tolist() == [5, 0]
        expected = frozen(pixels_of(source, [5, 0]))
        torch.testing.assert_close(encoded.h, expected.h)
        torch.testing.assert_close(encoded.latent, expected.latent)
        with pytest.raises(ValueError, match="none of the 1 labelled images can be read"):
            frozen.encode(dataset, np.array([2]))
