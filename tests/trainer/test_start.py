import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from contracts.codes import pack_logits
from tests.tiny_images import make_png, write_parquet
from tests.trainer.made_runs import make_run
from tests.trainer.rank_jobs import begin
from tests.trainer.two_ranks import TwoRanks
from trainer.dataset import Dataset
from trainer.export import export
from trainer.frozen import FrozenEncoder, to_unit
from trainer.initial_weights import Weights
from trainer.latent import gumbel_bernoulli
from trainer.model import StochCon
from trainer.ranks import OneProcess
from trainer.recipe import Recipe
from trainer.runs import load_run
from trainer.sources import open_source
from trainer.start import start
from trainer.train import train


@pytest.fixture
def given(recipe: Recipe, tmp_path: Path) -> Path:
    make_run(tmp_path / "given", recipe)
    return tmp_path / "given"


def from_weights(recipe: Recipe, given: Path) -> tuple[Recipe, Weights]:
    weights = Weights.read(given)
    return dataclasses.replace(recipe, initial_weights=weights.digest), weights


def test_a_run_starts_from_given_weights_and_goes_on_from_its_own(
    recipe: Recipe, given: Path, coloured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = open_source([coloured])
    still, weights = from_weights(dataclasses.replace(recipe, optimizer="adam", base_lr=1e-9), given)
    trained = train(still, source, tmp_path / "run", weights=weights).eval()
    for name, tensor in load_run(given).model.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(trained.state_dict()[name], tensor, atol=1e-6, rtol=0)
    assert f"starting from backbone, pi, rho, g of {given}" in capsys.readouterr().err
    train(still, source, tmp_path / "run", weights=weights)
    assert "starting" not in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"another recipe.*initial_weights"):
        train(recipe, source, tmp_path / "run")


def test_whitened_bits_are_signs_of_decorrelated_features(
    recipe: Recipe, given: Path, coloured: Path
) -> None:
    changed, _ = from_weights(dataclasses.replace(recipe, latent_start="whitened", num_bits=128), given)
    model = StochCon(changed)
    source = open_source([coloured])
    # Another width of pi than the file has, so that there is none to take.
    said = start(model, Weights.read(given), source, OneProcess())
    assert "pi starts from whitened features" in said
    with Dataset(source, recipe.preprocessing) as dataset:
        encoded = FrozenEncoder(model, "fp32").encode(dataset, np.arange(48))[0]
    h = encoded.h.double()
    centred = (h - h.mean(0)).numpy()
    # Principal components by the singular values of the data, where ours are of their covariance.
    _, s, axes = np.linalg.svd(centred, full_matrices=False)
    variances = s**2 / 47
    white = centred @ axes.T / np.sqrt(variances + 0.01 * variances[0])
    assert encoded.latent is not None
    found = encoded.latent.double().numpy()
    scale = found.std() / 2
    assert scale == pytest.approx(1, rel=1e-3)
    # A rotation keeps all products of two images.
    ratio = (found @ found.T) / (white @ white.T)
    np.testing.assert_allclose(ratio, np.full_like(ratio, np.median(ratio)), rtol=0.02)
    share = np.unpackbits(pack_logits(encoded.latent.numpy()), axis=1).mean()
    assert 0.3 < share < 0.7


def test_a_whitened_start_keeps_a_pi_that_is_given(recipe: Recipe, given: Path, coloured: Path) -> None:
    changed, weights = from_weights(dataclasses.replace(recipe, latent_start="whitened"), given)
    model = StochCon(changed)
    assert "pi starts" not in start(model, weights, open_source([coloured]), OneProcess())
    assert torch.equal(model.projector.weight, load_run(given).model.projector.weight)


def test_all_ranks_start_from_what_rank_0_made(
    two_ranks: TwoRanks, recipe: Recipe, given: Path, coloured: Path, tmp_path: Path
) -> None:
    others = write_parquet(tmp_path / "others.parquet", [make_png(i % 3, 100 + i) for i in range(20)])
    changed, _ = from_weights(dataclasses.replace(recipe, latent_start="whitened", num_bits=128), given)
    ours, theirs = two_ranks.run(begin, changed, given, [coloured, others])
    for name, tensor in ours.items():
        assert np.array_equal(tensor, theirs[name]), name


def test_a_whitened_start_needs_weights(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    whitened = dataclasses.replace(recipe, latent_start="whitened")
    with pytest.raises(ValueError, match="give --init"):
        train(whitened, open_source([coloured]), tmp_path / "run")


@torch.no_grad()
def test_an_exported_model_is_trained_on_with_statistics_of_the_new_images(
    recipe: Recipe, given: Path, coloured: Path, tmp_path: Path
) -> None:
    export(given, tmp_path / "model.onnx", name="m")
    source = open_source([coloured])
    model = StochCon(recipe)
    start(model, Weights.read(tmp_path / "model.onnx"), source, OneProcess())
    with Dataset(source, recipe.preprocessing) as dataset:
        images = to_unit(next(dataset.batches([np.arange(48)])), torch.device("cpu"))
    expected = load_run(given).model.features(images)
    scale = expected.std()
    # float16 in the file; and in training mode, the statistics of these very images.
    torch.testing.assert_close(model.eval().features(images), expected, atol=0.01 * scale, rtol=0)
    torch.testing.assert_close(model.train().features(images), expected, atol=0.03 * scale, rtol=0)


@torch.no_grad()
def test_a_whitened_start_decodes_variates_to_the_features(
    recipe: Recipe, given: Path, coloured: Path
) -> None:
    changed, _ = from_weights(dataclasses.replace(recipe, latent_start="whitened", num_bits=128), given)
    model = StochCon(changed)
    source = open_source([coloured])
    assert "rho starts" in start(model, Weights.read(given), source, OneProcess())
    with Dataset(source, recipe.preprocessing) as dataset:
        h = FrozenEncoder(model, "fp32").encode(dataset, np.arange(48))[0].h
    noise = torch.rand(48, 128, generator=torch.Generator().manual_seed(5))
    decoded = model.decoder(gumbel_bernoulli(model.logits(h), noise, recipe.gumbel_start))
    unexplained = (decoded - h).square().sum() / (h - h.mean(0)).square().sum()
    assert unexplained < 0.35
