import copy
import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.tiny_images import make_png, write_parquet
from tests.trainer.labelled_images import (
    NUM_BITS,
    Adam,
    augmented,
    make_network,
    pixels_of,
    plain_png,
    write_labelled,
    write_numbered,
)
from trainer.probe import ProbeSettings, probe
from trainer.randomness import keys, uniform
from trainer.recipe import Recipe
from trainer.sources import Source, open_source
from trainer.targets import Classification, Regression

LABELS = [i % 3 if i % 5 else -1 for i in range(50)]
"""40 labelled images among others: two batches of 16 an epoch, and some left over."""

SETTINGS = ProbeSettings(epochs=3, batch_size=16, seed=5)


class Recorded(Classification):
    """Keeps what the layers make of the held-out images."""

    def __init__(self, train: Source, test: Source) -> None:
        super().__init__(train, test)
        self.outputs: list[Tensor] = []

    def scores(self, outputs: Tensor, samples: Tensor) -> dict[str, float]:
        self.outputs.append(outputs)
        return super().scores(outputs, samples)


@pytest.fixture
def train(tmp_path: Path) -> Source:
    return open_source([write_labelled(tmp_path / "train.parquet", LABELS)])


@pytest.fixture
def test(tmp_path: Path) -> Source:
    return open_source([write_labelled(tmp_path / "test.parquet", [2, -1, 0, 1, 1], first_seed=500)])


def naive(network: nn.Module, train: Source, test: Source, latent: str) -> list[dict[str, Tensor]]:
    """Outputs on the held-out images after each epoch: A.3 in plain torch, one representation at a time."""
    network.eval()

    def read(images: Tensor, on: str, u: Tensor | None) -> Tensor:
        with torch.no_grad():
            h = network.features(images)
            if on == "h":
                return h
            latents = network.projector(h)
        if latent == "gaussian":
            return latents[:, :NUM_BITS]
        if on == "bits":
            return (latents >= 0).float()
        return torch.sigmoid((latents + (0 if u is None else torch.log(u / (1 - u)))) / 0.1)

    held_out = [0, 2, 3, 4]
    found: list[dict[str, Tensor]] = [{}, {}, {}]
    representations = {"bernoulli": ("h", "z", "bits"), "gaussian": ("h", "z"), "none": ("h",)}[latent]
    for on in representations:
        torch.manual_seed(5)
        layer = nn.Linear(128 if on == "h" else NUM_BITS, 3)
        adam = Adam(list(layer.parameters()))
        for step in range(6):
            epoch, position = divmod(step, 2)
            order = [int(i) for i in train.epoch_order(5, epoch) if LABELS[i] >= 0]
            numbers = order[16 * position : 16 * position + 16]
            u = uniform(keys(5, step, torch.tensor(numbers), 0), NUM_BITS, stream=1)
            outputs = layer(read(augmented(train, numbers, 5, step), on, u))
            F.cross_entropy(outputs, torch.tensor([LABELS[i] for i in numbers])).backward()
            adam.step(3e-4 if step < 0.8 * 6 else 3e-5)
            if position == 1:
                u = uniform(keys(5, step, torch.tensor(held_out), 1), NUM_BITS, stream=1)
                with torch.no_grad():
                    found[epoch][on] = layer(read(pixels_of(test, held_out), on, None))
                    if on == "z" and latent == "bernoulli":
                        found[epoch]["z_sampled"] = layer(read(pixels_of(test, held_out), on, u))
    return found


@pytest.mark.parametrize("latent", ["bernoulli", "gaussian", "none"])
def test_the_layers_are_those_of_appendix_a3_step_by_step(
    recipe: Recipe, train: Source, test: Source, latent: Literal["bernoulli", "gaussian", "none"]
) -> None:
    """In training z is sampled anew for each image of each step; at test nothing is, but for z_sampled."""
    network = make_network(dataclasses.replace(recipe, latent=latent))
    expected = naive(copy.deepcopy(network), train, test, latent)
    task = Recorded(train, test)
    scores = probe(network, train, test, task, SETTINGS, "fp32").scores
    recorded = iter(task.outputs)
    for epoch in range(3):
        assert set(scores[epoch]) == set(expected[epoch])
        for on in scores[epoch]:
            torch.testing.assert_close(next(recorded), expected[epoch][on], atol=2e-5, rtol=1e-4, msg=on)
    untrained = nn.Linear(128, 3)
    torch.manual_seed(5)
    untrained.reset_parameters()
    network.eval()
    with torch.no_grad():
        start = untrained(network.features(pixels_of(test, [0, 2, 3, 4])))
    assert (expected[2]["h"] - start).abs().max() > 1e-3  # or nothing would have been compared


