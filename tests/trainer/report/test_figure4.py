from tests.trainer.report.run_folders import small, write_metrics, write_run
from trainer.report.figure4 import figure_4


def write_counts(folder, ends):
    lines = [
        {"step": 195 * (i + 1), "epoch": i + 1, "train_active_bits": end - 1, "test_active_bits": end}
        for i, end in enumerate(ends)
    ]
    write_metrics(folder, lines)


def test_the_variants_are_on_both_sides_and_the_quarter_on_the_right(made, tmp_path):
    for system, end in (
        ("bernoulli", 900),
        ("bernoulli-hard-top", 800),
        ("bernoulli-soft-bottom", 700),
        ("bernoulli-hard-bottom", 600),
        ("bernoulli-512", 256),
        ("bernoulli-64", 32),
    ):
        write_counts(write_run(tmp_path / system, small(system)), [end + 10, end])
    found = made(figure_4)
    right = {
        "soft-top 2048": [(1, 910), (2, 900)],
        "hard-top 2048": [(1, 810), (2, 800)],
        "soft-bottom 2048": [(1, 710), (2, 700)],
        "hard-bottom 2048": [(1, 610), (2, 600)],
        "soft-top 512": [(1, 266), (2, 256)],
    }
    assert found.lines("figure-4-right") == right
    assert found.lines("figure-4-left") == {
        label: [(x, y - 1) for x, y in line] for label, line in right.items() if label != "soft-top 512"
    }
    assert [line.value for line in found.charts["figure-4-right"].references] == [1024, 256]
    assert found.missing == {}


def test_seeds_are_averaged(made, tmp_path):
    for seed, ends in ((0, [1000, 900]), (1, [1010, 920])):
        write_counts(write_run(tmp_path / str(seed), small("bernoulli", seed=seed)), ends)
    found = made(figure_4)
    assert found.lines("figure-4-right")["soft-top 2048"] == [(1, 1005), (2, 910)]
    assert list(found.missing) == [
        "Figure 4, bernoulli-hard-top",
        "Figure 4, bernoulli-soft-bottom",
        "Figure 4, bernoulli-hard-bottom",
        "Figure 4, bernoulli-512",
    ]


def test_without_monitoring_the_figure_is_missing(made, tmp_path):
    write_metrics(write_run(tmp_path / "a", small("bernoulli")), [{"step": 10, "epoch": 0.1, "loss": 5.0}])
    assert "--monitor" in made(figure_4).missing["Figure 4"]
