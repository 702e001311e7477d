"""docs/http.md says what is so."""

import re
import shlex
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.problems import STATUS
from service.settings import Settings
from tests.image_files import jpeg
from tests.server_process import ServerProcess

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text()
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.strip().splitlines()
]


def run(client: httpx2.Client, command: str, folder: Path) -> httpx2.Response:
    """Do what the curl command would."""
    words = iter(shlex.split(command)[1:])
    method, url, headers, parts, body = "GET", "", {}, [], None
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-F":
            name, _, value = next(words).partition("=")
            file = folder / value.removeprefix("@") if value.startswith("@") else None
            part: Any = (file.name, file.read_bytes()) if file else (None, value.encode())
            parts.append((name, part))
        elif word in ("-d", "--data-binary"):
            value = next(words)
            body = (folder / value[1:]).read_bytes() if value.startswith("@") else value.encode()
        elif word == "-o":
            next(words)
        else:
            assert word.startswith("http://127.0.0.1:8000/"), word
            url = word.removeprefix("http://127.0.0.1:8000")
    if method == "GET" and (parts or body):
        method = "POST"
    return client.request(method, url, headers=headers, files=parts or None, content=body)


def test_every_command_works_in_order(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(jpeg(1))
    (tmp_path / "dog.jpg").write_bytes(jpeg(2))
    assert len(COMMANDS) > 15
    with ServerProcess(tmp_path / "data", model_folder) as server, server.client() as client:
        for command in COMMANDS:
            response = run(client, command, tmp_path)
            assert response.status_code in (200, 204), f"{command}\n{response.text}"
        assert client.get("/items").json()["items"][0]["metadata"] == {"year": 2024}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert f"| `STOCHCON_{name.upper()}` |" in TEXT


def test_no_setting_is_documented_that_there_is_not() -> None:
    documented = set(re.findall(r"\| `STOCHCON_(\w+)` \|", TEXT))
    assert documented == {name.upper() for name in Settings.model_fields}


def test_every_call_is_documented(client: httpx2.Client) -> None:
    for path in client.get("/openapi.json").json()["paths"]:
        assert re.search(rf"{path.partition('{')[0].rstrip('/')}\b", TEXT), path


def test_every_problem_is_documented_with_its_status() -> None:
    unanswered = ("error", "invalid-model", "store-locked")  # Met before the service answers, if at all.
    for kind, status in STATUS.items():
        if kind.slug not in unanswered:
            assert re.search(rf"\| {status} \|[^|]*`{kind.slug}`", TEXT), kind.slug


def test_every_metric_is_documented(client: httpx2.Client) -> None:
    names = set(re.findall(r"# TYPE (stochcon_\w+) ", client.get("/metrics").text))
    for name in names:
        assert f"`{name.removesuffix('_created')}`" in TEXT or name.endswith("_created"), name
