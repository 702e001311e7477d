import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner, Result

from tests.tiny_images import make_png
from tests.trainer.labelled_images import write_numbered
from tests.trainer.made_runs import make_run
from trainer.commands.probe import probe
from trainer.recipe import Recipe

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(probe)


@pytest.fixture
def run(recipe: Recipe, tmp_path: Path) -> Path:
    make_run(tmp_path / "run", recipe)
    return tmp_path / "run"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images with a class, a number, a text and, last, one that is broken."""
    pngs = [make_png(i % 3, i) for i in range(20)] + [b"text"]
    columns = {
        "label": pa.array([i % 3 for i in range(21)]),
        "mean red (0-255)": pa.array([*(float(i**2) for i in range(20)), None]),
        "word": pa.array(["red"] * 21),
    }
    return write_numbered(tmp_path / "images.parquet", pngs, columns)


def call(run: Path, images: Path, *arguments: object) -> Result:
    paths = [str(run), "--images", str(images), "--queries", str(images)]
    return CliRunner().invoke(app, [*paths, *map(str, arguments)])


def test_what_is_kept_is_what_is_printed(run: Path, images: Path) -> None:
    result = call(run, images, "--epochs", 2, "--batch-size", 10, "--seed", 3, "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values == json.loads((run / "probe.json").read_text())
    assert values["sampled_at_test"] is False
    assert values["num_queries"] == 20
    assert values["broken_images"] == 2  # once to learn from, and once held out
    assert "the first: images.parquet, row 20" in result.stderr
    assert list(values["representations"]) == ["h", "z", "bits", "z_sampled"]
    for scores in values["representations"].values():
        assert len(scores["top1"]) == 2
        assert scores["last"] == scores["top1"][-1]
        assert scores["best"] == max(scores["top1"])
        assert scores["top1"][scores["best_epoch"] - 1] == scores["best"]


def test_a_column_of_any_name_is_regressed_on_beside_what_the_mean_would_give(
    run: Path, images: Path
) -> None:
    result = call(run, images, "--target", "mean red (0-255)", "--epochs", 2, "--batch-size", 10)
    assert result.exit_code == 0, result.output
    values = json.loads((run / "probe-mean red (0-255).json").read_text())
    squares = np.arange(20) ** 2
    assert values["baseline_mae"] == pytest.approx(np.abs(squares - squares.mean()).mean(), abs=1e-6)
    assert values["num_images"] == values["num_queries"] == 20
    scores = values["representations"]["h"]
    assert len(scores["r2"]) == len(scores["mae"]) == 2
    assert f"{scores['mae'][-1]:.4g}" in result.stdout
    assert "R², last" in result.stdout
    assert f"MAE of always saying the mean: {values['baseline_mae']:.4g}" in result.stdout
    assert not (run / "probe.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "word"], "images.parquet has word of type string: targets are numbers"),
        (["--target", "height"], "has no column height to take targets from"),
        (["--target", "a/b"], "call the column by a short name without /"),
        (["--target", ""], "call the column by a short name without /"),
        (["--epochs", 0], "--epochs of at least 1"),
        (["--batch-size", 22], "--batch-size of at most 21"),
        (["--seed", -1], "--seed from 0"),
        (["--precision", "fp16"], "--precision"),
    ],
)
def test_wrong_use_is_one_clear_message_and_exit_code_2(
    run: Path, images: Path, arguments: list[object], message: str
) -> None:
    result = call(run, images, *arguments)
    assert result.exit_code == 2, result.output
    # The message is in a box, which breaks long paths.
    assert "".join(message.split()) in "".join(result.stderr.replace("│", "").split())
    assert not list(run.glob("probe*"))


def test_a_folder_without_a_run_is_wrong_use(images: Path, tmp_path: Path) -> None:
    result = call(tmp_path / "missing", images)
    assert result.exit_code == 2
    assert "holds no last.pt" in " ".join(result.stderr.replace("│", " ").split())
