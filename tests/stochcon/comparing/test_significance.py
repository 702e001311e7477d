import itertools

import numpy as np
import pytest
from scipy import stats

from stochcon.comparing.significance import Estimate, Paired, mean, paired, share, sign_test


def test_the_sign_test_is_the_share_of_all_falls_of_coins_that_are_as_uneven():
    for num_a, num_b in itertools.product(range(6), repeat=2):
        falls = [sum(coins) for coins in itertools.product((0, 1), repeat=num_a + num_b)]
        uneven = abs(num_a - num_b)
        expected = np.mean([abs(2 * heads - num_a - num_b) >= uneven for heads in falls])
        assert sign_test(num_a, num_b) == pytest.approx(expected)


def test_the_sign_test_of_many_queries_is_scipys():
    for split in [(2400, 2600), (10, 4990), (0, 30), (2500, 2500)]:
        expected = stats.binomtest(split[0], sum(split)).pvalue
        assert sign_test(*split) == pytest.approx(expected, rel=1e-6)
        assert sign_test(*split[::-1]) == sign_test(*split)
    assert sign_test(0, 5000) == 0.0


@pytest.mark.parametrize(("right", "count"), [(0, 10), (3, 10), (10, 10), (1, 1), (812, 1000)])
def test_the_interval_of_a_share_is_scipys(right, count):
    found = share(np.arange(count) < right)
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert found.value == right / count
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low <= found.value <= found.high


def test_the_interval_of_a_mean_is_near_that_of_the_normal_distribution_and_the_same_again():
    values = np.random.default_rng(3).exponential(size=900)
    found = mean(values)
    half = 1.96 * values.std() / 30
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), rel=0.02)
    assert mean(values) == found


def test_a_model_and_itself_are_the_same():
    values = np.random.default_rng(0).random(50)
    assert paired(values, values) == Paired(Estimate(0, 0, 0), 0, 0, 1.0)


def test_each_query_on_which_one_is_better_is_counted():
    found = paired([True, True, False, False, True], [True, False, True, False, False])
    assert (found.num_a_better, found.num_b_better) == (2, 1)
    assert found.difference.value == pytest.approx(-0.2)
    assert found.p == 1.0


@pytest.mark.parametrize(
    ("difference", "wins", "p", "num_tests", "expected"),
    [
        (Estimate(0.2, 0.1, 0.3), (5, 30), 0.001, 1, "b"),
        (Estimate(-0.2, -0.3, -0.1), (30, 5), 0.001, 1, "a"),
        (Estimate(0.2, 0.1, 0.3), (5, 30), 0.03, 1, "b"),
        (Estimate(0.2, 0.1, 0.3), (5, 30), 0.03, 2, None),
        (Estimate(0.2, -0.1, 0.3), (5, 30), 0.001, 1, None),
        (Estimate(-0.2, -0.3, -0.1), (5, 30), 0.001, 1, None),
    ],
    ids=["B", "A", "alone", "one of two", "interval over 0", "many small gains, few great losses"],
)
def test_who_is_better_is_said_only_where_test_and_interval_agree(difference, wins, p, num_tests, expected):
    assert Paired(difference, *wins, p).better(num_tests) == expected
