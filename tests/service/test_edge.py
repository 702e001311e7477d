"""Keys, limits, overload and failures, as a client sees them over a real socket."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn

from index.embedded import EmbeddedStore
from index.protocol import ModelRef
from service.app import create_app
from service.engine import Engine
from service.logs import configure_logs
from service.metrics import Metrics
from service.models import ModelFolder
from service.settings import Settings
from tests.image_files import huge_png, jpeg, png
from tests.server_process import ServerProcess, wait_until
from tests.service.http_answers import assert_serves, code_of, part, problem, text

SLOW = huge_png(9000, 9000)
"""An image that takes a good part of a second to decode."""


PNG = {"Content-Type": "image/png"}


def metric(client: httpx2.Client, name: str) -> float:
    """The value of one line of /metrics, 0 if there is none."""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    return 0


def start_slow_request(url: str, num_images: int = 3) -> socket.socket:
    """Send a request of slow images and do not wait for the answer."""
    request = httpx2.Client().build_request("POST", f"{url}/encode", files=[part(SLOW)] * num_images)
    body = request.read()
    head = f"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: {request.headers['content-type']}\r\n"
    connection = socket.create_connection(("127.0.0.1", httpx2.URL(url).port or 0))
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def test_the_key_opens_everything(locked_server: ServerProcess) -> None:
    with locked_server.client(headers={"Authorization": "Bearer s3cret"}) as client:
        assert_serves(client)
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    "header",
    [None, "", "s3cret", "Bearer", "Bearer S3CRET", "Bearer s3cret2", "Basic s3cret", "Bearer é"],
)
def test_without_it_nothing_but_health_is_open(locked_server: ServerProcess, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    with locked_server.client(headers=headers) as client:
        for path in ("/collections", "/models", "/metrics", "/docs", "/", "/openapi.json", "/nothing"):
            response = client.get(path)
            problem(response, 401, "unauthorized", "STOCHCON_API_KEY")
            assert response.headers["www-authenticate"] == "Bearer"
        problem(client.post("/encode", files=[part(png())]), 401, "unauthorized")
        assert client.get("/healthz").json() == {"status": "alive"}
        assert client.get("/readyz").json()["status"] == "ready"


@pytest.fixture(scope="module")
def limited_server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(
        tmp_path_factory.mktemp("data"),
        model_folder,
        max_body_bytes=100_000,
        max_image_bytes=20_000,
        max_image_pixels=1_000_000,
        max_images=4,
        max_codes=10,
    ) as started:
        yield started


@pytest.fixture
def limited(limited_server: ServerProcess) -> Iterator[httpx2.Client]:
    with limited_server.client() as opened:
        yield opened


@pytest.mark.parametrize("num_bytes", [100_001, 150_000, 3_000_000])
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "application/json", "multipart/form-data; boundary=x"]
)
def test_a_body_over_the_limit_is_413_and_the_client_reads_it(
    limited: httpx2.Client, num_bytes: int, is_chunked: bool, content_type: str
) -> None:
    body = b"x" * num_bytes
    content = (body[i : i + 8192] for i in range(0, num_bytes, 8192)) if is_chunked else body
    response = limited.post("/encode", content=content, headers={"Content-Type": content_type})
    if content_type.startswith("multipart") and is_chunked:
        assert response.status_code in (413, 422)  # It is no multipart either, whichever comes first.
    else:
        problem(response, 413, "too-large", "100000")
    assert_serves(limited)


@pytest.mark.parametrize("framing", [b"Content-Length: 3000000", b"Transfer-Encoding: chunked"])
def test_a_client_that_sends_all_before_it_reads_gets_its_413(
    limited_server: ServerProcess, framing: bytes
) -> None:
    body = bytes(3_000_000)
    if b"chunked" in framing:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n" + framing + b"\r\n\r\n"
    port = httpx2.URL(limited_server.url).port or 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head)
        for start in range(0, len(body), 10_000):
            connection.sendall(body[start : start + 10_000])
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_just_within_the_limit_is_read(limited: httpx2.Client) -> None:
    response = limited.post("/encode", content=b"x" * 100_000, headers={"Content-Type": "application/json"})
    problem(response, 422, "invalid-input", "JSON")


def test_an_image_over_its_limit_is_413(limited: httpx2.Client) -> None:
    large = jpeg(0, 300, 240, quality=97)
    assert 20_000 < len(large) < 50_000
    problem(limited.post("/encode", files=[part(large)]), 413, "too-large", "20000")
    many = limited.post("/encode", files=[part(png()), part(large)]).json()["results"]
    assert many[1]["error"]["status"] == 413
    problem(limited.post("/encode", files=[part(huge_png(1001, 1000))]), 413, "too-large", "1000000")
    assert_serves(limited)


def test_numbers_of_images_and_codes_have_limits(limited: httpx2.Client) -> None:
    problem(limited.post("/encode", files=[part(png())] * 5), 413, "too-large")
    codes = [{"code": code_of(1)}] * 11
    problem(limited.post("/items", json={"items": codes}), 413, "too-large", "11", "10")
    images = [{"image": text(png())}] * 5
    problem(limited.post("/items", json={"items": images}), 413, "too-large", "5", "4")


@pytest.fixture
def busy_server(model_folder: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, model_folder, max_queue_images=2) as started:
        yield started


def test_a_full_queue_is_429_with_the_time_to_come_back(busy_server: ServerProcess) -> None:
    with busy_server.client() as client, start_slow_request(busy_server.url):
        wait_until(lambda: metric(client, "stochcon_queue_images") >= 1)
        response = client.post("/encode", files=[part(png())] * 3)
        problem(response, 429, "overloaded", "2 images")
        assert int(response.headers["retry-after"]) >= 1
        wait_until(lambda: metric(client, "stochcon_queue_images") == 0)
        assert_serves(client)


def test_searches_by_code_go_on_meanwhile(busy_server: ServerProcess) -> None:
    with busy_server.client() as client, start_slow_request(busy_server.url):
        wait_until(lambda: metric(client, "stochcon_queue_images") >= 1)
        assert client.post("/search", json={"code": code_of(1)}).status_code == 200
        assert metric(client, "stochcon_queue_images") >= 1


def test_work_of_a_client_that_is_gone_is_dropped(busy_server: ServerProcess) -> None:
    gone = 'stochcon_request_duration_seconds_count{method="POST",route="/encode",status="499"}'
    with busy_server.client() as client:
        start_slow_request(busy_server.url, num_images=12).close()
        wait_until(lambda: metric(client, gone) == 1)
        wait_until(lambda: metric(client, "stochcon_queue_images") == 0)
        assert metric(client, 'stochcon_encode_stage_seconds_count{stage="decode"}') < 6
        assert_serves(client)


def test_all_bodies_together_are_bounded(model_folder: Path, tmp_path: Path) -> None:
    with ServerProcess(
        tmp_path, model_folder, max_total_body_bytes=300_000, max_body_bytes=200_000
    ) as server:
        head = b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        head += b"Content-Length: 200000\r\n\r\n"
        held = [socket.create_connection(("127.0.0.1", httpx2.URL(server.url).port or 0)) for _ in range(2)]
        with server.client() as client:
            for connection in held:
                connection.sendall(head + bytes(149_000))  # Never finished.

            def is_full() -> bool:
                return client.post("/encode", files=[part(png())]).status_code == 429

            wait_until(is_full)
            problem(client.post("/encode", files=[part(png())]), 429, "overloaded", "300000")
            for connection in held:
                connection.close()
            wait_until(lambda: not is_full())
            assert_serves(client)


def test_a_body_that_stops_coming_is_408_and_gives_its_bytes_back(model_folder: Path, tmp_path: Path) -> None:
    limits = {"max_total_body_bytes": 200_000, "max_body_bytes": 200_000}
    with ServerProcess(tmp_path, model_folder, body_timeout_s=0.5, **limits) as server:
        port = httpx2.URL(server.url).port or 0
        head = b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        for framing in (b"Content-Length: 190000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n2e630\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(head + framing + bytes(180_000))
                received = b""
                while chunk := connection.recv(4096):  # Until the server closes.
                    received += chunk
            assert received.startswith(b"HTTP/1.1 408")
            assert b"application/problem+json" in received
            assert b"urn:stochcon:request-timeout" in received
        with server.client() as client:
            assert client.post("/encode", content=bytes(150_000), headers=PNG).status_code == 422
            assert_serves(client)


def test_a_client_may_wait_longer_for_its_answer_than_for_its_body(
    model_folder: Path, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, model_folder, body_timeout_s=0.1) as server, server.client() as client:
        assert client.post("/encode", files=[part(SLOW)] * 2).status_code == 200


class Breakable:
    """An observer of the encoder that can stop its model thread."""

    def __init__(self) -> None:
        self.is_broken = False

    def stage(self, name: str, seconds: float) -> None:
        if name == "wait" and self.is_broken:
            raise RuntimeError("the accelerator fell off the bus")

    def batch(self, num_images: int) -> None: ...


@contextmanager
def served(settings: Settings, engine: Engine) -> Iterator[httpx2.Client]:
    """The app on a real socket, in a thread of this process."""
    config = uvicorn.Config(create_app(settings, engine, Metrics()), log_config=None, ws="none")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
    thread.start()
    try:
        wait_until(lambda: server.started)
        with httpx2.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def test_when_the_model_thread_dies_the_service_is_not_ready_and_says_so(
    model_folder: Path, tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path, models=model_folder, provider="cpu", threads=1)
    observer = Breakable()
    engine = Engine.open(settings, observer=observer)
    engine.start()
    with served(settings, engine) as client:
        assert client.get("/readyz").status_code == 200
        assert_serves(client)
        observer.is_broken = True

        def encode(seed: int) -> httpx2.Response:
            return client.post("/encode", files=[part(png(seed))] * 3)

        with ThreadPoolExecutor(4) as clients:
            for response in clients.map(encode, range(8)):
                problem(response, 503, "backend-unavailable", "fell off the bus")
        problem(client.get("/readyz"), 503, "backend-unavailable", "fell off the bus")
        assert client.get("/healthz").status_code == 200
        assert metric(client, "stochcon_ready") == 0
        assert client.get("/items").status_code == 200  # What needs no model still works.
    EmbeddedStore.open(tmp_path).close()  # The app has given the store back.


class FaultyStore(EmbeddedStore):
    """A store with a mistake in it."""

    def model(self, name: str) -> ModelRef:
        raise ZeroDivisionError("the secret of the store")


def test_an_unforeseen_error_is_500_without_its_details(
    model_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    own_logs: None,
) -> None:
    configure_logs()
    settings = Settings(data=tmp_path, models=model_folder, provider="cpu", threads=1)
    engine = Engine(
        FaultyStore.open(tmp_path), ModelFolder(model_folder), encoder_settings=settings.encoder_settings()
    )
    engine.start()
    with served(settings, engine) as client:
        response = client.get("/items")
        problem(response, 500, "internal", "log")
        assert "secret" not in response.text
        assert metric(client, 'stochcon_errors_total{slug="internal"}') == 1
        assert_serves(client)
    assert "ZeroDivisionError: the secret of the store" in capfd.readouterr().err
