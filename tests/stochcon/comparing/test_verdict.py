from stochcon.comparing.comparison import Score
from stochcon.comparing.significance import Estimate, Paired
from stochcon.comparing.verdict import plain, verdict

NAMES = ("old", "new")


def score(name: str, difference: float, p: float) -> Score:
    """A score on which the sign test and the interval agree."""
    wins = (1, 20) if difference > 0 else (20, 1)
    interval = Estimate(difference, difference - 0.01, difference + 0.01)
    nothing = Estimate(0.5, 0.4, 0.6)
    return Score(name, 100, nothing, nothing, Paired(interval, *wins, p))


def test_the_better_one_is_named_with_what_it_is_better_at():
    scores = [score("20-NN", 0.1, 0.001), score("mAP", 0.05, 0.004), score("recall@1", -0.1, 0.002)]
    assert verdict(NAMES, scores, is_same=False) == (
        "A (old) is better at recall@1 (p = 0.002); "
        "B (new) is better at 20-NN (p = 0.001) and mAP (p = 0.004)."
    )


def test_what_cannot_be_told_is_said():
    scores = [score("20-NN", 0.1, 0.001), score("mAP", 0.05, 0.4), score("recall@1", 0.001, 0.001)]
    assert verdict(NAMES, scores, is_same=False) == (
        "B (new) is better at 20-NN (p = 0.001); no difference can be told in mAP and recall@1."
    )
    assert verdict(NAMES, scores[1:2], is_same=False) == "No difference can be told in mAP."


def test_the_more_is_tested_the_more_is_asked_of_each():
    one = score("20-NN", 0.1, 0.02)
    assert "is better" in verdict(NAMES, [one, one], is_same=False)
    assert "is better" not in verdict(NAMES, [one, one, one], is_same=False)


def test_the_same_network_is_called_that():
    assert "same network" in verdict(NAMES, [score("mAP", 0.1, 0.001)], is_same=True)


def test_nothing_tested_is_said():
    assert "Nothing could be tested" in verdict(NAMES, [], is_same=False)


def test_small_p_values_are_short():
    assert [plain(p) for p in (1.0, 0.0123, 0.00123, 1.23e-7, 1e-150, 0.0)] == [
        "1", "0.012", "0.0012", "1e-07", "below 1e-99", "below 1e-99",
    ]  # fmt: skip
