"""What the benchmark makes of measurements, and what fails a run."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving.contest import QUICK, TRIAL, Contest, Entrant
from benchmarks.serving.parts import growth_percent, share_of_ceiling
from benchmarks.serving.processes import NotServing, Server, free_port, poll
from benchmarks.serving.subjects import FASTAPI, Subject, ask


@pytest.fixture
def contest(tmp_path: Path) -> Iterator[Contest]:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"not looked at")
    with Contest(tmp_path / "model.onnx", [photo], tmp_path, QUICK, lambda line: None) as contest:
        yield contest


def entrant(contest: Contest, behaviour: str) -> Entrant:
    """A tiny server in a process of its own, in the place of a peer."""
    port = free_port()
    module = "tests.benchmarks.serving.tiny_server"
    server = Server([sys.executable, "-m", module, str(port), behaviour], port, contest.folder / "log")
    contest.keep(server)
    for _ in poll(30):
        try:
            ask(port, "image", contest.photos[0])
            break
        except OSError as exc:
            if "status" in str(exc):
                break
    server.pause()
    return Entrant(Subject(FASTAPI, contest.model), server, 4)


def test_one_failed_request_is_remembered_as_an_error_of_the_run(contest: Contest) -> None:
    peer = entrant(contest, "fails_every_third")
    row, outcome = contest.measure("throughput", peer, requests=30)
    assert row["errors"] == {"status 500": 10}
    assert row["rate"] == pytest.approx(20 / outcome.seconds, rel=0.1)
    assert contest.errors == ["FastAPI, throughput: {'status 500': 10}"]


def test_an_error_in_a_trial_speaks_against_the_setting_alone(contest: Contest) -> None:
    row, _ = contest.measure(TRIAL, entrant(contest, "fails_every_third"), requests=30)
    assert row["errors"]
    assert contest.errors == []


def test_a_server_that_answers_nothing_ends_the_run(contest: Contest) -> None:
    with pytest.raises(NotServing, match="status 503"):
        contest.measure("throughput", entrant(contest, "fails"), requests=30)


def test_a_trial_in_which_nothing_succeeds_speaks_against_the_setting_alone(contest: Contest) -> None:
    peer = entrant(contest, "fails")
    assert contest._try(peer.subject, [1, 2], peer) == (0.0, 1)
    peer.server.stop()
    with pytest.raises(NotServing):
        contest._try(peer.subject, [1], peer)


def test_a_server_that_has_ended_ends_the_run(contest: Contest) -> None:
    peer = entrant(contest, "fine")
    peer.server.stop()
    with pytest.raises(NotServing):
        contest.measure("throughput", peer, requests=30)


def test_codes_of_another_model_are_refused(contest: Contest) -> None:
    code = bytes(range(256))
    near = bytes([code[0] ^ 0b11, *code[1:]])
    contest.check_code("one", base64.b64encode(code))
    contest.check_code("another", base64.b64encode(near))
    with pytest.raises(ValueError, match="third and one"):
        contest.check_code("third", base64.b64encode(code[::-1]))


def test_the_ceiling_is_lowered_by_the_cores_that_the_generator_took() -> None:
    # Of two cores it took half of one, so 75 of 100 images a second are left, of which 60 are 80 %.
    row = {"rate": 60.0, "ceiling_rate": 100.0, "generator_cores": 0.5}
    assert share_of_ceiling(row, num_cores=2) == pytest.approx(0.8)
    assert share_of_ceiling(row | {"generator_cores": 0.0}, num_cores=2) == pytest.approx(0.6)


def test_growth_is_from_the_second_cycle_to_the_last() -> None:
    cycles = [{1: 10.0, 2: 20.0}, {1: 100.0, 2: 100.0}, {1: 900.0, 2: 900.0}, {1: 104.0, 2: 106.0}]
    assert growth_percent(cycles) == pytest.approx(5.0)
