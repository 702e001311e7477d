import httpx2
import pytest

from contracts.errors import Forbidden
from service.origin import check_origin
from tests.image_files import png
from tests.server_process import ServerProcess
from tests.service.http_answers import assert_serves, part, problem

OWN = [
    "localhost",
    "LOCALHOST:8000",
    "127.0.0.1:8000",
    "127.200.0.9",
    "[::1]:9",
    "[::1]",
    "box.internal:80",
]
FOREIGN = [
    "",
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example:8000",
    "localhost@evil.example",
    "evil.example@localhost",
    "192.168.1.5:8000",
    "0.0.0.0",
    "[::2]",
    "::1",
    "127.0.0.1:8000/x",
]


@pytest.mark.parametrize("host", OWN)
def test_names_of_this_machine_are_let_in_with_a_page_of_their_own(host: str) -> None:
    check_origin({"host": host}, "box.internal")
    check_origin({"host": host, "origin": f"http://{host}"}, "box.internal")


@pytest.mark.parametrize("host", FOREIGN)
def test_any_other_name_is_forbidden(host: str) -> None:
    with pytest.raises(Forbidden, match="STOCHCON_API_KEY"):
        check_origin({"host": host}, "127.0.0.1")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://localhost:3000", "http://127.0.0.1:8000"]
)
def test_a_page_of_another_origin_is_forbidden(origin: str) -> None:
    with pytest.raises(Forbidden, match="page"):
        check_origin({"host": "localhost:8000", "origin": origin}, "127.0.0.1")


def test_a_service_without_a_key_keeps_pages_out(server: ServerProcess, client: httpx2.Client) -> None:
    rebound = {"Host": "evil.example:8000"}
    posted = {"Origin": "http://evil.example"}
    problem(client.get("/items", headers=rebound), 403, "forbidden", "evil.example")
    problem(client.post("/items", files=[part(png())], headers=posted), 403, "forbidden", "evil.example")
    assert client.get("/items").json() == {"items": []}
    for path in ("/healthz", "/readyz"):
        assert client.get(path, headers=rebound | posted).status_code == 200
    assert client.get("/items", headers={"Origin": server.url}).status_code == 200
    assert_serves(client)


def test_with_a_key_any_name_will_do(locked_server: ServerProcess) -> None:
    headers = {"Authorization": "Bearer s3cret", "Host": "box.internal", "Origin": "https://front.example"}
    with locked_server.client(headers=headers) as client:
        assert client.get("/items").status_code == 200
