import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from contracts.errors import NotFound
from index.embedded import EmbeddedStore
from service.schemas import Alive, Ready
from service.server import run
from service.settings import Settings
from tests.server_process import ServerProcess, start_process, wait_until
from tests.service.http_answers import answer, assert_serves, code_of, problem


def failure(models: Path, data: Path, **settings: object) -> str:
    """What a server says that does not come up."""
    process = start_process(
        {"data": data, "models": models, "port": 0, "provider": "cpu", "threads": 1} | settings
    )
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    return said.splitlines()[-1]


def test_it_says_where_it_is_and_what_it_serves(model_folder: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, model_folder) as server:
        with server.client() as client:
            client.post("/items", json={"items": [{"code": code_of(n)} for n in range(3)]})
        assert server.stop() == 0
    with ServerProcess(tmp_path, model_folder) as server:
        (ready,) = [event for event in server.events if event["event"] == "ready"]
        assert ready["model"] == "tiny 1"
        assert ready["provider"] == "cpu-fp32"
        assert ready["collections"] == {"default": 3}
        with server.client() as client:
            assert_serves(client)


def test_on_a_terminal_it_says_so_in_one_plain_line(model_folder: Path, tmp_path: Path) -> None:
    settings = {"DATA": tmp_path, "MODELS": model_folder, "PORT": 0, "PROVIDER": "cpu", "THREADS": 1}
    env = {key: value for key, value in os.environ.items() if not key.startswith("STOCHCON_")}
    env |= {f"STOCHCON_{key}": str(value) for key, value in settings.items()}
    command = "from service.server import run; from service.settings import Settings; run(Settings())"
    terminal, end = os.openpty()
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", command], env=env, cwd=root, stderr=end) as process:
        os.close(end)
        said = b""
        try:
            while b"\n" not in said:
                assert select.select([terminal], [], [], 60)[0], "it said nothing"
                said += os.read(terminal, 4096)
            line = said.decode().splitlines()[0]
            match = re.fullmatch(
                r"StochCon listens on (http://127\.0\.0\.1:\d+)  \(model tiny 1, cpu-fp32\)", line
            )
            assert match, line
            assert httpx2.get(f"{match[1]}/healthz").status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        with contextlib.suppress(OSError):  # Which a terminal answers whose other end is closed.
            while more := os.read(terminal, 4096):
                said += more
        os.close(terminal)
    assert said.decode().splitlines() == [line]


def test_health_and_readiness_have_their_forms(client: httpx2.Client) -> None:
    answer(client.get("/healthz"), Alive)
    ready = answer(client.get("/readyz"), Ready)
    assert (ready["provider"], ready["precision"]) == ("cpu-fp32", "fp32")
    assert ready["model"]["name"] == "tiny"


def test_a_second_server_is_told_who_has_the_store(model_folder: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, model_folder) as server, server.client() as client:
        said = failure(model_folder, tmp_path)
        assert "StoreLocked" in said
        assert server.url in said
        assert_serves(client)


def test_a_port_that_is_taken_is_one_clear_line(model_folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failure(model_folder, tmp_path, port=port)
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said


def test_an_open_address_without_a_key_is_refused(model_folder: Path, tmp_path: Path) -> None:
    assert "STOCHCON_API_KEY" in failure(model_folder, tmp_path, host="0.0.0.0")
    assert not (tmp_path / "store.lock").exists()


def test_a_provider_that_does_not_run_is_refused(model_folder: Path, tmp_path: Path) -> None:
    assert "--provider cpu" in failure(model_folder, tmp_path, provider="cuda")


def test_a_start_that_fails_gives_the_store_and_the_port_back(tmp_path: Path, own_logs: None) -> None:
    (tmp_path / "models").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NotFound):
        run(Settings(data=tmp_path / "data", models=tmp_path / "models", port=port))
    EmbeddedStore.open(tmp_path / "data").close()
    socket.create_server(("127.0.0.1", port)).close()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert "stochcon train" in failure(tmp_path / "models", tmp_path / "data")


def test_requests_under_way_are_answered_before_it_stops(model_folder: Path, tmp_path: Path) -> None:
    body = json.dumps({"items": [{"id": "a", "code": code_of(1)}]}).encode()
    head = (
        b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    )
    with ServerProcess(tmp_path, model_folder) as server:
        with socket.create_connection(("127.0.0.1", httpx2.URL(server.url).port or 0)) as connection:
            connection.sendall(head + body[:10])
            with server.client() as client:
                assert client.get("/healthz").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: any(event["event"] == "Shutting down" for event in server.events))
            connection.sendall(body[10:])
            received = b""
            while chunk := connection.recv(4096):
                received += chunk
        assert received.startswith(b"HTTP/1.1 200")
        assert server.wait() == 0
    with ServerProcess(tmp_path, model_folder) as server, server.client() as client:
        assert client.get("/items/a").status_code == 200


def test_a_client_that_never_ends_its_request_does_not_keep_it_from_stopping(
    model_folder: Path, tmp_path: Path
) -> None:
    head = (
        b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nx"
    )
    with ServerProcess(tmp_path, model_folder, shutdown_s=1, body_timeout_s=60) as server:
        slow = socket.create_connection(("127.0.0.1", httpx2.URL(server.url).port or 0), timeout=20)
        slow.sendall(head)
        with server.client() as client:
            assert client.get("/healthz").status_code == 200
        assert server.stop() == 0
        with slow:
            assert slow.recv(4096).startswith(b"HTTP/1.1 503")
    assert not any("exception" in event for event in server.events)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/items", "GET, HEAD, POST"),
        ("GET", "/encode", "POST"),
        ("POST", "/items/a", "DELETE, GET, HEAD, PUT"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405(
    client: httpx2.Client, method: str, path: str, allowed: str
) -> None:
    response = client.request(method, path)
    problem(response, 405, "method-not-allowed", method, allowed)
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/nothing", "/items/", "/encode/", "/favicon.ico"])
def test_a_path_that_is_not_there_is_404(client: httpx2.Client, path: str) -> None:
    problem(client.get(path), 404, "not-found")


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/healthz", "/readyz", "/items", "/models", "/collections/default"],
)
def test_head_answers_as_get_does_without_a_body(client: httpx2.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == get.headers[name]


def test_head_is_refused_where_there_is_no_get(client: httpx2.Client) -> None:
    assert client.head("/items/nothing").status_code == 404
    response = client.head("/encode")
    assert (response.status_code, response.headers["allow"], response.content) == (405, "POST", b"")
