import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.recipe import Recipe
from trainer.run_record import RUN_RECORD, RunRecord, unfinished


def opened(folder: Path, recipe: Recipe, start_step: int) -> RunRecord:
    command = "stochcon train test --images a b"
    return RunRecord.open(folder, recipe, ["red", "blue"], 48, "c1fa", start_step, 12, command, "cpu", 2)


def read(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / RUN_RECORD).read_text())
    return values


def test_it_says_what_was_run_on_what_and_how_far_it_has_come(recipe: Recipe, tmp_path: Path) -> None:
    record = opened(tmp_path, recipe, 0)
    for step in (3, 12):
        record.save(step)
        found = read(tmp_path)
        assert (found["steps"], found["num_steps"]) == (step, 12)
    assert Recipe.from_dict(found["recipe"]) == recipe
    assert (found["classes"], found["num_images"], found["images"]) == (["red", "blue"], 48, "c1fa")
    assert found["command"] == "stochcon train test --images a b"
    assert (found["torch"], found["ranks"]) == (torch.__version__, 2)
    assert "core" in found["hardware"]
    assert [path.name for path in tmp_path.iterdir()] == [RUN_RECORD]


@pytest.mark.parametrize(("start_step", "seconds"), [(3, 500.0), (0, 0.0)])
def test_time_adds_up_unless_the_run_starts_anew(
    recipe: Recipe, tmp_path: Path, start_step: int, seconds: float
) -> None:
    """A run whose checkpoint is gone starts anew: what its record says was another run's time."""
    record = opened(tmp_path, recipe, 0)
    record.save(3)
    (tmp_path / RUN_RECORD).write_text(json.dumps(read(tmp_path) | {"seconds": 500.0}))
    opened(tmp_path, recipe, start_step).save(6)
    assert seconds <= read(tmp_path)["seconds"] < seconds + 100


def test_a_record_that_is_gone_is_made_again(recipe: Recipe, tmp_path: Path) -> None:
    opened(tmp_path, recipe, 3).save(6)
    assert read(tmp_path)["steps"] == 6


def test_a_run_says_that_it_is_not_finished_until_it_is(recipe: Recipe, tmp_path: Path) -> None:
    assert unfinished(tmp_path) == ""  # which holds no run
    record = opened(tmp_path, recipe, 0)
    record.save(3)
    assert unfinished(tmp_path) == f"{tmp_path} is not finished: it is at step 3 of 12"
    record.save(12)
    assert unfinished(tmp_path) == ""
