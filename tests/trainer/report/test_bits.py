from tests.trainer.report.run_folders import small, write, write_run
from trainer.report.bits import bits_against_quality


def quality(top1, mean_ap):
    return {"knn_top1": top1, "map": mean_ap, "recall_at_1": 0.5}


def test_learned_bits_stand_beside_codes_of_simclr_and_of_their_own_h(made, tmp_path):
    simclr = write_run(tmp_path / "simclr", small("simclr"))
    sizes = {"32": quality(0.4, 0.2), "64": quality(0.5, 0.25), "8192": quality(0.9, 0.9)}
    write(simclr / "baselines.json", {"floats": {"0": quality(0.6, 0.3)}, "pq": sizes})
    wide = write_run(tmp_path / "wide", small("bernoulli"))
    own = {"learned": {"2048": quality(0.55, 0.28)}, "itq": {"32": quality(0.3, 0.1)}}
    write(wide / "baselines.json", own)
    # Without baselines of its own a run's codes are in its evaluation.
    narrow = write_run(tmp_path / "narrow", small("bernoulli-64"))
    write(narrow / "evaluation.json", {"codes_knn_top1": 0.45, "codes_map": 0.22})
    write(write_run(tmp_path / "byte", small("bernoulli-8")) / "evaluation.json", {"codes_map": 0.1})

    found = made(bits_against_quality)
    learned = [(64, 45), (2048, 55)]
    assert found.lines("bits-simclr-knn-top1") == {
        "learned, soft-top": learned,
        "product quantisation": [(32, 40), (64, 50)],
    }
    assert found.lines("bits-simclr-map")["learned, soft-top"] == [(64, 22), (2048, 28)]
    assert found.lines("bits-bernoulli-knn-top1") == {"learned, soft-top": learned, "ITQ": [(32, 30)]}
    assert [line.label for line in found.charts["bits-simclr-map"].references] == [
        "SimCLR's h as floats: 30.0"
    ]
    assert "(soft-top 2048)" in found.charts["bits-bernoulli-map"].caption


def test_seeds_are_averaged_and_other_budgets_are_apart(made, tmp_path):
    for name, changes, top1 in (("a", {}, 0.4), ("b", {"seed": 1}, 0.5), ("c", {"epochs": 4}, 0.1)):
        folder = write_run(tmp_path / name, small("simclr", **changes))
        write(folder / "baselines.json", {"projection": {"32": quality(top1, 0.2)}})
    found = made(bits_against_quality)
    assert found.lines("bits-simclr-knn-top1") == {"random projection": [(32, 45)]}
    assert found.lines("bits-simclr-knn-top1-2") == {"random projection": [(32, 10)]}


def test_without_baselines_the_command_is_named(made, tmp_path):
    folder = write_run(tmp_path / "a", small("simclr"))
    assert made(bits_against_quality).missing["Bits against quality"] == (
        f"stochcon evaluate {folder} --images TRAIN --queries TEST --only baselines"
    )
