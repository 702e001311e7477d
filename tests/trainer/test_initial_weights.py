import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.trainer.made_runs import make_run
from trainer.export import export
from trainer.initial_weights import Taken, Weights, refit_norms, take_weights
from trainer.model import StochCon
from trainer.recipe import Recipe


@pytest.fixture
def run(recipe: Recipe, tmp_path: Path) -> tuple[Path, StochCon]:
    return tmp_path / "run", make_run(tmp_path / "run", recipe)


@pytest.fixture
def fresh(recipe: Recipe) -> StochCon:
    torch.manual_seed(2)
    return StochCon(recipe)


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_a_run_gives_all_its_weights(run: tuple[Path, StochCon], fresh: StochCon) -> None:
    folder, trained = run
    assert take_weights(fresh, Weights.read(folder)) == Taken(
        ("backbone", "projector", "decoder", "head"), ()
    )
    assert_equal(fresh.state_dict(), trained.state_dict())


@pytest.mark.parametrize("form", ["plain", "nested", "of processes", "safetensors"])
def test_a_backbone_of_others_is_taken_and_its_classifier_left(
    run: tuple[Path, StochCon], fresh: StochCon, tmp_path: Path, form: str
) -> None:
    backbone = run[1].backbone.state_dict()
    state = {**backbone, "fc.weight": torch.zeros(10, 128)}
    path = tmp_path / "weights.pth"
    if form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    elif form == "of processes":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if form == "nested" else state, path)
    before = {name: p.clone() for name, p in fresh.state_dict().items() if not name.startswith("backbone.")}
    assert take_weights(fresh, Weights.read(path)) == Taken(("backbone",), ("fc.weight",))
    assert_equal(fresh.backbone.state_dict(), backbone)
    assert_equal(fresh.state_dict(), before)


def test_a_latent_of_another_width_is_left(run: tuple[Path, StochCon], recipe: Recipe) -> None:
    model = StochCon(dataclasses.replace(recipe, num_bits=2 * recipe.num_bits))
    taken = take_weights(model, Weights.read(run[0]))
    assert taken.parts == ("backbone", "head")
    assert {"projector.weight", "projector.bias", "decoder.weight"} <= set(taken.left)


@torch.no_grad()
def test_an_exported_model_goes_on_computing_what_it_did_and_can_be_trained(
    run: tuple[Path, StochCon], fresh: StochCon, tmp_path: Path
) -> None:
    folder, trained = run
    export(folder, tmp_path / "model.onnx", name="m")
    weights = Weights.read(tmp_path / "model.onnx")
    assert weights.folded
    taken = take_weights(fresh, weights)
    assert taken.parts == ("backbone", "projector")
    images = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    expected = trained.eval().logits(trained.features(images))
    scale = expected.std()
    # The file has weights in float16.
    torch.testing.assert_close(
        fresh.eval().logits(fresh.features(images)), expected, atol=0.01 * scale, rtol=0
    )
    refit_norms(fresh, images.split([20, 12]))
    torch.testing.assert_close(
        fresh.eval().logits(fresh.features(images)), expected, atol=0.01 * scale, rtol=0
    )
    # On the images that the statistics are of, training mode computes the same.
    torch.testing.assert_close(
        fresh.train().logits(fresh.features(images)), expected, atol=0.02 * scale, rtol=0
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no weights", "cannot be read"),
        ([1, 2], "holds list, not a state dict"),
        ({}, r"does not hold the backbone of test: bn1.bias is missing, and \d+ more"),
    ],
)
def test_files_without_the_backbone_are_refused(
    fresh: StochCon, tmp_path: Path, content: object, message: str
) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        take_weights(fresh, Weights.read(path))


def test_a_backbone_of_another_width_is_refused(run: tuple[Path, StochCon], recipe: Recipe) -> None:
    wider = StochCon(dataclasses.replace(recipe, width=24))
    with pytest.raises(ValueError, match=r"bn1.bias is \(16,\) there and \(24,\) here"):
        take_weights(wider, Weights.read(run[0]))
    with pytest.raises(ValueError, match="does not exist"):
        Weights.read(run[0] / "gone.pt")
