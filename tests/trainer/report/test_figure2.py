from tests.trainer.report.run_folders import small, write_probe, write_run, write_units
from trainer.report.figure2 import figure_2


def test_the_left_has_the_best_epoch_against_the_width_and_lists_the_last(made, tmp_path):
    for bits, seed, top1 in ((8, 0, 0.3), (8, 1, 0.4), (64, 0, 0.5)):
        folder = write_run(tmp_path / f"{bits}-{seed}", small(f"bernoulli-{bits}", seed=seed))
        write_probe(folder, {"h": [0.6, 0.55], "z": [top1, top1 - 0.1], "bits": [0.2, 0.25]})
    found = made(figure_2)
    assert found.lines("figure-2-left") == {
        "h (floats)": [(8, 60), (64, 60)],
        "relaxed z": [(8, 35), (64, 50)],
        "hard bits": [(8, 25), (64, 25)],
    }
    chart = found.charts["figure-2-left"]
    narrow = chart.lines[1].points[0].y
    assert (round(narrow.low, 6), round(narrow.high, 6), narrow.count) == (30, 40, 2)
    assert [round(point.y.mean, 6) for point in chart.undrawn[1].points] == [25, 40]
    assert "2 epochs" in chart.caption
    assert "robust to variadic sized latents" in chart.paper


def test_probes_of_other_lengths_are_not_joined_by_a_line(made, tmp_path):
    write_probe(write_run(tmp_path / "a", small("bernoulli-8")), {"z": [0.5]})
    write_probe(write_run(tmp_path / "b", small("bernoulli-64")), {"z": [0.5, 0.6]})
    assert made(figure_2).charts == {}


def test_a_ladder_without_probes_is_missing_and_asks_for_them(made, tmp_path):
    for bits in (8, 64):
        write_run(tmp_path / str(bits), small(f"bernoulli-{bits}"))
    assert made(figure_2).missing["Figure 2 (left)"] == (
        f"stochcon probe {tmp_path / '64'} --images TRAIN --queries TEST (and for 1 more)"
    )


def test_the_right_has_a_line_for_each_latent_beside_the_papers_eleven_bits(made, tmp_path):
    curves = {"bernoulli-64": {1: 0.1, 11: 0.4, 64: 0.5}, "gaussian-64": {1: 0.2, 64: 0.6}}
    for system, curve in curves.items():
        recipe = small(system)
        write_units(write_run(tmp_path / system, recipe), curve, recipe, std=0.02)
    found = made(figure_2)
    assert found.lines("figure-2-right") == {
        "Bernoulli soft-top 64": [(1, 0.1), (11, 0.4), (64, 0.5)],
        "Gaussian 64": [(1, 0.2), (64, 0.6)],
    }
    chart = found.charts["figure-2-right"]
    assert [(line.value, line.axis) for line in chart.references] == [(11, "x")]
    assert "at most 0.020" in chart.caption
    assert list(found.missing) == ["Figure 2 (left)"]


def test_a_latent_without_a_forest_is_missing(made, tmp_path):
    recipe = small("bernoulli-64")
    write_units(write_run(tmp_path / "a", recipe), {1: 0.1, 2: 0.2}, recipe)
    folder = write_run(tmp_path / "b", small("gaussian-64"))
    assert made(figure_2).missing["Figure 2 (right), Gaussian"] == (
        f"stochcon evaluate {folder} --images TRAIN --queries TEST --only units"
    )
