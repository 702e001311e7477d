import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from contracts.codes import pack_logits
from contracts.manifest import ModelManifest
from contracts.model_file import model_id, read_manifest
from service.encoding.session import open_session
from service.models import ModelFolder
from tests.tiny_images import make_png, write_parquet
from tests.trainer.made_runs import COLOURS, make_run
from trainer import checkpoint as checkpoints
from trainer.embedding import FileEncoder, RunEncoder
from trainer.export import ExportedGraph, Parity, check_parity, export
from trainer.recipe import Recipe, View
from trainer.runs import load_run
from trainer.sources import open_source
from trainer.train import train

SUPERVISED = {"objective": "supervised", "global_views": (View(size=16, scale=(0.3, 1.0)),)}


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has been trained."""
    folder, labels = tmp_path_factory.mktemp("trained"), [i % 3 for i in range(48)]
    images = [make_png(label, i) for i, label in enumerate(labels)]
    source = open_source([write_parquet(folder / "coloured.parquet", images, labels)])
    train(dataclasses.replace(recipe, epochs=2), source, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def exported(run: Path) -> tuple[Path, ModelManifest, Parity]:
    """Its file."""
    path = run.parent / "model.onnx"
    return path, *export(run, path, name="test", data="colours", licence="MIT", metrics={"top1": 0.5})


def some_images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def rounded_to_float16(run: Path) -> torch.nn.Module:
    """The network of a run with the weights that its file has; BatchNorm is folded by hand.

    A weight of a convolution is multiplied by that of its BatchNorm over the deviation before it is rounded.
    """
    model = load_run(run).model
    for stage in model.backbone.modules():
        children = dict(stage.named_children())
        pairs = [("conv1", "bn1"), ("conv2", "bn2"), ("0", "1")]
        for conv, norm in ((children.get(c), children.get(n)) for c, n in pairs):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                scale = norm.weight.data / (norm.running_var + norm.eps).sqrt()
                conv.weight.data = (conv.weight.data * scale[:, None, None, None]).half().float()
                norm.bias.data -= norm.running_mean * scale
                norm.weight.data.fill_(1)
                norm.running_mean.zero_()
                norm.running_var.fill_(1 - norm.eps)
    for linear in model.modules():
        if isinstance(linear, torch.nn.Linear) and linear.weight.numel() >= 256:
            linear.weight.data = linear.weight.data.half().float()
    return model


@torch.no_grad()
def test_bits_are_those_of_pytorch_except_where_a_logit_is_within_rounding_of_0(
    run: Path, exported: tuple[Path, ModelManifest, Parity]
) -> None:
    path, manifest, parity = exported
    session = onnxruntime.InferenceSession(str(path))
    model = rounded_to_float16(run)
    for count in (1, 200):  # the batch is free
        images = some_images(count)
        code, logits = session.run(["code", "logits"], {"image": images})
        assert code.dtype == np.uint8
        np.testing.assert_array_equal(code, pack_logits(logits))
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        expected = model.logits(model.features(pixels)).numpy()
        rounding = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(logits, expected, rtol=0, atol=rounding)
        flipped = np.unpackbits(code ^ pack_logits(expected), axis=1).astype(bool)
        assert (np.abs(expected[flipped]) <= rounding).all()
    assert flipped.size == parity.num_bits * 200 // 32
    assert parity.max_error < 1e-4
    assert read_manifest(path) == manifest
    assert manifest.latent == "bernoulli"
    assert manifest.num_bits == 64
    assert manifest.labels is None
    assert manifest.metrics == {"top1": 0.5}
    assert Recipe.from_dict(manifest.recipe).name == "test"


@torch.no_grad()
@pytest.mark.parametrize("on", ["z", "bits"])
def test_a_fine_tuned_model_gives_class_logits_beside_codes_that_are_served(
    recipe: Recipe, tmp_path: Path, on: str
) -> None:
    path = tmp_path / "tuned.onnx"
    make_run(tmp_path / "run", recipe, on)
    manifest, _ = export(tmp_path / "run", path, name="tuned")
    assert manifest.labels == COLOURS
    assert read_manifest(path).recipe["finetuning"]["on"] == on
    images = some_images(60)
    model = rounded_to_float16(tmp_path / "run")
    h = model.features(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    session = onnxruntime.InferenceSession(str(path))
    code, class_logits = session.run(["code", "class_logits"], {"image": images})
    assert class_logits.shape == (60, 3)
    # What a layer on z or on bits is, written out.
    z = torch.sigmoid(model.logits(h) / 0.1) if on == "z" else (model.logits(h) >= 0).float()
    expected = z @ model.head.weight.T + model.head.bias
    same = (code == pack_logits(model.logits(h).numpy())).all(axis=1)
    assert same.mean() > 0.9
    np.testing.assert_allclose(class_logits[same], expected[same], atol=1e-3)
    # The service serves its codes.
    served = ModelFolder(tmp_path).select("tuned")
    codes, _ = open_session(served.path, served.manifest, "cpu", 1).run(images[:5])
    np.testing.assert_array_equal(codes, code[:5])
    encoder = FileEncoder(path)
    assert encoder.classes == COLOURS
    np.testing.assert_array_equal(encoder(torch.from_numpy(images)).predicted, class_logits.argmax(1))


@torch.no_grad()
@pytest.mark.parametrize("latent", ["none", "bernoulli"])
def test_a_supervised_model_gives_class_logits(recipe: Recipe, tmp_path: Path, latent: str) -> None:
    path = tmp_path / "supervised.onnx"
    make_run(tmp_path / "run", dataclasses.replace(recipe, latent=latent, **SUPERVISED))
    manifest, _ = export(tmp_path / "run", path, name="supervised")
    assert manifest.labels == COLOURS
    assert manifest.num_bits == {"none": 128, "bernoulli": 64}[latent]
    session = onnxruntime.InferenceSession(str(path))
    first = {"none": ["features"], "bernoulli": ["code", "logits"]}[latent]
    assert [output.name for output in session.get_outputs()] == [*first, "class_logits"]
    images = some_images(20)
    model = rounded_to_float16(tmp_path / "run")
    expected = model.class_logits(model.features(torch.from_numpy(images).permute(0, 3, 1, 2) / 255))
    (class_logits,) = session.run(["class_logits"], {"image": images})
    np.testing.assert_allclose(class_logits, expected, atol=1e-3)


def test_large_weights_are_stored_as_float16(exported: tuple[Path, ModelManifest, Parity]) -> None:
    for tensor in onnx.load(exported[0]).graph.initializer:
        if np.prod(tensor.dims) >= 256:
            assert tensor.data_type == onnx.TensorProto.FLOAT16, tensor.name


def test_two_exports_of_a_run_have_one_id_and_another_run_another(
    run: Path, exported: tuple[Path, ModelManifest, Parity], tmp_path: Path
) -> None:
    again, other = tmp_path / "again.onnx", tmp_path / "other.onnx"
    export(run, again, name="again", licence="another card")
    checkpoint = checkpoints.load(run)
    checkpoint.model["projector.bias"][0] += 1
    checkpoints.save(tmp_path, checkpoint)
    export(tmp_path, other, name="test")
    assert model_id(exported[0]) == model_id(again) != model_id(other)


def test_the_file_says_nothing_of_the_machine_it_was_made_on(
    exported: tuple[Path, ModelManifest, Parity],
) -> None:
    path = exported[0]
    content = path.read_bytes()
    for trace in (b"site-packages", b".py", str(Path.cwd()).encode(), str(path.parent).encode()):
        assert trace not in content


def test_simclr_exports_features(recipe: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "simclr"
    make_run(run, dataclasses.replace(recipe, latent="none"))
    manifest, _ = export(run, tmp_path / "simclr.onnx", name="simclr")
    assert manifest.latent == "none"
    assert manifest.num_bits == 128
    session = onnxruntime.InferenceSession(str(tmp_path / "simclr.onnx"))
    images = some_images(3)
    (features,) = session.run(["features"], {"image": images})
    expected = RunEncoder(run)(torch.from_numpy(images)).features
    np.testing.assert_allclose(features, expected, atol=2e-2, rtol=1e-2)  # weights of float16
    np.testing.assert_array_equal(
        FileEncoder(tmp_path / "simclr.onnx")(torch.from_numpy(images)).features, features
    )


def test_a_model_whose_weights_are_not_finite_is_not_exported(run: Path, tmp_path: Path) -> None:
    checkpoint = checkpoints.load(run)
    checkpoint.model["projector.bias"][0] = float("inf")  # in both, and their difference is nan
    checkpoints.save(tmp_path, checkpoint)
    with pytest.raises(RuntimeError, match="differs from PyTorch by nan"):
        export(tmp_path, tmp_path / "model.onnx", name="test")
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_that_differs_from_pytorch_is_told(
    run: Path, exported: tuple[Path, ModelManifest, Parity]
) -> None:
    trained = load_run(run)
    trained.model.projector.bias.data[3] += 0.5
    parity = check_parity(exported[0], ExportedGraph(trained), trained.recipe.image_size)
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
