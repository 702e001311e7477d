from tests.trainer.report.run_folders import (
    small,
    write,
    write_fine_tuned,
    write_metrics,
    write_regression,
    write_run,
)
from trainer.report.tables import codes, efforts, regressions


def rows(table):
    return [[" | ".join(filter(None, (cell.text, cell.detail))) for cell in row] for row in table.rows]


def test_codes_have_means_and_ranges_and_dashes_for_what_does_not_apply(made, tmp_path):
    for seed in (0, 1):
        folder = write_run(tmp_path / f"run-{seed}", small("bernoulli-64", seed=seed))
        values = {
            "codes_knn_top1": 0.5 + 0.1 * seed,
            "codes_map": 0.2,
            "active_bits": 30.0 + 4 * seed,
            "dead_bits": 0.0,
        }
        write(folder / "evaluation.json", values)
    folder = write_run(tmp_path / "gaussian", small("gaussian"))
    write(folder / "evaluation.json", {"features_map": 0.25, "aggregate_variance": 0.1234})
    assert rows(made(codes).tables["codes"]) == [
        [
            "StochCon Bernoulli | soft-top 64, 15 epochs",
            *("55.0 | 50.0 to 60.0", "–", "20.0 | 20.0 to 20.0", "–"),
            *("32 | 30 to 34", "–", "0 | 0 to 0", "–"),
        ],
        ["StochCon Iso-Gauss | 2048, 15 epochs", "–", "–", "–", "25.0", "–", "–", "–", "0.123"],
    ]


def test_regressions_are_beside_always_saying_the_mean(made, tmp_path):
    folder = write_run(tmp_path / "run", small("bernoulli"))
    write_regression(folder, "brightness", {"h": [0.75, 0.7], "bits": [0.2, 0.5]}, mae=0.1)
    assert rows(made(regressions).tables["regression"]) == [
        [
            "StochCon Bernoulli | soft-top 2048, 15 epochs",
            *("h (floats)", "0.750", "0.700", "0.100", "0.400"),
        ],
        ["", "hard bits", "0.500", "0.500", "0.100", "0.400"],
    ]


def test_every_run_is_listed_with_its_machine_and_its_time(made, tmp_path):
    recipe = small("bernoulli", seed=3, epochs=2)
    folder = write_run(tmp_path / "a", recipe, seconds=5400.0)
    speeds = [
        {"images_per_s": speed, "data_wait": wait} for speed, wait in ((90, 0.01), (100, 0.02), (300, 0.06))
    ]
    write_metrics(folder, [{"step": i, "epoch": i} | line for i, line in enumerate(speeds)])
    write_fine_tuned(tmp_path / "b", recipe, "z", [0.5] * 7)
    write_run(tmp_path / "c", small("simclr"), steps=1234, num_steps=5678)
    machine, images = "AMD EPYC 9R45, 2 cores; 1 thread, 1 rank", "CIFAR-10 | 50,000 images"
    name = "cifar10-small-bernoulli, soft-top 2048"
    assert rows(made(efforts).tables["runs"]) == [
        [f"a | {name}", images, machine, "3", "2", "1.50", "100", "3.0 %"],
        [f"b | {name}, fine-tuned on z", images, machine, "3", "7", "0.50", "–", "–"],
        [
            "c | cifar10-small-simclr, not finished: step 1,234 of 5,678",
            *(images, machine, "0", "15", "0.50", "–", "–"),
        ],
    ]


def test_what_was_not_measured_is_missing(made, tmp_path):
    folder = write_run(tmp_path / "a", small("simclr"))
    options = "--images TRAIN --queries TEST"
    assert made(codes).missing == {"Entropy and dead bits": f"stochcon evaluate {folder} {options}"}
    assert made(regressions).missing == {"Regression": f"stochcon probe {folder} {options} --target COLUMN"}
