import pytest

from tests.trainer.report.run_folders import small, write, write_metrics, write_probe, write_run
from trainer.report.figure3 import figure_3


@pytest.fixture
def ladder(tmp_path):
    """Opposing variance at 8 and 64 dimensions, own variance at 64."""
    for system, top1, variance in (
        ("gaussian-8", 0.4, 2.0),
        ("gaussian-64", 0.5, 0.5),
        ("gaussian-own-64", 0.3, 0.01),
    ):
        folder = write_run(tmp_path / system, small(system))
        write_probe(folder, {"h": [0.6], "z": [top1]})
        write(folder / "evaluation.json", {"aggregate_variance": variance})
        lines = [{"step": i, "epoch": i / 2, "latent_variance": variance / 2**i} for i in (1, 2)]
        write_metrics(folder, lines)


@pytest.mark.usefixtures("ladder")
def test_top1_and_variance_are_drawn_against_the_width(made):
    found = made(figure_3)
    assert found.lines("figure-3-left") == {
        "h (floats)": [(8, 60), (64, 60)],
        "z (mean)": [(8, 40), (64, 50)],
        "z (mean), variance of the own view": [(64, 30)],
    }
    assert found.lines("figure-3-right") == {
        "variance of the opposing views": [(8, 2.0), (64, 0.5)],
        "variance of the own view": [(64, 0.01)],
    }
    assert found.charts["figure-3-right"].y_scale == "log10"
    assert found.missing == {}


@pytest.mark.usefixtures("ladder")
def test_the_collapse_is_beside_the_run_of_the_same_width(made):
    found = made(figure_3)
    assert found.lines("section-4.2-collapse") == {
        "variance of the opposing views": [(0.5, 0.25), (1.0, 0.125)],
        "variance of the own view": [(0.5, 0.005), (1.0, 0.0025)],
    }


def test_each_of_the_three_is_missing_by_itself(made, tmp_path):
    write_run(tmp_path / "a", small("gaussian"))
    assert set(made(figure_3).missing) == {
        "Figure 3 (left)",
        "Figure 3 (right)",
        "Section 4.2: collapse of the variance",
    }
