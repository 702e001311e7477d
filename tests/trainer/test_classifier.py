import dataclasses

import numpy as np
import pytest
import torch

from contracts.codes import pack_logits
from tests.trainer.labelled_images import make_network
from trainer.classifier import Classifier, Encoded, latent_of, represent, width_of
from trainer.recipe import Recipe


def encoded(logits: torch.Tensor) -> Encoded:
    return Encoded(torch.zeros(len(logits), 128), logits)


def test_without_noise_z_is_the_probability_sharpened_by_a_temperature_of_a_tenth(recipe: Recipe) -> None:
    logits = torch.tensor([[-3.0, -0.05, 0.0, 0.1, 2.0]])
    expected = 1 / (1 + np.exp(-logits.numpy().astype(np.float64) / 0.1))
    np.testing.assert_allclose(represent(recipe, "z", encoded(logits)).numpy(), expected, rtol=1e-5)


def test_variates_of_z_fall_on_either_side_as_often_as_their_logit_says(recipe: Recipe) -> None:
    levels = torch.tensor([-2.0, -0.5, 0.0, 0.7, 3.0])
    noise = torch.rand(40_000, 5, generator=torch.Generator().manual_seed(0)).clamp(1e-6, 1 - 1e-6)
    variates = represent(recipe, "z", encoded(levels.expand(40_000, 5)), noise)
    deviation = 0.5 / 200  # of a share of 40,000
    expected = torch.sigmoid(levels)
    torch.testing.assert_close((variates >= 0.5).float().mean(0), expected, atol=4 * deviation, rtol=0)
    # Gumbel-Bernoulli variates at 0.1 are nearly bits, so their mean is nearly that share, too.
    torch.testing.assert_close(variates.mean(0), expected, atol=0.02, rtol=0)
    assert ((variates > 0.05) & (variates < 0.95)).float().mean() < 0.15


def test_bits_are_those_of_the_code_that_is_stored(recipe: Recipe) -> None:
    logits = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    logits[0, :4] = torch.tensor([0.0, -0.0, 1e-30, -1e-30])
    bits = represent(recipe, "bits", encoded(logits))
    stored = np.unpackbits(pack_logits(logits.numpy()), axis=1)
    np.testing.assert_array_equal(bits.numpy(), stored)


def test_bits_have_the_gradient_of_the_relaxed_z(recipe: Recipe) -> None:
    values, weights = torch.randn(4, 64), torch.randn(4, 64)
    gradients = []
    for on in ("bits", "z"):
        logits = values.clone().requires_grad_()
        (represent(recipe, on, encoded(logits)) * weights).sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0


def test_the_z_of_a_gaussian_latent_is_its_mean_whatever_the_noise(recipe: Recipe) -> None:
    network = make_network(dataclasses.replace(recipe, latent="gaussian")).eval()
    h = torch.rand(3, 128)
    with torch.no_grad():
        expected = (h @ network.projector.weight.T + network.projector.bias)[:, :64]
        seen = Encoded(h, latent_of(network, h))
        for noise in (None, torch.rand(3, 64)):
            read = represent(network.recipe, "z", seen, noise)
            torch.testing.assert_close(read, expected, atol=1e-6, rtol=1e-5)


def test_h_is_read_as_it_is(recipe: Recipe) -> None:
    network = make_network(dataclasses.replace(recipe, latent="none"))
    h = torch.rand(3, 128)
    assert represent(network.recipe, "h", Encoded(h, latent_of(network, h))) is h
    assert width_of(network, "h") == 128
    assert width_of(network, "z") == 64


@pytest.mark.parametrize("on", ["h", "z", "bits"])
def test_a_classifier_takes_over_backbone_and_latent_and_keeps_its_own_layer(recipe: Recipe, on: str) -> None:
    network = make_network(recipe).eval()
    classifier = Classifier(recipe, on, 3).eval()
    layer = classifier.head.weight.clone()
    classifier.adopt(network)
    assert torch.equal(classifier.head.weight, layer)
    images = torch.rand(5, 3, 16, 16)
    with torch.no_grad():
        h = network.features(images)
        read = represent(recipe, on, Encoded(h, network.logits(h)))
        torch.testing.assert_close(classifier(images), classifier.head(read))
    assert not any(name.startswith("decoder") for name in classifier.state_dict())


def test_adopting_copies_weights_and_shares_none(recipe: Recipe) -> None:
    network, classifier = make_network(recipe), Classifier(recipe, "z", 3)
    classifier.adopt(network)
    before = network.projector.weight.clone()
    with torch.no_grad():
        classifier.projector.weight.add_(1)
    assert torch.equal(network.projector.weight, before)
