import dataclasses
from pathlib import Path

import pytest
import torch

from tests.trainer.made_runs import COLOURS, make_run
from trainer.classifier import Classifier
from trainer.model import StochCon
from trainer.recipe import Recipe, View
from trainer.runs import load_run


@pytest.mark.parametrize("on", [None, "z"])
def test_a_run_is_read_back_in_evaluation_mode(recipe: Recipe, tmp_path: Path, on: str | None) -> None:
    expected = make_run(tmp_path / "run", recipe, on)
    found = load_run(tmp_path / "run")
    assert type(found.model) is (StochCon if on is None else Classifier)
    assert not found.model.training
    assert found.recipe == recipe
    assert found.classes == ([] if on is None else COLOURS)
    assert (found.finetuning is None) == (on is None)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor), name


def test_a_supervised_run_has_its_classes(recipe: Recipe, tmp_path: Path) -> None:
    supervised = dataclasses.replace(
        recipe, objective="supervised", latent="none", global_views=(View(size=16),)
    )
    make_run(tmp_path / "run", supervised)
    found = load_run(tmp_path / "run")
    assert found.classes == COLOURS
    assert found.model.class_logits(torch.rand(2, 128)).shape == (2, 3)


def test_a_folder_without_a_run_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no last\.pt: train with `stochcon train` first"):
        load_run(tmp_path)
