import json
from pathlib import Path

from tests.trainer.report.run_folders import (
    small,
    write,
    write_fine_tuned,
    write_metrics,
    write_probe,
    write_run,
)
from trainer.report import paper
from trainer.report.content import Missing, Table
from trainer.report.runs import read_runs
from trainer.report.table1 import table_1


def texts(table: Table) -> list[list[str]]:
    return [
        [f"{cell.text} ({cell.detail})" if cell.detail else cell.text for cell in row] for row in table.rows
    ]


def tables_of(folder: Path) -> list[Table]:
    return [part for part in table_1(read_runs([folder])) if isinstance(part, Table)]


def missing_of(folder: Path) -> dict[str, str]:
    return {part.what: part.command for part in table_1(read_runs([folder])) if isinstance(part, Missing)}


def test_the_papers_table_is_printed_as_it_is(tmp_path: Path) -> None:
    write_probe(write_run(tmp_path / "run", small("simclr")), {"h": [0.5]})
    theirs, _ = tables_of(tmp_path)
    assert texts(theirs) == [
        ["StochCon Bernoulli", "96.42", "91.96", "77.49", "67.00", "80.24", "64.25"],
        ["StochCon Iso-Gauss", "96.08", "92.40", "–", "–", "–", "–"],
        ["Supervised", "95.00", "–", "76.13", "–", "78.34", "–"],
        ["SimCLR", "94.35", "91.67", "76.37", "71.34", "79.82", "73.52"],
    ]
    bold = [cell.text for row in theirs.rows for cell in row if cell.strong]
    assert bold == ["96.42", "77.49", "80.24", "92.40", "71.34", "73.52"]


def test_means_and_ranges_over_seeds_stand_beside_the_papers_numbers(tmp_path: Path) -> None:
    for seed, end in ((0, 0.60), (1, 0.64)):
        recipe = small("bernoulli", epochs=10, seed=seed)
        folder = write_run(tmp_path / f"run-{seed}", recipe)
        write_probe(folder, {"h": [0.7, end], "z": [end + 0.02, end], "bits": [0.5, 0.55]})
        write_fine_tuned(tmp_path / f"tuned-{seed}", recipe, "z", [0.8, 0.9 + 0.01 * seed, 0.9])
    write_probe(write_run(tmp_path / "shorter", small("bernoulli", epochs=4)), {"z": [0.99]})
    _, ours = tables_of(tmp_path)
    assert ours.title == "Table 1, ours: CIFAR-10, ResNet-18"
    name = "StochCon Bernoulli (soft-top 2048, 10 epochs)"
    assert texts(ours) == [
        [
            name,
            "h (floats) (probed 2 epochs)",
            *("–", "–", "–"),
            *("–", "70.00 (70.00 to 70.00)", "62.00 (60.00 to 64.00)"),
        ],
        [
            "",
            "relaxed z (tuned 3, probed 2 epochs)",
            *("96.42", "90.50 (90.00 to 91.00)", "90.00 (90.00 to 90.00)"),
            *("91.96", "64.00 (62.00 to 66.00)", "62.00 (60.00 to 64.00)"),
        ],
        [
            "",
            "hard bits (probed 2 epochs)",
            *("–", "–", "–"),
            *("–", "55.00 (55.00 to 55.00)", "55.00 (55.00 to 55.00)"),
        ],
    ]
    assert "(1 other settings are not)" in ours.caption


def test_of_several_numbers_of_epochs_the_best_fine_tuning_counts(tmp_path: Path) -> None:
    recipe = small("simclr")
    write_fine_tuned(tmp_path / "short", recipe, "h", [0.7, 0.8])
    write_fine_tuned(tmp_path / "long", recipe, "h", [0.7, 0.75, 0.79])
    _, ours = tables_of(tmp_path)
    assert texts(ours)[0][1:5] == ["h (floats) (tuned 2 epochs)", "94.35", "80.00", "80.00"]


def test_sampled_z_has_a_row_of_its_own(tmp_path: Path) -> None:
    recipe = small("bernoulli")
    write_probe(write_run(tmp_path / "run", recipe), {"z": [0.6], "z_sampled": [0.5]})
    tuned = write_fine_tuned(tmp_path / "tuned", recipe, "z", [0.8]) / "finetune.json"
    write(tuned, json.loads(tuned.read_text()) | {"sampled": {"top1": [0.7]}})
    _, ours = tables_of(tmp_path)
    name = "(tuned 1, probed 1 epochs)"
    assert [row[1:] for row in texts(ours)] == [
        [f"relaxed z {name}", "96.42", "80.00", "80.00", "91.96", "60.00", "60.00"],
        [f"relaxed z, sampled {name}", "–", "70.00", "70.00", "–", "50.00", "50.00"],
    ]


def test_a_supervised_network_has_its_own_classifier(tmp_path: Path) -> None:
    watched = write_run(tmp_path / "watched", small("supervised"))
    write_metrics(watched, [{"step": i, "epoch": i, "test_top1": top1} for i, top1 in enumerate((0.8, 0.75))])
    layered = write_run(tmp_path / "layered", small("supervised-bernoulli"))
    write(layered / "evaluation.json", {"top1": 0.5})
    _, ours = tables_of(tmp_path)
    assert [row[1:5] for row in texts(ours)] == [
        ["classifier", "95.00", "80.00", "75.00"],
        ["classifier", "–", "–", "50.00"],
    ]


def test_each_data_set_has_a_table_and_tiny_imagenet_stands_beside_imagenet(tmp_path: Path) -> None:
    write_probe(write_run(tmp_path / "cifar", small("simclr")), {"h": [0.5]})
    command = "stochcon train x --images tiny-imagenet/train.parquet"
    write_probe(write_run(tmp_path / "tiny", small("simclr"), images="ab", command=command), {"h": [0.2]})
    _, cifar, tiny = tables_of(tmp_path)
    assert texts(cifar)[0][5:7] == ["91.67", "50.00"]
    assert texts(tiny)[0][5:7] == ["71.34", "20.00"]
    assert paper.column_of("photos", 18) is None


def test_what_is_missing_is_said_with_its_command(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", small("simclr"))
    assert missing_of(tmp_path) == {
        "Table 1, our numbers": f"stochcon probe {folder} --images TRAIN --queries TEST"
    }
    write_probe(folder, {"h": [0.5]})
    missing = missing_of(tmp_path)
    assert set(missing) == {
        "StochCon Bernoulli on CIFAR-10, fine-tuned",
        "StochCon Bernoulli on CIFAR-10, frozen",
        "StochCon Iso-Gauss on CIFAR-10, fine-tuned",
        "StochCon Iso-Gauss on CIFAR-10, frozen",
        "Supervised on CIFAR-10, fine-tuned",
        "SimCLR on CIFAR-10, fine-tuned",
    }
    assert missing["SimCLR on CIFAR-10, fine-tuned"] == (
        f"stochcon finetune {folder} --images TRAIN --queries TEST --on h --out FOLDER"
    )
    assert missing["StochCon Iso-Gauss on CIFAR-10, frozen"] == (
        "stochcon train cifar10-small-gaussian --images TRAIN --monitor TEST; "
        "then stochcon probe RUN --images TRAIN --queries TEST"
    )
