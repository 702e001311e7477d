import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.trainer.made_runs import make_run
from trainer.commands.finetune import finetune
from trainer.recipe import Recipe
from trainer.runs import load_run

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(finetune)


@pytest.fixture
def run(recipe: Recipe, tmp_path: Path) -> Path:
    make_run(tmp_path / "run", recipe)
    return tmp_path / "run"


def call(run: Path, images: Path, out: Path, *arguments: object) -> Result:
    paths = [str(run), "--images", str(images), "--queries", str(images), "--out", str(out)]
    return CliRunner().invoke(app, [*paths, *map(str, arguments)])


def test_the_last_epoch_is_told_beside_the_best(run: Path, coloured: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call(run, coloured, out, "--epochs", 3, "--batch-size", 16, "--lr", 0.003)
    assert result.exit_code == 0, result.output
    found = json.loads((out / "finetune.json").read_text())
    assert len(found["top1"]) == 3
    assert found["on"] == "z"  # of a run that has a latent
    best = f"{found['best']:.4f} best (epoch {found['best_epoch']})"
    assert f"top-1 {found['last']:.4f} last, {best}" in result.stdout
    assert f"with z sampled at test: {found['sampled']['last']:.4f} last" in result.stdout
    assert load_run(out).classes == ["red", "green", "blue"]
    again = call(run, coloured, out, "--epochs", 3, "--batch-size", 16, "--lr", 0.003)
    assert again.exit_code == 0, again.output
    assert json.loads((out / "finetune.json").read_text()) == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", 0], "give --lr above 0"),
        (["--epochs", 0], "--epochs of at least 1"),
        (["--batch-size", 49], "--batch-size of at most 48"),
        (["--on", "pixels"], "--on"),
    ],
)
def test_wrong_use_is_one_clear_message_and_exit_code_2(
    run: Path, coloured: Path, tmp_path: Path, arguments: list[object], message: str
) -> None:
    result = call(run, coloured, tmp_path / "out", *arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_run_itself_is_refused(run: Path, coloured: Path) -> None:
    result = call(run, coloured, run, "--batch-size", 16)
    assert result.exit_code == 2
    assert "choose another --out" in " ".join(result.stderr.replace("│", " ").split())


def test_a_loss_that_is_not_finite_is_exit_code_1(run: Path, coloured: Path, tmp_path: Path) -> None:
    result = call(run, coloured, tmp_path / "out", "--batch-size", 16, "--lr", 1e30)
    assert result.exit_code == 1
    assert "a lower --lr" in result.stderr
