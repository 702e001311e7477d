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
from trainer.evaluate import FileEncoder, RunEncoder, bit_statistics, embed, random_projection, report
from trainer.export import export
from trainer.recipe import Recipe
from trainer.sources import open_source
from trainer.train import train


def test_a_run_is_reported_beside_its_rivals(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    source = open_source([coloured])
    train(recipe, source, tmp_path / "run")
    embedded = embed(RunEncoder(tmp_path / "run"), source)
    assert embedded.features.shape == (48, 32)
    np.testing.assert_array_equal(embedded.codes, pack_logits(embedded.logits.numpy()))
    values = report(embedded, embedded, k=1)
    # Each image is its own nearest neighbour.
    for name in ("codes", "features", "pixels", "projection2048"):
        assert values[f"{name}_knn_top1"] == 1.0
        assert 1 / 3 < values[f"{name}_map"] <= 1


def test_evaluation_leaves_batch_statistics_alone(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    source = open_source([coloured])
    train(dataclasses.replace(recipe, epochs=1), source, tmp_path / "run")
    encoder = RunEncoder(tmp_path / "run")
    before = {name: buffer.clone() for name, buffer in encoder.model.named_buffers()}
    embed(encoder, source)
    for name, buffer in encoder.model.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_an_exported_file_is_evaluated_on_its_own_codes(tmp_path: Path) -> None:
    images = [make_png(label, i, side=32) for i, label in enumerate([0, 1, 2, 0])]
    source = open_source([write_parquet(tmp_path / "x.parquet", images, [0, 1, 2, 0])])
    embedded = embed(FileEncoder(write_tiny_model(tmp_path / "tiny.onnx")), source)
    planes = (embedded.pixels * 255).round().byte().numpy().reshape(-1, 3, 32, 32)
    pixels = planes.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(embedded.codes, pack_logits(reference_logits(pixels)))
    assert "codes_knn_top1" in report(embedded, embedded, k=1)


def test_simclr_is_evaluated_without_codes(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    source = open_source([coloured])
    train(dataclasses.replace(recipe, latent="none", epochs=1), source, tmp_path / "run")
    embedded = embed(RunEncoder(tmp_path / "run"), source)
    assert embedded.codes is None
    values = report(embedded, embedded, k=1)
    assert "features_map" in values
    assert "codes_map" not in values


def test_unlabelled_images_are_refused(tmp_path: Path) -> None:
    source = open_source([write_parquet(tmp_path / "x.parquet", [make_png(0, 0)])])
    with pytest.raises(ValueError, match="no labels"):
        embed(FileEncoder(write_tiny_model(tmp_path / "tiny.onnx")), source)


def test_unlabelled_and_broken_images_are_left_out_and_the_broken_ones_named(tmp_path: Path) -> None:
    images = [make_png(label, i, side=32) for i, label in enumerate([0, 1, 2, 0])]
    path = write_parquet(tmp_path / "x.parquet", [*images, b"text"], [0, None, 2, -1, 1])
    embedded = embed(FileEncoder(write_tiny_model(tmp_path / "tiny.onnx")), open_source([path]))
    assert embedded.labels.tolist() == [0, 2]
    assert len(embedded.codes) == len(embedded.pixels) == 2
    assert len(embedded.broken) == 1
    assert "x.parquet, row 4: " in embedded.broken[0]


def test_nothing_left_to_evaluate_is_told_with_its_reason(tmp_path: Path) -> None:
    source = open_source([write_parquet(tmp_path / "x.parquet", [b"text", make_png(0, 0)], [0, None])])
    with pytest.raises(ValueError, match=r"of 2 images 1 have labels and 1 of those cannot be read.*row 0"):
        embed(FileEncoder(write_tiny_model(tmp_path / "tiny.onnx")), source)


def test_classes_are_compared_by_name_and_not_by_number(tmp_path: Path) -> None:
    encoder = FileEncoder(write_tiny_model(tmp_path / "tiny.onnx"))
    for part, classes in (
        ("gallery", ("blue", "green", "red")),
        ("queries", ("green", "red")),
        ("c", ("cat",)),
    ):
        for name in classes:
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(3):
                data = make_png(("red", "green", "blue", "cat").index(name) % 3, i, side=32)
                (tmp_path / part / name / f"{i}.png").write_bytes(data)
    gallery, queries, cats = (
        embed(encoder, open_source([tmp_path / p])) for p in ("gallery", "queries", "c")
    )
    assert report(queries, gallery, k=1)["codes_knn_top1"] == 1.0  # the same images lie in the gallery
    with pytest.raises(ValueError, match="the queries have the class cat and the gallery's are blue, green"):
        report(cats, gallery, k=1)
    with pytest.raises(ValueError, match="k is 10 and the gallery has 9 images: give --k"):
        report(queries, gallery, k=10)


def test_an_exported_simclr_is_evaluated_on_its_features(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    source = open_source([coloured])
    train(dataclasses.replace(recipe, latent="none", epochs=1), source, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "simclr.onnx", name="simclr")
    embedded = embed(FileEncoder(tmp_path / "simclr.onnx"), source)
    expected = embed(RunEncoder(tmp_path / "run"), source).features
    torch.testing.assert_close(embedded.features, expected, atol=5e-3, rtol=0)
    assert embedded.codes is None


def test_a_file_is_evaluated_on_images_resized_as_its_card_says(tmp_path: Path) -> None:
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


def test_a_random_projection_keeps_angles() -> None:
    h = torch.rand(50, 16, generator=torch.Generator().manual_seed(0))
    (codes,) = random_projection(h, [h], num_bits=16384)
    centred = torch.nn.functional.normalize(h - h.mean(0), dim=1)
    angles = torch.arccos((centred @ centred.T).clamp(-1, 1)) / torch.pi
    bits = np.unpackbits(codes, axis=1)
    shares = (bits[:, None] != bits[None]).mean(axis=-1)
    assert np.abs(shares - angles.numpy())[~np.eye(50, dtype=bool)].max() < 0.03


def test_bit_statistics_count_active_uncertain_and_dead_bits() -> None:
    logits = torch.tensor([[5.0, 0.0, -40.0] + [-40.0] * 5, [5.0, -1.0, 40.0] + [-40.0] * 5])
    statistics = bit_statistics(pack_logits(logits.numpy()), logits)
    assert statistics["active_bits"] == 2.0  # bits 0 and 1; bits 0 and 2
    assert statistics["dead_bits"] == 6.0  # bit 0 always 1, bits 3 to 7 always 0

    def entropy(logit: float) -> float:
        p = 1 / (1 + np.exp(-logit))
        return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))

    expected = (2 * entropy(5.0) + 1.0 + entropy(-1.0)) / 2
    assert statistics["entropy_bits"] == pytest.approx(expected, abs=1e-6)
