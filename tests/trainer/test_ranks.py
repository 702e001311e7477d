import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_images import make_png, write_parquet
from tests.trainer.one_step import cut, direct, some_batch
from tests.trainer.rank_jobs import Ending, die, fail_on, run_command, step, tell, train_to_the_end
from tests.trainer.two_ranks import TwoRanks, meeting_point, torchrun_environment
from trainer import checkpoint as checkpoints
from trainer.model import StochCon
from trainer.precision import has_bf16
from trainer.ranks import OneProcess, launched, share
from trainer.recipe import Recipe, View
from trainer.sources import open_source
from trainer.train import train

LOCAL = {"local_views": (View(8),) * 2}
SUPERVISED = {"objective": "supervised", "global_views": (View(16),)}


@pytest.mark.parametrize(
    ("changes", "shares", "num_classes"),
    [
        (LOCAL, [(6, 6)], 0),
        ({**LOCAL, "hard": True, "placement": "bottom"}, [(6, 5)], 0),
        ({**LOCAL, "latent": "gaussian"}, [(4, 5)], 0),
        ({**LOCAL, "latent": "none"}, [(0, 7)], 0),
        ({}, [(3, 3), (3, 2), (0, 4)], 0),
        ({"latent": "gaussian", "hard": True}, [(4, 4), (5, 0)], 0),
        ({**SUPERVISED, "latent": "none"}, [(5, 3)], 3),
        ({**SUPERVISED, "latent_dropout": 0.5}, [(4, 3), (0, 4)], 3),
    ],
    ids=[
        "soft-top",
        "hard-bottom-uneven",
        "gaussian-uneven",
        "simclr-empty-rank",
        "cached-empty-chunk",
        "cached-gaussian",
        "supervised-uneven",
        "supervised-bernoulli-cached",
    ],
)
def test_two_ranks_take_the_step_of_one_process_on_the_whole_batch(
    two_ranks: TwoRanks, recipe: Recipe, changes: dict, shares: list[tuple[int, int]], num_classes: int
) -> None:
    recipe = dataclasses.replace(recipe, **changes)
    torch.manual_seed(0)
    model = StochCon(recipe, num_classes)
    count = sum(map(sum, shares))
    labels = torch.arange(count) % num_classes if num_classes else None
    loss = direct(model, cut(some_batch(count), *map(sum, shares)), labels)
    for found in two_ranks.run(step, recipe, shares, num_classes):
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
        for name, parameter in model.named_parameters():
            expected, ours = parameter.grad.numpy(), found["gradients"][name]
            np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-5, err_msg=name)
        for name, buffer in model.named_buffers():
            ours = found["buffers"][name]
            np.testing.assert_allclose(ours, buffer.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_every_image_is_in_the_share_of_one_rank() -> None:
    for size in (1, 2, 3, 5):
        parts = []
        for rank in range(size):
            ranks = OneProcess()
            ranks.rank, ranks.size = rank, size
            parts.append(share(np.arange(13), ranks))
        assert np.concatenate(parts).tolist() == list(range(13))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_texts_of_any_length_reach_all_ranks(two_ranks: TwoRanks) -> None:
    for texts in (["", "Ü, a longer text"], ["", ""], ["a", "b"]):
        assert two_ranks.run(tell, texts) == [texts, texts]


def test_two_ranks_learn_what_one_process_learns_also_where_images_are_broken(
    two_ranks: TwoRanks, recipe: Recipe, tmp_path: Path
) -> None:
    images = [b"text" if i % 4 == 3 else make_png(i % 3, i) for i in range(48)]
    path = write_parquet(tmp_path / "some.parquet", images)
    recipe = dataclasses.replace(recipe, epochs=2, batch_size=15, chunk_size=8)
    expected = train(recipe, open_source([path]), tmp_path / "one").state_dict()
    ours, theirs = two_ranks.run(
        train_to_the_end, [recipe] * 2, [path] * 2, [tmp_path / "two", tmp_path / "unused"]
    )
    for name, tensor in expected.items():
        np.testing.assert_allclose(ours[name], tensor.numpy(), rtol=1e-2, atol=1e-4, err_msg=name)
        assert np.array_equal(ours[name], theirs[name]), name
    assert (tmp_path / "two/broken.txt").read_text() == (tmp_path / "one/broken.txt").read_text()
    assert len((tmp_path / "two/broken.txt").read_text().splitlines()) == 12
    assert json.loads((tmp_path / "two/run.json").read_text())["ranks"] == 2
    assert not (tmp_path / "unused").exists()


def stop_before(recipe: Recipe, path: Path, folder: Path, epoch: int) -> None:
    """A run of one process that ends shortly before an epoch, and keeps each step that it took."""
    with pytest.raises(InterruptedError):
        train(recipe, Ending(path, epoch, kill=False), folder, checkpoint_every_s=0)


def assert_alike(found: Path, expected: Path) -> None:
    ours, theirs = checkpoints.load(found), checkpoints.load(expected)
    assert ours.step == theirs.step
    for name, tensor in theirs.model.items():
        torch.testing.assert_close(ours.model[name], tensor, rtol=1e-2, atol=1e-4, msg=name)
    for number, state in theirs.optimizer["state"].items():
        momentum = ours.optimizer["state"][number]["momentum"]
        torch.testing.assert_close(momentum, state["momentum"], rtol=1e-2, atol=1e-4)


def test_a_run_goes_on_with_other_ranks_than_it_began_with(
    two_ranks: TwoRanks, recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    train(recipe, open_source([coloured]), tmp_path / "unbroken")
    stop_before(recipe, coloured, tmp_path / "more", 2)
    assert 0 < checkpoints.load(tmp_path / "more").step < 6
    two_ranks.run(train_to_the_end, [recipe] * 2, [coloured] * 2, [tmp_path / "more", tmp_path / "unused"])
    assert_alike(tmp_path / "more", tmp_path / "unbroken")


def test_a_killed_rank_ends_the_other_and_the_run_goes_on_from_its_checkpoint(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    train(recipe, open_source([coloured]), tmp_path / "unbroken")
    with TwoRanks() as doomed:
        survivor, killed = doomed.outcomes(die, recipe, coloured, tmp_path / "fewer", 2)
    assert isinstance(killed, BrokenProcessPool)
    assert isinstance(survivor, ConnectionError)
    assert "rank 0 of 2 lost another rank" in str(survivor)
    assert "the same command goes on" in str(survivor)
    assert 0 < checkpoints.load(tmp_path / "fewer").step < 6
    train(recipe, open_source([coloured]), tmp_path / "fewer")  # of one process
    assert_alike(tmp_path / "fewer", tmp_path / "unbroken")


def test_ranks_with_different_images_or_recipes_are_refused(
    two_ranks: TwoRanks, recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    others = write_parquet(tmp_path / "others.parquet", [make_png(0, i) for i in range(48)])
    another = dataclasses.replace(recipe, seed=1)
    for recipes, paths, message in (
        ([recipe, recipe], [coloured, others], "give each machine the same --images"),
        ([recipe, another], [coloured, coloured], "give each machine the same command"),
    ):
        for found in two_ranks.outcomes(train_to_the_end, recipes, paths, [tmp_path / "run"] * 2):
            assert isinstance(found, ValueError)
            assert message in str(found)


def test_what_one_rank_finds_wrong_ends_both(two_ranks: TwoRanks) -> None:
    finder, told = reversed(two_ranks.outcomes(fail_on, 1, "no such thing"))
    assert isinstance(finder, ValueError)
    assert str(finder) == "no such thing"
    assert isinstance(told, ValueError)
    assert str(told) == "rank 1: no such thing"


def test_the_command_says_what_is_wrong_on_any_rank_once(
    two_ranks: TwoRanks, recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "run"), "--epochs", "1"]
    ours, theirs = two_ranks.run(
        run_command, recipe, [["--images", str(coloured), *out], ["--images", "missing", *out]]
    )
    assert ours[0] == theirs[0] == 2
    assert "rank 1: missing does not exist" in ours[2]
    assert theirs[1:] == ("", "")
    ours, theirs = two_ranks.run(run_command, recipe, [["--images", str(coloured), *out]] * 2)
    assert ours[:2] == (0, f"trained test into {tmp_path / 'run'}\n")
    assert theirs == (0, "", "")


def test_the_command_computes_on_all_ranks_as_the_run_of_rank_0_began(
    two_ranks: TwoRanks, recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(recipe, epochs=1, precision="bf16")
    another = "fp32" if has_bf16("cpu") else "bf16"  # than a rank would choose that knows of no run
    arguments = [["--images", str(coloured), "--out", str(tmp_path / name)] for name in ("run", "unused")]
    asking = [[*of_rank, "--precision", another] for of_rank in arguments]
    for given in (asking, arguments):
        assert [code for code, _, _ in two_ranks.run(run_command, recipe, given)] == [0, 0]
    assert checkpoints.load(tmp_path / "run").recipe.precision == another
    assert not (tmp_path / "unused").exists()


# The command itself, which `torchrun --no-python stochcon train` would start; with a recipe for tests.
SCRIPT = """
import json, sys
from pathlib import Path
from tests.trainer.rank_jobs import run_command
from trainer.recipe import Recipe
code, out, err = run_command(Recipe.from_dict(json.loads(Path(sys.argv[1]).read_text())), [sys.argv[2:]] * 2)
print(out, end="")
print(err, end="", file=sys.stderr)
raise SystemExit(code)
"""


def test_torchrun_starts_a_run(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    script, written, run = tmp_path / "train.py", tmp_path / "recipe.json", tmp_path / "run"
    script.write_text(SCRIPT)
    written.write_text(json.dumps(dataclasses.replace(recipe, epochs=1).to_dict()))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, script, written, "--images", coloured, "--out", run],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"trained test into {run}\n"
    assert checkpoints.load(run).step == 3
    assert json.loads((run / "run.json").read_text())["ranks"] == 2


def test_a_rank_that_waits_in_vain_for_the_others_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    store = meeting_point()
    for name, value in torchrun_environment(0, 2, store).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConnectionError, match="rank 0 of 2 did not meet the others"), launched("cpu", 0.5):
        pass


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in torchrun_environment(99, 100, meeting_point()).items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ValueError, match=r"torchrun started 100 processes.*--nproc-per-node"),
        launched("cuda"),
    ):
        pass


def test_without_torchrun_there_is_one_process() -> None:
    with launched("cpu") as ranks:
        assert (ranks.rank, ranks.size, ranks.device) == (0, 1, torch.device("cpu"))
        assert ranks.broadcast(b"x") == b"x"
