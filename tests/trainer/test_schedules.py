import itertools

import pytest

from trainer.schedules import gumbel_temperature, learning_rate, stepped_rate


def test_learning_rate_warms_up_linearly_and_falls_to_zero_by_one_cosine() -> None:
    rates = [learning_rate(step, 100, 10, 2.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[4] == pytest.approx(1.0)
    assert rates[9] == rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.0)  # half of the cosine
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_no_warm_up_starts_at_the_peak() -> None:
    assert learning_rate(0, 10, 0, 0.3) == pytest.approx(0.3)


def test_gumbel_temperature_goes_from_start_to_end_by_half_a_cosine() -> None:
    values = [gumbel_temperature(step, 101, 1.0, 0.1) for step in range(101)]
    assert values[0] == pytest.approx(1.0)
    assert values[50] == pytest.approx(0.55)
    assert values[100] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(values))
    assert gumbel_temperature(0, 1, 1.0, 0.1) == pytest.approx(1.0)


@pytest.mark.parametrize(("num_steps", "num_full"), [(100, 80), (10, 8), (6, 5), (5, 4), (1, 1)])
def test_the_stepped_rate_is_a_tenth_from_four_fifths_of_the_steps_on(num_steps: int, num_full: int) -> None:
    rates = [stepped_rate(step, num_steps, 3e-4) for step in range(num_steps)]
    assert rates == pytest.approx([3e-4] * num_full + [3e-5] * (num_steps - num_full))
