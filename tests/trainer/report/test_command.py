import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.trainer.offered import offer
from tests.trainer.report.run_folders import small, write, write_probe, write_run, write_units
from trainer import cli
from trainer.commands.report import report
from trainer.recipe import Recipe
from trainer.report.groups import backbone
from trainer.report.runs import read_runs
from trainer.units import UnitCurve

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(report)
everything = typer.Typer(pretty_exceptions_enable=False)
for verb in cli.VERBS:
    everything.command()(verb)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two widths with probes and a forest, and a run that is not finished."""
    folder = tmp_path / "runs"
    for bits, top1 in ((8, 0.4123), (64, 0.5678)):
        recipe = small(f"bernoulli-{bits}")
        run = write_run(folder / str(bits), recipe)
        write_probe(run, {"h": [0.6], "z": [top1]})
        write_units(run, {1: 0.1, bits: 0.3}, recipe)
    write_run(folder / "half", small("simclr"), steps=1)
    return folder


def test_the_page_has_the_pictures_and_the_numbers_of_the_files(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call(runs, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["page"] == str(out / "report.html")
    assert [Path(path).name for path in told["pictures"]] == ["figure-2-left.png", "figure-2-right.png"]
    assert told["unfinished"] == [str(runs / "half")]
    assert {"Figure 3 (left)", "Figure 4", "Figure 5 (right)"} <= {part["what"] for part in told["missing"]}

    text = (out / "report.html").read_text("utf-8")
    held = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    pictures = [base64.b64decode(picture) for picture in held]
    assert pictures == [Path(path).read_bytes() for path in told["pictures"]]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert "<td>41.23</td>" in text
    assert "<td>56.78</td>" in text
    assert f"Not finished, and therefore in no figure: {runs / 'half'}." in text


def test_it_needs_no_torch(runs: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from stochcon.cli import run\n"
        f"assert run(['report', {str(runs)!r}, '--out', {str(tmp_path / 'out')!r}]) == 0\n"
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out' / 'report.html'} and 2 pictures\n"
    assert "missing: Figure 4: no Bernoulli run" in done.stderr
    assert f"{runs / 'half'} is not finished, and in no figure\n" in done.stderr


def test_wrong_use_is_one_clear_message_and_exit_code_2(runs: Path, tmp_path: Path) -> None:
    (runs / "8" / "probe.json").write_text("{")
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (["nowhere", "--out", tmp_path / "out"], "nowhere has no run.json"),
        ([runs, "--out", tmp_path / "out"], "probe.json is damaged"),
        ([runs / "64", "--out", tmp_path / "file"], "is a file: give another folder as --out"),
        ([runs], "Missing option '--out'"),
    ):
        done = call(*arguments)
        assert done.exit_code == 2, done.output
        assert message.replace(" ", "") in re.sub(r"[\s│]+", "", done.stderr)  # typer breaks lines
    assert not (tmp_path / "out").exists()


def test_it_reads_what_the_other_verbs_write(
    recipe: Recipe, coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(recipe, monkeypatch)
    run, tuned, labelled = tmp_path / "runs" / "run", tmp_path / "runs" / "tuned", ["--queries", coloured]
    images = ["--images", coloured, "--threads", 1]
    for arguments in (
        ["train", "tiny", *images, "--monitor", coloured, "--out", run, "--epochs", 1],
        ["probe", run, *images, *labelled, "--epochs", 1, "--batch-size", 16],
        ["evaluate", run, *images, *labelled, "--k", 1, "--only", "retrieval", "--only", "baselines"],
        ["finetune", run, *images, *labelled, "--out", tuned, "--epochs", 1, "--batch-size", 16],
        ["report", tmp_path / "runs", "--out", tmp_path / "out"],
    ):
        done = CliRunner().invoke(everything, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
    curve = UnitCurve(num_images=48, folds=5, mean={1: 0.5, 64: 0.75}, std={1: 0.1, 64: 0.2})
    write(run / "units.json", curve.to_dict())

    runs = read_runs([tmp_path / "runs"])
    (trained,), (fine_tuned,) = runs.trained, runs.fine_tuned
    probed, kept = json.loads((run / "probe.json").read_text()), trained.probe.representations
    assert {name: scores.last for name, scores in kept.items()} == {
        name: scores["last"] for name, scores in probed["representations"].items()
    }
    assert fine_tuned.fine_tuning.best == json.loads((tuned / "finetune.json").read_text())["best"]
    assert backbone(fine_tuned) == backbone(trained)
    assert trained.evaluation.codes_knn_top1 == trained.baselines.learned[64].knn_top1
    assert {32, 64} <= set(trained.baselines.projection)
    assert trained.units.f1[64].mean == 0.75
    pictures = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert {"figure-4-left", "figure-4-right", "bits-bernoulli-map", "training-loss"} <= pictures
