import dataclasses

import torch
from torch import Tensor, nn

from trainer import held_out
from trainer.classifier import Encoded
from trainer.held_out import score
from trainer.randomness import keys, uniform
from trainer.recipe import Recipe


class Told:
    """A task that tells the mean of what it is given, and of which images."""

    def scores(self, outputs: Tensor, samples: Tensor) -> dict[str, float]:
        return {"mean": float(outputs.double().mean()), "samples": samples.tolist()}


def test_each_layer_is_measured_on_what_it_reads_and_z_once_more_on_variates(recipe: Recipe) -> None:
    """More images than are measured at a time."""
    count = 2 * held_out._ROWS + 7
    torch.manual_seed(0)
    encoded = Encoded(torch.rand(count, 128), torch.randn(count, 64))
    numbers = torch.randperm(count)
    layers = {"h": nn.Linear(128, 1), "z": nn.Linear(64, 1), "bits": nn.Linear(64, 1)}
    found = score(recipe, layers, Told(), encoded, numbers, seed=3, step=8)
    assert set(found) == {"h", "z", "bits", "z_sampled"}
    u = uniform(keys(3, 8, numbers, 1), 64, stream=1)
    read = {
        "h": encoded.h,
        "z": torch.sigmoid(encoded.latent / 0.1),
        "bits": (encoded.latent >= 0).float(),
        "z_sampled": torch.sigmoid((encoded.latent + torch.log(u / (1 - u))) / 0.1),
    }
    for name, inputs in read.items():
        expected = float(layers[name.removesuffix("_sampled")](inputs).detach().double().mean())
        assert abs(found[name]["mean"] - expected) < 1e-5, name
        assert found[name]["samples"] == numbers.tolist()


def test_nothing_is_sampled_of_a_gaussian_latent_or_of_bits_alone(recipe: Recipe) -> None:
    encoded = Encoded(torch.rand(5, 128), torch.randn(5, 64))
    gaussian = dataclasses.replace(recipe, latent="gaussian")
    assert set(score(gaussian, {"z": nn.Linear(64, 1)}, Told(), encoded, torch.arange(5), 0, 0)) == {"z"}
    assert set(score(recipe, {"bits": nn.Linear(64, 1)}, Told(), encoded, torch.arange(5), 0, 0)) == {"bits"}