@pytest.mark.parametrize("training", [False, True])
def test_every_weight_and_buffer_of_the_network_stays_bit_for_bit(
    recipe: Recipe, train: Source, test: Source, training: bool
) -> None:
    """Also of one that was left in training mode, whose BatchNorm would follow every batch."""
    network = make_network(recipe).train(training)
    before = copy.deepcopy(network.state_dict())
    scores = probe(network, train, test, Classification(train, test), SETTINGS, "fp32").scores
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert any(name.endswith("num_batches_tracked") for name in before)
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert network.training == training
    expected = make_network(recipe).eval()
    again = probe(expected, train, test, Classification(train, test), SETTINGS, "fp32").scores
    assert scores == again


def test_a_target_that_is_linear_in_what_a_layer_reads_is_recovered(recipe: Recipe, tmp_path: Path) -> None:
    """Greys are plain, so that no crop changes the answer; every third image lacks its number."""
    network = make_network(dataclasses.replace(recipe, latent="none")).eval()
    greys = np.random.default_rng(1).integers(0, 256, 96 + 48).tolist()
    images = [plain_png((grey, grey, grey)) for grey in greys]
    with torch.no_grad():
        h = network.features(torch.tensor(greys).view(-1, 1, 1, 1).expand(-1, 3, 16, 16) / 255)
    axis = torch.linalg.svd(h[:96] - h[:96].mean(0)).Vh[0]
    values = [None if i % 3 == 0 else value for i, value in enumerate((1000 + 50 * h @ axis).tolist())]
    column = pa.array(values, pa.float64())
    train = open_source([write_numbered(tmp_path / "a.parquet", images[:96], {"x": column[:96]})])
    test = open_source([write_numbered(tmp_path / "b.parquet", images[96:], {"x": column[96:]})])
    task = Regression(train, test, "x")
    found = probe(network, train, test, task, ProbeSettings(45, 8, 0), "fp32")
    assert found.num_queries == 32
    assert found.scores[-1]["h"]["r2"] > 0.98
    assert found.scores[-1]["h"]["mae"] < 0.15 * task.baseline_mae


def test_broken_images_are_left_out_and_named(recipe: Recipe, train: Source, tmp_path: Path) -> None:
    images = [make_png(i % 3, i) for i in range(20)] + [b"text"] * 2
    broken = open_source([write_parquet(tmp_path / "broken.parquet", images, [i % 3 for i in range(22)])])
    network = make_network(recipe)
    settings = ProbeSettings(1, 22)
    found = probe(network, broken, train, Classification(broken, train), settings, "fp32")
    assert found.num_queries == 40
    assert [text.partition(":")[0] for text in sorted(found.broken)] == [
        "broken.parquet, row 20",
        "broken.parquet, row 21",
    ]
    found = probe(network, train, broken, Classification(train, broken), SETTINGS, "fp32")
    assert found.num_queries == 20
    assert len(found.broken) == 2


def test_images_of_which_none_can_be_read_are_an_error(recipe: Recipe, test: Source, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "broken.parquet", [b"text"] * 17, [0] * 17)
    broken, network = open_source([path]), make_network(recipe)
    # One image of the 17 fills no batch, and so is never looked at.
    with pytest.raises(ValueError, match=r"no image can be read; the first: broken\.parquet, row \d+: "):
        probe(network, broken, test, Classification(broken, test), ProbeSettings(1, 16), "fp32")
    with pytest.raises(ValueError, match="none of the 17 labelled images can be read"):
        probe(network, test, broken, Classification(test, broken), ProbeSettings(1, 2), "fp32")


def test_weights_that_are_not_finite_stop_a_probe(recipe: Recipe, train: Source, test: Source) -> None:
    network = make_network(recipe)
    with torch.no_grad():
        network.backbone.conv1.weight[0] = float("nan")
    with pytest.raises(FloatingPointError, match="the loss is nan at step 1: the run's weights"):
        probe(network, train, test, Classification(train, test), SETTINGS, "fp32")
