import dataclasses
import json
import platform
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.trainer.made_runs import make_run
from tests.trainer.offered import offer
from trainer import checkpoint as checkpoints
from trainer import cli
from trainer.precision import decide, has_bf16
from trainer.recipe import Recipe

app = typer.Typer(pretty_exceptions_enable=False)
for command in cli.VERBS:
    app.command()(command)

NATIVE = "bf16" if has_bf16("cpu") else "fp32"
"""What a recipe's bf16 becomes on this machine."""


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def recipe(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe that the commands find: in bf16, as those of the catalogue."""
    recipe = dataclasses.replace(recipe, precision="bf16", epochs=1, batch_size=24)
    offer(recipe, monkeypatch)
    return recipe


def test_what_is_asked_for_is_obeyed_in_silence() -> None:
    for wanted in ("bf16", "fp32"):
        for kept in (None, "bf16", "fp32"):
            assert decide(wanted, "bf16", "cpu", kept) == (wanted, "")


def test_a_recipe_in_fp32_stays_so_on_every_device() -> None:
    assert decide("auto", "fp32", "cpu") == ("fp32", "")


def test_a_run_goes_on_as_it_began() -> None:
    assert decide("auto", "bf16", "cpu", "bf16") == ("bf16", "")
    assert decide("auto", "bf16", "cpu", "fp32") == ("fp32", "precision fp32, in which this run began")
    assert decide("auto", "fp32", "cpu", "bf16")[0] == "bf16"


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="where the kernel names the units"
)
def test_a_processor_has_bf16_where_the_kernel_names_a_unit_for_it() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0].split())
    assert has_bf16("cpu") == bool(flags & {"avx512_bf16", "amx_bf16"})


def test_training_takes_what_the_device_has_and_keeps_it_as_the_runs_own(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    done = call("train", "tiny", "--images", coloured, "--out", tmp_path / "run")
    assert checkpoints.load(tmp_path / "run").recipe == dataclasses.replace(recipe, precision=NATIVE)
    assert json.loads((tmp_path / "run/run.json").read_text())["recipe"]["precision"] == NATIVE
    said = [line for line in done.stderr.splitlines() if line.startswith("precision ")]
    assert len(said) == (0 if NATIVE == "bf16" else 1)
    assert all("no bf16 units; --precision bf16 insists" in line for line in said)


@pytest.mark.parametrize("began", ["bf16", "fp32"])
@pytest.mark.usefixtures("recipe")
def test_training_goes_on_in_the_precision_that_it_began_with(
    coloured: Path, tmp_path: Path, began: str
) -> None:
    arguments = ["train", "tiny", "--images", coloured, "--out", tmp_path / "run"]
    call(*arguments, "--precision", began)
    again = call(*arguments)
    assert checkpoints.load(tmp_path / "run").recipe.precision == began
    assert ("precision fp32, in which this run began" in again.stderr) == (began == "fp32")


@pytest.mark.parametrize("began", ["bf16", "fp32"])
def test_fine_tuning_goes_on_in_the_precision_that_it_began_with(
    recipe: Recipe, coloured: Path, tmp_path: Path, began: str
) -> None:
    make_run(tmp_path / "run", recipe)
    images = ["--images", coloured, "--queries", coloured, "--epochs", 1, "--batch-size", 48]
    arguments = ["finetune", tmp_path / "run", *images, "--out", tmp_path / "tuned"]
    call(*arguments, "--precision", began)
    call(*arguments)
    assert json.loads((tmp_path / "tuned/finetune.json").read_text())["precision"] == began


def test_fine_tuning_and_probes_take_what_the_device_has(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    make_run(tmp_path / "run", recipe)
    images = ["--images", coloured, "--queries", coloured, "--epochs", 1, "--batch-size", 48]
    tuned = call("finetune", tmp_path / "run", *images, "--out", tmp_path / "tuned")
    assert json.loads((tmp_path / "tuned/finetune.json").read_text())["precision"] == NATIVE
    probed = call("probe", tmp_path / "run", *images)
    assert json.loads((tmp_path / "run/probe.json").read_text())["precision"] == NATIVE
    for done in (tuned, probed):
        assert done.stderr.count("precision fp32, since") == (0 if NATIVE == "bf16" else 1)
