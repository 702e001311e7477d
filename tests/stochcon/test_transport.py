"""The client against a server that says exactly what a test wants."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from contracts.errors import BackendUnavailable, Overloaded, StochConError
from stochcon import Client


class Scripted(ThreadingHTTPServer):
    """Gives one answer after the other; the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.seen: list[tuple[str, str | None]] = []
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def problem(self, status: int, slug: str, **headers: str) -> None:
        body = {"type": f"urn:stochcon:{slug}", "title": "Title", "status": status, "detail": "the detail"}
        headers = {"Content-Type": "application/problem+json"} | headers
        self.answers.append((status, headers, json.dumps(body).encode()))


class Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        self.server.hold.wait(10)
        answers = self.server.answers
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


READY = (200, {"Content-Type": "application/json"}, b'{"status": "ready"}')


def test_a_full_queue_is_asked_again_after_the_time_it_names(scripted, monkeypatch):
    waited = []
    monkeypatch.setattr("stochcon.transport.time.sleep", waited.append)
    scripted.problem(429, "overloaded", **{"Retry-After": "2"})
    scripted.problem(429, "overloaded", **{"Retry-After": "900"})
    scripted.problem(429, "overloaded", **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    scripted.answers.append(READY)
    with Client(scripted.url) as client:
        assert client.ready() == {"status": "ready"}
    assert waited == [2.0, 30.0, 1.0]


def test_a_queue_that_stays_full_is_given_up(scripted):
    scripted.problem(429, "overloaded", **{"Retry-After": "0"})
    with (
        Client(scripted.url, max_retries=3) as client,
        pytest.raises(Overloaded, match="the detail") as caught,
    ):
        client.ready()
    assert caught.value.retry_after_s == 0
    assert len(scripted.seen) == 4


def test_no_other_problem_is_tried_again(scripted):
    scripted.problem(503, "backend-unavailable")
    with Client(scripted.url) as client, pytest.raises(BackendUnavailable, match="the detail"):
        client.ready()
    assert len(scripted.seen) == 1


def test_a_problem_of_a_kind_unknown_here_is_still_a_stochcon_error(scripted):
    scripted.problem(418, "teapot")
    with Client(scripted.url) as client, pytest.raises(StochConError, match="the detail") as caught:
        client.ready()
    assert type(caught.value) is StochConError


@pytest.mark.parametrize(
    "answer",
    [
        (502, {"Content-Type": "text/html"}, b"<h1>Bad gateway</h1>"),
        (200, {"Content-Type": "text/html"}, b"<h1>Some router's page</h1>"),
        (500, {"Content-Type": "application/problem+json"}, b"[]"),
        (404, {"Content-Type": "application/problem+json"}, b"{"),
    ],
)
def test_an_answer_that_is_not_the_services_own_says_so(scripted, answer):
    scripted.answers.append(answer)
    with Client(scripted.url) as client, pytest.raises(BackendUnavailable, match="StochCon service"):
        client.ready()


def test_a_service_that_does_not_answer_in_time_is_unavailable(scripted):
    scripted.answers.append(READY)
    scripted.hold.clear()
    with Client(scripted.url, timeout_s=0.1) as client, pytest.raises(BackendUnavailable, match="timeout_s"):
        client.ready()


def test_the_key_and_the_path_of_the_url_are_sent(scripted):
    scripted.answers.append(READY)
    with Client(scripted.url + "/under/here/", "secret") as client:
        client.ready()
    with Client(scripted.url) as client:
        client.ready()
    assert scripted.seen == [("/under/here/readyz", "Bearer secret"), ("/readyz", None)]
