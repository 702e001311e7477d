import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from trainer import checkpoint as checkpoints
from trainer.keeper import Keeper
from trainer.model import StochCon
from trainer.optimizer import make_optimizer
from trainer.plan import Plan
from trainer.ranks import OneProcess
from trainer.recipe import Recipe
from trainer.sources import open_source
from trainer.step import StepResult

SETTINGS = {"lr": 0.5, "gumbel_temperature": 0.25}


@contextmanager
def keeper(
    recipe: Recipe, images: Path, folder: Path, start_step: int = 0, every_s: float = math.inf
) -> Iterator[tuple[Keeper, StochCon]]:
    """Of a run of 12 steps, 3 an epoch."""
    folder.mkdir(exist_ok=True)
    model = StochCon(recipe)
    optimizer = make_optimizer(model)
    source = open_source([images])
    plan = Plan.of(recipe, source)
    with Keeper.of(
        folder,
        plan,
        model,
        optimizer,
        start_step,
        held_out=source,
        ranks=OneProcess(),
        checkpoint_every_s=every_s,
        command="stochcon train test",
    ) as opened:
        yield opened, model


def reports(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_tenth_step_and_the_last_one_are_reported(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    # Two bits of two images. sigmoid(log 3) = 3/4, whose entropy is 0.8113 bits; a bit of even odds has 1.
    parameters = [torch.tensor([[math.log(3), 0.0], [-math.log(3), 0.0]])]
    with keeper(recipe, coloured, tmp_path / "run") as (opened, _):
        for done in range(1, 13):
            opened.after_step(done, StepResult(torch.tensor(2.0), parameters), SETTINGS, done * 1.0, ["a"])
    lines = [line for line in reports(tmp_path / "run") if "loss" in line]
    assert [line["step"] for line in lines] == [10, 12]
    assert [line["epoch"] for line in lines] == [pytest.approx(10 / 3, rel=1e-5), 4]
    for line in lines:
        assert (line["loss"], line["lr"], line["gumbel_temperature"]) == (2, 0.5, 0.25)
        assert line["broken_images"] == 1
        assert line["active_share"] == 0.75  # a logit of 0 is a 1, as in the code
        assert line["bit_entropy"] == pytest.approx((0.811278 + 1) / 2, abs=1e-5)
    # 10 seconds of waiting in the first stretch and 2 in the second, 160 images and 32.
    first, second = lines
    assert first["data_wait"] / first["images_per_s"] == pytest.approx(10 / 160, rel=1e-4)
    assert second["data_wait"] / second["images_per_s"] == pytest.approx(2 / 32, rel=1e-4)


def test_the_model_is_watched_after_each_epoch(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    with keeper(recipe, coloured, tmp_path / "run") as (opened, model):
        model.train()
        for done in range(1, 7):
            opened.after_step(done, StepResult(torch.tensor(2.0), []), SETTINGS, 0.0, [])
        assert model.training
    watched = reports(tmp_path / "run")
    assert [(line["step"], line["epoch"]) for line in watched] == [(3, 1), (6, 2)]
    assert all(0 <= line["test_active_bits"] <= 64 for line in watched)


def test_a_rank_without_images_leaves_its_latent_out(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    for name, parameters in (("none", []), ("empty", [torch.empty(0, 64)])):
        with keeper(recipe, coloured, tmp_path / name) as (opened, _):
            opened.after_step(10, StepResult(torch.tensor(2.0), parameters), SETTINGS, 0.0, [])
        assert "active_share" not in reports(tmp_path / name)[0]


def test_of_a_gaussian_latent_the_variance_is_reported(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(recipe, latent="gaussian")
    with keeper(recipe, coloured, tmp_path / "run") as (opened, _):
        opened.after_step(10, StepResult(torch.tensor(2.0), [torch.tensor([[1.0, 4.0]])]), SETTINGS, 0.0, [])
    assert reports(tmp_path / "run")[0]["latent_variance"] == 2.5


def test_a_checkpoint_is_written_once_its_time_has_come(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    result = StepResult(torch.tensor(2.0), [])
    with keeper(recipe, coloured, tmp_path / "rare") as (opened, _):
        opened.after_step(1, result, SETTINGS, 0.0, [])
        assert checkpoints.load(tmp_path / "rare") is None
    with keeper(recipe, coloured, tmp_path / "often", every_s=0) as (opened, model):
        opened.after_step(1, result, SETTINGS, 0.0, ["b: torn", "a: torn"])
        saved = checkpoints.load(tmp_path / "often")
        assert (saved.step, saved.recipe) == (1, recipe)
        assert all(torch.equal(saved.model[name], found) for name, found in model.state_dict().items())
        assert (tmp_path / "often/broken.txt").read_text() == "a: torn\nb: torn\n"
        record = json.loads((tmp_path / "often/run.json").read_text())
        assert (record["steps"], record["num_steps"], record["ranks"]) == (1, 12, 1)
        assert record["command"] == "stochcon train test"
        opened.after_step(12, result, SETTINGS, 0.0, [])
        assert checkpoints.load(tmp_path / "often").step == 1  # the last one is the run's to save


def test_weights_that_are_not_finite_leave_the_last_checkpoint(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    with keeper(recipe, coloured, tmp_path / "run") as (opened, model):
        opened.save(4, [])
        with torch.no_grad():
            model.projector.weight[0, 0] = torch.nan
        with pytest.raises(
            FloatingPointError, match=r"projector\.weight is not finite at step 5.* of step 4"
        ):
            opened.save(5, [])
    assert checkpoints.load(tmp_path / "run").step == 4
