import json
from pathlib import Path

import pytest

from tests.trainer.report.run_folders import (
    small,
    write,
    write_fine_tuned,
    write_metrics,
    write_probe,
    write_regression,
    write_run,
    write_units,
)
from trainer.report.runs import read_run, read_runs


def test_a_run_is_read_with_all_that_was_measured_of_it(tmp_path: Path) -> None:
    recipe = small("bernoulli-64", epochs=4, seed=3)
    folder = write_run(tmp_path / "run", recipe, seconds=7200.0)
    write_metrics(folder, [{"step": 10, "epoch": 0.05, "loss": 6.5}])
    write_probe(folder, {"h": [0.4, 0.6, 0.5], "bits": [0.3, 0.3, 0.35]})
    write_regression(folder, "brightness", {"h": [0.5, 0.7]}, mae=0.1)
    write_units(folder, {1: 0.1, 64: 0.4}, recipe)
    write(folder / "evaluation.json", {"codes_map": 0.25, "dead_bits": 3.0, "k": 20})
    write(folder / "baselines.json", {"pq": {"32": {"knn_top1": 0.5, "map": 0.2, "recall_at_1": 0.4}}})

    run = read_run(folder)
    assert (run.setup.num_bits, run.setup.seed, run.dataset) == (64, 3, "CIFAR-10")
    assert run.metrics == ({"step": 10, "epoch": 0.05, "loss": 6.5},)
    assert (run.probe.representations["h"].best, run.probe.representations["h"].last) == (0.6, 0.5)
    assert run.regressions["brightness"].representations["h"].mae == (0.11, 0.1)
    assert run.units.f1[64].mean == 0.4
    assert (run.evaluation.codes_map, run.evaluation.features_map) == (0.25, None)
    assert run.baselines.pq[32].knn_top1 == 0.5
    assert run.finished


def test_a_folder_of_runs_stands_for_the_runs_in_it(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"seed-{seed}", small("simclr", seed=seed))
    (tmp_path / "locks").mkdir()
    runs = read_runs([tmp_path, tmp_path / "seed-1", tmp_path / ".." / tmp_path.name])
    assert [run.folder.name for run in runs.trained] == ["seed-0", "seed-1"]


def test_a_run_that_is_not_finished_is_apart_from_the_others(tmp_path: Path) -> None:
    recipe = small("simclr")
    write_run(tmp_path / "trained", recipe)
    write_run(tmp_path / "half", small("gaussian"), steps=1)
    # Before its first epoch a fine-tuned model has no finetune.json, and looks like the run it goes on from.
    write_run(tmp_path / "just-begun", recipe, steps=1)
    write_fine_tuned(tmp_path / "tuned", recipe, "h", [0.5, 0.6])
    killed = write_fine_tuned(tmp_path / "killed", recipe, "h", [0.5, 0.6, 0.7])
    write(killed / "finetune.json", json.loads((killed / "finetune.json").read_text()) | {"epochs": 4})
    runs = read_runs([tmp_path])
    assert [run.folder.name for run in runs.trained] == ["trained"]
    assert [run.folder.name for run in runs.fine_tuned] == ["tuned"]
    assert [run.folder.name for run in runs.unfinished] == ["half", "just-begun", "killed"]


def test_a_last_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", small("simclr"))
    (folder / "metrics.jsonl").write_text('{"step": 1, "epoch": 1, "loss": 2}\n{"step": 2, "ep')
    assert [line["step"] for line in read_run(folder).metrics] == [1]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("run.json", "{", "run.json is damaged: its content: Invalid JSON"),
        ("run.json", '{"format": 1}', "run.json is damaged: recipe: Field required"),
        (
            "probe.json",
            '{"epochs": 1, "representations": {"h": {"top1": [1.5]}}}',
            "h.top1.0: Input should be",
        ),
        ("probe.json", '{"epochs": 1, "representations": {}}', "representations: Dictionary should have"),
        ("probe-x.json", '{"epochs": 1, "representations": {}}', "probe-x.json is damaged: baseline_mae"),
        ("evaluation.json", '{"codes_map": "high"}', "evaluation.json is damaged: codes_map"),
        ("evaluation.json", '{"dead_bits": NaN}', "dead_bits: Input should be a finite number"),
        ("baselines.json", '{"pq": {"many": {}}}', "baselines.json is damaged: pq.many"),
        ("units.json", '{"folds": 5, "f1": {"1": {"mean": 0.5}}}', "units.json is damaged: f1.1.std"),
        ("finetune.json", "[]", "finetune.json is damaged"),
        ("metrics.jsonl", '{"step": 1, "epoch": 1}\n{"step": 2\n', "metrics.jsonl is damaged: line 2"),
        ("metrics.jsonl", '{"step": 1}\n', "line 1 has no epoch"),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(file: str, text: str, message: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", small("simclr"))
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match="damaged") as refused:
        read_run(folder)
    assert message in str(refused.value)
    assert str(folder / file) in str(refused.value)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no run.json, nor has a folder in it"):
        read_runs([tmp_path])
    folder = write_run(tmp_path / "run", small("simclr"), format=2)
    with pytest.raises(ValueError, match="format"):
        read_runs([folder])


def test_one_run_in_two_folders_is_refused_since_it_would_count_as_two_seeds(tmp_path: Path) -> None:
    write_run(tmp_path / "a", small("simclr"))
    write_run(tmp_path / "b", small("simclr", name="of-another-name"))
    with pytest.raises(ValueError, match="the same run"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("command", "dataset"),
    [
        ("stochcon train cifar10-small-simclr --images data/tiny-imagenet/train.parquet", "Tiny ImageNet"),
        ("stochcon train x --images=/data/ImageNet/train", "ImageNet"),
        ("stochcon train x --images cifar100/train.parquet", "CIFAR-100"),
        ("", "CIFAR-10"),
        ("stochcon train x --images '", "CIFAR-10"),
    ],
)
def test_images_are_called_by_their_path_or_else_by_the_recipe(
    command: str, dataset: str, tmp_path: Path
) -> None:
    assert read_run(write_run(tmp_path / "run", small("simclr"), command=command)).dataset == dataset


def test_unknown_images_are_called_by_their_path(tmp_path: Path) -> None:
    command = "stochcon train mine --images /home/me/photos/summer --images b.tar"
    run = read_run(write_run(tmp_path / "run", small("simclr", name="mine"), command=command))
    assert run.dataset == "photos/summer, b.tar"
