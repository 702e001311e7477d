from pathlib import Path

import pytest
import torch
from torch import nn

from trainer import checkpoint as checkpoints
from trainer.checkpoint import Checkpoint
from trainer.failures import check_finite, list_broken, not_finite
from trainer.recipe import Recipe


def test_a_weight_that_is_not_finite_is_named_with_the_step_and_what_to_try(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    check_finite(model, 3, tmp_path, "less")
    with torch.no_grad():
        model[1].bias[0] = float("inf")
    expected = r"1\.bias is not finite at step 3, and nothing was saved before: .* --out with less"
    with pytest.raises(FloatingPointError, match=expected):
        check_finite(model, 3, tmp_path, "less")


def test_the_last_good_checkpoint_is_named(recipe: Recipe, tmp_path: Path) -> None:
    checkpoints.save(tmp_path, Checkpoint(recipe, 40, {}, {}, "", []))
    error = not_finite("the loss is nan", 45, tmp_path, "a lower --lr")
    assert str(error).startswith(
        f"the loss is nan at step 45, and {tmp_path} keeps the checkpoint of step 40"
    )


def test_broken_images_add_up_over_interruptions(tmp_path: Path) -> None:
    list_broken(tmp_path, [])
    assert not (tmp_path / "broken.txt").exists()
    list_broken(tmp_path, ["b: damaged"])
    list_broken(tmp_path, ["a: damaged", "b: damaged"])
    list_broken(tmp_path, [])
    assert (tmp_path / "broken.txt").read_text() == "a: damaged\nb: damaged\n"
