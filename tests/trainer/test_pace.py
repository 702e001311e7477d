import pytest

from trainer.pace import Pace


class Clock:
    """Goes on only when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_every_tenth_step_and_the_last_one_are_reported() -> None:
    pace = Pace(0, 33, 16, 60)
    assert [done for done in range(1, 34) if pace.report_is_due(done)] == [10, 20, 30, 33]


def test_speed_is_that_since_the_last_report_and_of_a_resumed_run_since_it_went_on(clock: Clock) -> None:
    pace = Pace(7, 33, 16, 60, clock)
    clock.now_s += 4
    assert pace.since_report(10, wait_s=1.0) == {"images_per_s": 3 * 16 / 4, "data_wait": 0.25}
    clock.now_s += 20
    assert pace.since_report(20, wait_s=6.0) == {"images_per_s": 10 * 16 / 20, "data_wait": 0.25}


def test_measuring_between_two_reports_does_not_slow_training_down(clock: Clock) -> None:
    pace = Pace(0, 33, 16, 60, clock)
    clock.now_s += 3
    with pace.standing():
        clock.now_s += 100
    clock.now_s += 5
    assert pace.since_report(10, wait_s=2.0) == {"images_per_s": 20.0, "data_wait": 0.25}


def test_a_checkpoint_is_due_so_long_after_the_last_one_but_not_at_the_end(clock: Clock) -> None:
    pace = Pace(0, 33, 16, 60, clock)
    clock.now_s += 59
    assert not pace.save_is_due(5)
    clock.now_s += 1
    assert pace.save_is_due(6)
    assert not pace.save_is_due(33)
    clock.now_s += 30  # which writing it takes
    pace.saved()
    clock.now_s += 59
    assert not pace.save_is_due(7)
    clock.now_s += 1
    assert pace.save_is_due(8)
