import dataclasses
import json
from pathlib import Path

import pytest

from tests.tiny_model import write_tiny_model
from tests.trainer.made_runs import make_run
from tests.trainer.report.run_folders import write_run
from tests.trainer.test_cli import call
from trainer.recipe import Recipe, Representation
from trainer.report.runs import read_run


def make(folder: Path, recipe: Recipe, on: Representation | None = None) -> Path:
    write_run(folder, recipe.to_dict())
    make_run(folder, recipe, on)
    return folder


def evaluate(model: Path, images: Path, *options: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, each in one line."""
    result = call("evaluate", model, "--images", images, "--queries", images, "--k", 1, *options)
    return result.exit_code, result.stdout, " ".join(result.stderr.replace("│", " ").split())


def test_everything_that_applies_is_measured_and_kept_as_the_report_reads_it(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    run = make(tmp_path / "run", dataclasses.replace(recipe, num_bits=8))
    code, shown, said = evaluate(run, coloured)
    assert code == 0, said
    assert "codes" in shown
    # 48 images are fewer than a batch of the probe.
    assert "probe: left out, since" in said
    found = read_run(run)
    kept = json.loads((run / "evaluation.json").read_text())
    assert kept["num_queries"] == kept["num_images"] == 48
    assert found.evaluation.codes_map == kept["codes_map"]
    assert found.evaluation.dead_bits == kept["dead_bits"]
    assert {(name, bits) for name, sizes in found.baselines for bits in sizes} == {
        ("floats", 0),
        ("learned", 8),
        ("sign", 128),
        *(("itq", bits) for bits in (32, 64, 128)),
        *(("projection", bits) for bits in (32, 64, 128, 256, 512, 1024, 2048)),
    }
    assert found.baselines.learned[8].map == kept["codes_map"]
    assert found.baselines.floats[0].map == kept["features_map"]
    assert list(found.units.f1) == [1, 2, 3, 4, 6, 8]
    assert json.loads((run / "units.json").read_text())["width"] == 8
    assert found.probe is None


def test_one_measurement_is_made_alone_on_a_sample_of_the_queries(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    run = make(tmp_path / "run", dataclasses.replace(recipe, latent="gaussian"))
    code, shown, said = evaluate(run, coloured, "--only", "retrieval", "--max-queries", 10, "--json")
    assert code == 0, said
    values = json.loads(shown)
    assert list(values) == ["retrieval"]
    assert values["retrieval"]["num_queries"] == 10
    assert values["retrieval"]["num_images"] == 48
    assert json.loads((run / "evaluation.json").read_text()) == values["retrieval"]
    assert {"means_map", "aggregate_variance"} <= set(values["retrieval"])
    assert sorted(path.name for path in run.iterdir()) == ["evaluation.json", "last.pt", "run.json"]


def test_the_probe_is_that_of_stochcon_probe(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    run = make(tmp_path / "run", dataclasses.replace(recipe, latent="none"))
    many = [part for _ in range(6) for part in ("--images", coloured)]  # of a batch
    code, shown, said = evaluate(run, coloured, *many, "--only", "probe")
    assert code == 0, said
    assert "best" in shown
    probe = read_run(run).probe
    assert probe.epochs == 20
    assert list(probe.representations) == ["h"]


def test_what_a_run_lacks_is_left_out_in_a_line_and_refused_where_it_is_asked_for(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    simclr = make(tmp_path / "simclr", dataclasses.replace(recipe, latent="none"))
    code, _, said = evaluate(simclr, coloured, "--only", "units", "--only", "retrieval")
    assert code == 2
    assert "has no units to measure, since it has no latent: leave out --only units" in said
    assert not (simclr / "evaluation.json").exists()
    tuned = make(tmp_path / "tuned", dataclasses.replace(recipe, num_bits=512), "z")
    code, shown, said = evaluate(tuned, coloured)
    assert code == 0, said
    assert "top-1 of its own layer" in shown
    assert "probe: left out, since it is fine-tuned" in said
    assert (
        "units: left out, since forests on 512 units take an hour or more: ask for it by --only units" in said
    )
    assert 0 <= json.loads((tuned / "evaluation.json").read_text())["top1"] <= 1


def test_of_an_exported_file_retrieval_alone_is_measured(coloured: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    path = write_tiny_model(tmp_path / "models" / "tiny.onnx")
    code, shown, said = evaluate(path, coloured, "--json")
    assert code == 0, said
    assert json.loads(shown)["retrieval"]["num_queries"] == 48
    for measure in ("baselines", "units", "probe"):
        assert f"{measure}: left out, since it is an exported file" in said
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny.onnx"]
    code, _, said = evaluate(path, coloured, "--device", "cuda")  # where it would not have been run
    assert code == 2
    assert "an exported file, which is run on the CPU: leave out --device" in said


@pytest.mark.parametrize("measure", ["retrieval", "baselines"])
def test_more_neighbours_than_there_are_images_is_wrong_use(
    measure: str, recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    run = make(tmp_path / "run", recipe)
    code, _, said = evaluate(run, coloured, "--k", 49, "--only", measure)
    assert code == 2
    assert "k is 49 and the gallery has 48 images" in said
