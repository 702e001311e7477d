import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from contracts.model_file import read_manifest
from tests.trainer.made_runs import make_run
from tests.trainer.offered import offer
from tests.trainer.report.run_folders import write_run
from trainer import cli
from trainer import train as train_module

app = typer.Typer(pretty_exceptions_enable=False)
for command in cli.VERBS:
    app.command()(command)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def tiny_recipe(recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(recipe, monkeypatch)


@pytest.mark.usefixtures("tiny_recipe")
def test_train_evaluate_and_export_follow_one_another(coloured: Path, tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "colours.onnx"
    trained = call("train", "tiny", "--images", coloured, "--out", run, "--epochs", 1, "--seed", 7)
    assert trained.exit_code == 0, trained.output
    measure = ("--images", coloured, "--queries", coloured, "--k", 1, "--only", "retrieval")
    evaluated = call("evaluate", run, *measure, "--json")
    assert evaluated.exit_code == 0, evaluated.output
    values = json.loads(evaluated.stdout)["retrieval"]
    assert values["codes_knn_top1"] == 1.0
    exported = call("export", run, "--out", model, "--licence", "CC0-1.0")
    assert exported.exit_code == 0, exported.output
    manifest = read_manifest(model)
    assert manifest.name == "colours"
    assert manifest.licence == "CC0-1.0"
    assert manifest.metrics == values
    assert manifest.recipe["seed"] == 7
    again = call("evaluate", model, *measure)
    assert again.exit_code == 0, again.output
    assert "codes" in again.stdout


def test_the_list_names_each_recipe_with_what_it_reproduces_and_its_command() -> None:
    listed = call("train", "--list", "--json")
    assert listed.exit_code == 0, listed.output
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert rows["cifar10-resnet50-bernoulli"]["recipe"]["batch_size"] == 4096
    assert "96.42" in rows["cifar10-resnet50-bernoulli"]["expected"]
    assert all(row["reproduces"] and row["cost"] and row["expected"] for row in rows.values())
    for name, row in rows.items():
        assert name.startswith(row["family"])
        launcher, _, given = row["command"].partition("stochcon train ")
        assert launcher == "" or launcher.startswith("torchrun ")
        assert ("--device cuda" in given) == bool(launcher)
        taken = typer.main.get_command(app).commands["train"].make_context("train", shlex.split(given))
        assert taken.params["recipe"] == name
        assert taken.params["monitor"]  # without which no figure over training can be drawn
    table = call("train", "--list")
    assert table.exit_code == 0
    assert "Figure 5 right" in table.stdout
    assert all(f" {name} " in table.stdout for name in rows)
    assert "stochcon train RECIPE --images cifar10-train.parquet --monitor" in table.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "cifar11", "--images", "x"], "there is no recipe cifar11"),
        (["train", "cifar10-cpu"], "--images is missing"),
        (["train", "cifar10-cpu", "--images", "x", "--json"], "--json is for --list"),
        (["train", "--images", "x"], "a recipe is missing"),
        (["train", "cifar10-cpu", "--images", "missing"], "missing does not exist"),
        (["train", "cifar10-cpu", "--images", "missing", "--epochs", "0"], "--epochs of at least 1"),
        (["train", "cifar10-cpu", "--images", "missing", "--seed", "-1"], "--seed from 0"),
        (["train", "cifar10-cpu", "--images", "missing", "--threads", "0"], "--threads"),
        (["evaluate", "missing.onnx", "--images", "x", "--queries", "x"], "missing.onnx"),
        (["export", "missing", "--out", "model.onnx"], "holds no last.pt"),
    ],
)
def test_wrong_use_is_one_clear_message_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("verb", [command.__name__ for command in cli.VERBS])
def test_exactly_the_options_that_there_are_are_documented(verb: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    _, _, section = text.partition(f"### `stochcon {verb} ")
    documented = set(re.findall(r"^\| `(--[a-z-]+)", section.partition("\n###")[0], flags=re.M))
    command = typer.main.get_command(app).commands[verb]
    there = {name for option in command.params for name in option.opts if name.startswith("--")}
    assert documented == there - {"--json", "--help"}


def test_what_is_made_of_an_unfinished_run_is_said_to_be_so(recipe, coloured: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", recipe.to_dict(), steps=3, num_steps=12)
    make_run(run, recipe)
    images = ("--images", coloured, "--queries", coloured)
    short = ("--epochs", 1, "--batch-size", 16)
    told = f"{run} is not finished: it is at step 3 of 12"
    not_kept = f"{told}; what is found is printed, and not kept"
    for arguments, expected in (
        (("evaluate", run, *images, "--k", 1, "--only", "retrieval"), not_kept),
        (("probe", run, *images, *short), not_kept),
        (("finetune", run, *images, *short, "--out", tmp_path / "tuned"), told),
        (("export", run, "--out", tmp_path / "model.onnx"), told),
    ):
        result = call(*arguments)
        assert result.exit_code == 0, result.output
        assert result.stderr.splitlines()[0] == expected


def test_only_of_a_finished_run_is_kept_what_is_measured(recipe, coloured: Path, tmp_path: Path) -> None:
    images = ("--images", coloured, "--queries", coloured)
    for steps, kept in ((3, set()), (12, {"evaluation.json", "probe.json"})):
        run = write_run(tmp_path / str(steps), recipe.to_dict(), steps=steps, num_steps=12)
        make_run(run, recipe)
        before = {path.name for path in run.iterdir()}
        for arguments in (
            ("evaluate", run, *images, "--k", 1, "--only", "retrieval"),
            ("probe", run, *images, "--epochs", 1, "--batch-size", 16),
        ):
            assert call(*arguments).exit_code == 0
        assert {path.name for path in run.iterdir()} - before == kept


@pytest.mark.usefixtures("tiny_recipe")
def test_a_training_that_is_interrupted_says_how_it_goes_on_and_then_where(
    coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", "tiny", "--images", coloured, "--out", tmp_path / "run", "--checkpoint-every", 0)
    whole = train_module.take_gradients

    def interrupt_the_third(model, chunks, step, *rest):
        if step == 2:
            raise KeyboardInterrupt
        return whole(model, chunks, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "take_gradients", interrupt_the_third)
        stopped = call(*command)
    assert stopped.exit_code == 130
    assert "interrupted: the same command goes on from the last checkpoint" in stopped.stderr.splitlines()
    resumed = call(*command)
    assert resumed.exit_code == 0, resumed.output
    assert re.search(r"^going on after step 2 of \d+$", resumed.stderr, flags=re.M)
    assert "steps are done already" in call(*command).stderr
