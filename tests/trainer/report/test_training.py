from tests.trainer.report.run_folders import small, write_metrics, write_run
from trainer.report.training import training_curves


def write_losses(folder, losses):
    write_metrics(folder, [{"step": i, "epoch": i / 100, "loss": loss} for i, loss in enumerate(losses, 1)])


def test_losses_are_averaged_over_seeds_and_kinds_of_loss_are_apart(made, tmp_path):
    write_losses(write_run(tmp_path / "a", small("simclr")), [4.0, 2.0])
    write_losses(write_run(tmp_path / "b", small("simclr", seed=1)), [5.0, 3.0, 1.0])
    write_losses(write_run(tmp_path / "c", small("bernoulli-64")), [6.0])
    write_losses(write_run(tmp_path / "d", small("supervised")), [1.5])
    found = made(training_curves)
    assert found.lines("training-loss") == {
        "StochCon Bernoulli soft-top 64": [(0.01, 6)],
        "SimCLR": [(0.01, 4.5), (0.02, 2.5)],
    }
    assert found.charts["training-loss-2"].title == "Training loss, with labels"


def test_a_long_curve_is_thinned_by_averaging_neighbours(made, tmp_path):
    write_losses(write_run(tmp_path / "a", small("simclr")), [1.0, 3.0] * 100)
    assert made(training_curves).lines("training-loss")["SimCLR"] == [(i / 50, 2) for i in range(1, 101)]


def test_seeds_that_reported_at_other_epochs_are_not_mixed(made, tmp_path):
    write_losses(write_run(tmp_path / "a", small("simclr")), [4.0])
    other = write_run(tmp_path / "b", small("simclr", seed=1))
    write_metrics(other, [{"step": 7, "epoch": 0.07, "loss": 9.0}])
    assert made(training_curves).lines("training-loss")["SimCLR"] == [(0.01, 4)]
