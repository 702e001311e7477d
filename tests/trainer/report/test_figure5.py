from tests.trainer.report.run_folders import small, write_fine_tuned, write_metrics, write_run
from trainer.report.figure5 import figure_5


def write_accuracies(folder, top1):
    lines = [{"step": 195 * epoch, "epoch": epoch, "test_top1": found} for epoch, found in enumerate(top1, 1)]
    write_metrics(folder, lines)


def test_the_left_has_a_line_for_each_number_of_epochs_beside_the_papers_best(made, tmp_path):
    for seed, name, top1 in ((0, "a", [0.5, 0.6]), (1, "b", [0.7, 0.8]), (0, "c", [0.5, 0.6, 0.9, 0.8])):
        write_fine_tuned(tmp_path / name, small("simclr", seed=seed), "h", top1)
    found = made(figure_5)
    assert found.lines("figure-5-left") == {
        "4 epochs": [(1, 50), (2, 60), (3, 90), (4, 80)],
        "2 epochs": [(1, 60), (2, 70)],
    }
    chart = found.charts["figure-5-left"]
    assert chart.references[0].value == 94.35
    assert "of 4 epochs, reaches 90.00 %" in chart.caption
    assert "76.37%" in chart.paper


def test_the_right_says_how_far_stochcon_is_ahead(made, tmp_path):
    for seed in (0, 1):
        plain = write_run(tmp_path / f"plain-{seed}", small("supervised", seed=seed))
        write_accuracies(plain, [0.7, 0.8])
        layered = write_run(tmp_path / f"layered-{seed}", small("supervised-bernoulli", seed=seed))
        write_accuracies(layered, [0.6, 0.75 + 0.02 * seed])
    write_fine_tuned(tmp_path / "stochcon", small("bernoulli"), "z", [0.8, 0.775])
    write_fine_tuned(tmp_path / "on-bits", small("bernoulli"), "bits", [0.99])
    found = made(figure_5)
    assert found.lines("figure-5-right") == {
        "Supervised, plain": [(1, 70), (2, 80)],
        "with Gumbel-Bernoulli, dropped with p = 0.5": [(1, 60), (2, 76)],
    }
    chart = found.charts["figure-5-right"]
    assert [round(line.value, 6) for line in chart.references] == [80]
    assert "StochCon is 4.00 points ahead (paper: 1.78 ahead)" in chart.caption


def test_parts_of_the_right_that_are_not_there_are_missing(made, tmp_path):
    write_accuracies(write_run(tmp_path / "a", small("supervised-bernoulli")), [0.5])
    assert list(made(figure_5).missing) == [
        "Figure 5 (left)",
        "Figure 5 (right), plain",
        "Figure 5 (right), StochCon",
    ]
    assert made(figure_5).charts["figure-5-right"].references == ()
