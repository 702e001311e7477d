import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contracts.codes import pack_logits
from contracts.model_file import read_manifest, write_manifest
from tests.tiny_images import make_png, write_parquet
from tests.tiny_model import reference_logits, write_tiny_model
from tests.trainer.made_runs import COLOURS, make_run
from trainer.embedding import FileEncoder, RunEncoder, embed, entropy_of
from trainer.recipe import Recipe
from trainer.sources import open_source


def as_inputs(source) -> torch.Tensor:
    """The images of a source of PNG files that need no resizing, as the network takes them."""
    pixels = [np.asarray(Image.open(io.BytesIO(source.read(i))).convert("RGB")) for i in range(len(source))]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255


@torch.no_grad()
def test_a_run_is_seen_as_its_network_sees_it(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    source = open_source([coloured])
    model = make_run(tmp_path / "run", recipe)
    embedded = embed(RunEncoder(tmp_path / "run"), source)
    h = model.features(as_inputs(source))
    logits = model.logits(h)
    torch.testing.assert_close(embedded.seen.features, h, atol=1e-4, rtol=1e-4)
    sure = logits.abs() > 1e-4
    bits = torch.from_numpy(np.unpackbits(embedded.seen.codes, axis=1)).bool()
    assert torch.equal(bits[sure], (logits > 0)[sure])
    assert embedded.labels.tolist() == [i % 3 for i in range(48)]
    assert embedded.classes == COLOURS
    torch.testing.assert_close(embedded.pixels.view(48, 3, 16, 16), as_inputs(source))


@torch.no_grad()
def test_a_gaussian_run_has_moments_instead_of_codes(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    source = open_source([coloured])
    model = make_run(tmp_path / "run", dataclasses.replace(recipe, latent="gaussian"))
    seen = embed(RunEncoder(tmp_path / "run"), source).seen
    mean, variance = model.moments(model.features(as_inputs(source)))
    torch.testing.assert_close(seen.means, mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen.variances, variance, atol=1e-4, rtol=1e-4)
    assert seen.codes is None


def test_simclr_has_features_alone(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "run", dataclasses.replace(recipe, latent="none"))
    seen = embed(RunEncoder(tmp_path / "run"), open_source([coloured])).seen
    assert seen.features.shape == (48, 128)
    assert (seen.codes, seen.means, seen.predicted) == (None, None, None)


@torch.no_grad()
@pytest.mark.parametrize("on", ["h", "z", "bits"])
def test_a_fine_tuned_run_names_classes(recipe: Recipe, coloured: Path, tmp_path: Path, on: str) -> None:
    source = open_source([coloured])
    model = make_run(tmp_path / "run", recipe, on)
    embedded = embed(RunEncoder(tmp_path / "run"), source)
    expected = model(as_inputs(source)).argmax(1)
    assert torch.equal(embedded.seen.predicted, expected)
    assert embedded.model_classes == COLOURS


def test_embedding_leaves_batch_statistics_alone(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "run", recipe)
    encoder = RunEncoder(tmp_path / "run")
    model = encoder.trained.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    embed(encoder, open_source([coloured]))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_exported_file_is_seen_by_its_own_codes(tmp_path: Path) -> None:
    images = [make_png(label, i, side=32) for i, label in enumerate([0, 1, 2, 0])]
    source = open_source([write_parquet(tmp_path / "x.parquet", images, [0, 1, 2, 0])])
    embedded = embed(FileEncoder(write_tiny_model(tmp_path / "tiny.onnx")), source)
    planes = (embedded.pixels * 255).round().byte().numpy().reshape(-1, 3, 32, 32)
    logits = reference_logits(planes.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(embedded.seen.codes, pack_logits(logits))
    np.testing.assert_allclose(embedded.seen.entropy, entropy_of(torch.from_numpy(logits)), rtol=1e-4)


def test_a_sample_of_the_images_is_taken_at_equal_distances(tmp_path: Path) -> None:
    labels = [0, None, 1, 1, 2, 2, 0, 0]
    images = [make_png(label or 0, i, side=32) for i, label in enumerate(labels)]
    source = open_source([write_parquet(tmp_path / "x.parquet", images, labels)])
    encoder = FileEncoder(write_tiny_model(tmp_path / "tiny.onnx"))
    whole = embed(encoder, source)
    assert len(whole.labels) == 7
    sample = embed(encoder, source, max_images=3)
    assert torch.equal(sample.pixels, whole.pixels[[0, 3, 6]])
    assert sample.labels.tolist() == [0, 2, 0]
    assert len(embed(encoder, source, max_images=8).labels) == 7


def test_unlabelled_images_are_refused(tmp_path: Path) -> None:
    source = open_source([write_parquet(tmp_path / "x.parquet", [make_png(0, 0)])])
    with pytest.raises(ValueError, match="no labels"):
        embed(FileEncoder(write_tiny_model(tmp_path / "tiny.onnx")), source)


def test_unlabelled_and_broken_images_are_left_out_and_the_broken_ones_named(tmp_path: Path) -> None:
    images = [make_png(label, i, side=32) for i, label in enumerate([0, 1, 2, 0])]
    path = write_parquet(tmp_path / "x.parquet", [*images, b"text"], [0, None, 2, -1, 1])
    embedded = embed(FileEncoder(write_tiny_model(tmp_path / "tiny.onnx")), open_source([path]))
    assert embedded.labels.tolist() == [0, 2]
    assert len(embedded.seen.codes) == len(embedded.pixels) == 2
    assert len(embedded.broken) == 1
    assert "x.parquet, row 4: " in embedded.broken[0]


def test_nothing_left_to_evaluate_is_told_with_its_reason(tmp_path: Path) -> None:
    source = open_source([write_parquet(tmp_path / "x.parquet", [b"text", make_png(0, 0)], [0, None])])
    with pytest.raises(ValueError, match=r"of 2 images 1 have labels and 1 of those cannot be read.*row 0"):
        embed(FileEncoder(write_tiny_model(tmp_path / "tiny.onnx")), source)


def test_a_file_is_given_images_resized_as_its_card_says(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx")
    manifest = read_manifest(path)
    squash = manifest.preprocessing.model_copy(update={"resize": "squash"})
    write_manifest(path, manifest.model_copy(update={"preprocessing": squash}))
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, 32:64] = 255
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    source = open_source([write_parquet(tmp_path / "wide.parquet", [encoded.getvalue()], [0])])
    assert embed(FileEncoder(path), source).pixels.mean().item() == pytest.approx(1 / 3, abs=0.03)


def test_large_images_are_averaged_down_for_the_comparison_of_pixels(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx")
    manifest = read_manifest(path)

    class Large:
        preprocessing = manifest.preprocessing.model_copy(update={"height": 64, "width": 64})
        classes = ()

        def __call__(self, images: torch.Tensor):
            assert images.shape[1:] == (64, 64, 3)
            return FileEncoder(path)(images[:, :32, :32].contiguous())

    data = make_png(1, 0, side=64)
    source = open_source([write_parquet(tmp_path / "x.parquet", [data], [0])])
    pixels = np.asarray(Image.open(io.BytesIO(data)), np.float32) / 255
    expected = pixels.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    found = embed(Large(), source).pixels
    np.testing.assert_allclose(found.numpy().reshape(3, 32, 32), expected, atol=1e-6)


def test_entropy_is_that_of_coins_however_sure_they_are() -> None:
    logits = torch.tensor([[0.0, 1.5], [-3.0, 200.0], [-1e4, 40.0]])
    p = 1 / (1 + np.exp(-logits.double().numpy().clip(-700, 700)))
    with np.errstate(divide="ignore", invalid="ignore"):
        coins = -np.nan_to_num(p * np.log2(p)) - np.nan_to_num((1 - p) * np.log2(1 - p))
    np.testing.assert_allclose(entropy_of(logits), coins.sum(1), rtol=1e-5, atol=1e-9)
