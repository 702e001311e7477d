import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from contracts.codes import pack_logits
from contracts.model_file import model_id, read_manifest
from trainer import checkpoint as checkpoints
from trainer.evaluate import RunEncoder, load_run
from trainer.export import EncodingGraph, check_parity, export
from trainer.recipe import Recipe
from trainer.sources import open_source
from trainer.train import train


@pytest.fixture
def run(recipe: Recipe, coloured: Path, tmp_path: Path) -> Path:
    train(dataclasses.replace(recipe, epochs=2), open_source([coloured]), tmp_path / "run")
    return tmp_path / "run"


def some_images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_the_file_computes_what_the_run_does(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    manifest, parity = export(run, path, name="test", data="colours", licence="MIT", metrics={"top1": 0.5})
    assert parity.max_error < 1e-4
    session = onnxruntime.InferenceSession(str(path))
    encoder = RunEncoder(run)
    for count in (1, 5):  # the batch is free
        images = some_images(count)
        code, logits = session.run(["code", "logits"], {"image": images})
        assert code.dtype == np.uint8
        np.testing.assert_array_equal(code, pack_logits(logits))
        _, expected, expected_codes = encoder(torch.from_numpy(images))
        # The run has float32 weights; the file has rounded them to float16.
        tolerance = 5e-3
        np.testing.assert_allclose(logits, expected.numpy(), atol=tolerance)
        flipped = np.unpackbits(code ^ expected_codes, axis=1).astype(bool)
        assert (np.abs(expected.numpy())[flipped] <= tolerance).all()
    assert read_manifest(path) == manifest
    assert manifest.latent == "bernoulli"
    assert manifest.num_bits == 64
    assert manifest.metrics == {"top1": 0.5}
    assert Recipe.from_dict(manifest.recipe).name == "test"


def test_large_weights_are_stored_as_float16(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "model.onnx", name="test")
    for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer:
        if np.prod(tensor.dims) >= 256:
            assert tensor.data_type == onnx.TensorProto.FLOAT16, tensor.name


def test_two_exports_of_a_run_have_one_id_and_another_run_another(
    run: Path, recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "c.onnx"]
    export(run, paths[0], name="a")
    export(run, paths[1], name="b", licence="another card")
    train(dataclasses.replace(recipe, epochs=2, seed=1), open_source([coloured]), tmp_path / "other")
    export(tmp_path / "other", paths[2], name="c")
    ids = [model_id(path) for path in paths]
    assert ids[0] == ids[1] != ids[2]


def test_the_file_says_nothing_of_the_machine_it_was_made_on(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "model.onnx", name="test")
    content = (tmp_path / "model.onnx").read_bytes()
    for trace in (b"site-packages", b".py", str(Path.cwd()).encode(), str(tmp_path).encode()):
        assert trace not in content


def test_simclr_exports_features(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    run = tmp_path / "simclr"
    train(dataclasses.replace(recipe, latent="none", epochs=1), open_source([coloured]), run)
    manifest, _ = export(run, tmp_path / "simclr.onnx", name="simclr")
    assert manifest.latent == "none"
    assert manifest.num_bits == 32
    session = onnxruntime.InferenceSession(str(tmp_path / "simclr.onnx"))
    images = some_images(3)
    (features,) = session.run(["features"], {"image": images})
    expected, _, _ = RunEncoder(run)(torch.from_numpy(images))
    np.testing.assert_allclose(features, expected.numpy(), atol=5e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_whose_weights_are_not_finite_is_not_exported(
    run: Path, tmp_path: Path, value: float
) -> None:
    checkpoint = checkpoints.load(run)
    checkpoint.model["projector.bias"][0] = value
    checkpoints.save(run, checkpoint)
    with pytest.raises(RuntimeError, match="differs from PyTorch by nan"):
        export(run, tmp_path / "model.onnx", name="test")
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_that_differs_from_pytorch_is_told(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(run, path, name="test")
    recipe, model = load_run(run)
    model.projector.bias.data[3] += 0.5
    parity = check_parity(path, EncodingGraph(model, recipe.num_bits), recipe.image_size)
    assert parity.max_error == pytest.approx(0.5, abs=0.01)


def test_a_name_that_no_card_may_have_names_the_flag(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name is 'My Model': .*give another --name"):
        export(run, tmp_path / "model.onnx", name="My Model")


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no last\.pt"):
        export(tmp_path, tmp_path / "model.onnx", name="test")


def test_a_missing_folder_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        export(tmp_path / "no-run", tmp_path / "missing" / "model.onnx", name="test")
