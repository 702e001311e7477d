"""The load generator against a server whose every answer is known."""

import os
from pathlib import Path

import pytest

from benchmarks.serving.load import Outcome, Plan, between_answers, generate
from benchmarks.serving.processes import free_port
from tests.benchmarks.serving.tiny_server import (
    burns,
    drops_every_third,
    fails,
    fails_every_third,
    fine,
    forgets_the_code_once,
    served,
    stalls_once,
)


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(os.urandom(20_000 + number))
    return [str(path) for path in paths]


def test_a_stall_is_charged_to_every_request_that_was_due_meanwhile(photos: list[str]) -> None:
    # 100 a second for 2 s, and half a second of nothing: some 50 wait, a quarter of a second on average.
    with served(stalls_once) as port:
        outcome = generate(Plan(port, photos, rate=100, warm_s=0.2, measured_s=2))
    assert not outcome.errors
    assert len(outcome.latencies_s) == 200
    assert outcome.percentile_s(0.99) > 0.45
    assert sum(latency > 0.1 for latency in outcome.latencies_s) >= 40
    assert 0.2 < outcome.percentile_s(0.875) < 0.45


def test_a_closed_loop_barely_sees_the_same_stall(photos: list[str]) -> None:
    # This is why latencies are not taken from it.
    with served(stalls_once) as port:
        outcome = generate(Plan(port, photos, connections=1, requests=200))
    assert outcome.percentile_s(0.98) < 0.45 < max(outcome.latencies_s)


def test_an_open_loop_counts_what_was_due_in_its_span_however_late_the_answer(photos: list[str]) -> None:
    with served(burns) as port:  # 10 ms each, so at most 100 a second
        outcome = generate(Plan(port, photos, rate=200, warm_s=0, measured_s=0.5, connections=4))
    assert not outcome.errors
    assert len(outcome.latencies_s) == 100
    assert outcome.seconds == pytest.approx(0.5)
    assert max(outcome.latencies_s) > 0.4  # the last had to wait for half of the others


def test_a_closed_loop_counts_only_successes(photos: list[str]) -> None:
    with served(fails_every_third) as port:
        outcome = generate(Plan(port, photos, connections=4, requests=30))
    assert outcome.errors == {"status 500": 10}
    assert len(outcome.latencies_s) == 20


def test_a_lost_connection_is_an_error_and_the_client_goes_on(photos: list[str]) -> None:
    with served(drops_every_third) as port:
        outcome = generate(Plan(port, photos, connections=4, requests=30))
        opened = generate(Plan(port, photos, rate=100, warm_s=0, measured_s=0.3))
    assert outcome.errors == {"connection lost": 10}
    assert len(outcome.latencies_s) == 20
    assert opened.errors == {"connection lost": 10}
    assert len(opened.latencies_s) == 20


def test_an_answer_without_a_code_is_an_error(photos: list[str]) -> None:
    with served(forgets_the_code_once) as port:
        outcome = generate(Plan(port, photos, connections=2, requests=10))
    assert outcome.errors == {"an answer without a code": 1}
    assert len(outcome.latencies_s) == 9


def test_errors_while_warming_up_count(photos: list[str]) -> None:
    with served(forgets_the_code_once) as port:
        outcome = generate(Plan(port, photos, connections=2, warm_s=0.5, measured_s=0.2))
    assert outcome.errors == {"an answer without a code": 1}


def test_a_closed_loop_gives_up_on_a_server_that_only_fails(photos: list[str]) -> None:
    with served(fails) as port:
        outcome = generate(Plan(port, photos, connections=4, warm_s=0, measured_s=60))
    assert outcome.latencies_s == []
    assert 100 < sum(outcome.errors.values()) < 110


def test_unanswered_requests_are_errors(photos: list[str]) -> None:
    with served(stalls_once) as port:
        plan = Plan(port, photos, rate=500, warm_s=0, measured_s=0.2, timeout_s=0.1, connections=1)
        outcome = generate(plan)
    assert outcome.errors == {"not answered in time": 1}
    assert len(outcome.latencies_s) == 99


def test_processor_time_of_both_sides_is_told_apart(photos: list[str]) -> None:
    with served(burns) as port:
        outcome = generate(Plan(port, photos, connections=2, requests=50, server=os.getpid()))
    assert 0.48 <= outcome.server_s < 1.0
    assert 0 < outcome.generator_s < 0.25


def test_the_rate_is_of_the_span(photos: list[str]) -> None:
    with served(fine) as port:
        outcome = generate(Plan(port, photos, connections=1, warm_s=0.1, measured_s=0.3))
    assert outcome.seconds == pytest.approx(0.3, abs=0.1)
    assert outcome.rate == pytest.approx(len(outcome.latencies_s) / outcome.seconds, rel=0.2)


def test_the_rate_of_a_server_that_answers_in_bursts_does_not_hang_on_the_edges_of_the_span() -> None:
    answered_at = [second + late for second in range(10) for late in (0, 1e-3, 2e-3, 3e-3)]  # 4 a second
    for start in (0.5, 1.0, 1.5, 1.9):
        for seconds in (2.0, 2.4, 2.9):
            end = start + seconds
            count = sum(start <= at < end for at in answered_at)
            assert count / between_answers(answered_at, start, end) == pytest.approx(4, rel=0.01)
    assert between_answers(answered_at, 9.5, 12) == 2.5  # no answer in it
    assert between_answers([1.5, 2.0], 1.0, 3.0) == 1.0  # and none before it


def test_percentiles_are_of_the_successes() -> None:
    outcome = Outcome(latencies_s=[number / 100 for number in range(100, 0, -1)])
    assert outcome.percentile_s(0.5) == pytest.approx(0.51)
    assert outcome.percentile_s(0.99) == pytest.approx(1.0)
    assert outcome.percentile_s(1.0) == pytest.approx(1.0)


def test_nobody_listening_fails(photos: list[str]) -> None:
    with pytest.raises(RuntimeError, match="Connect"):
        generate(Plan(free_port(), photos))
