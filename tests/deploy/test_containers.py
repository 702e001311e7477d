"""The Dockerfile and the compose file against the code, for want of a container engine in the tests."""

import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKERFILE = ROOT / "deploy" / "service.Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, continued lines joined and comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def last(name: str) -> str:
    return [rest for instruction, rest in instructions() if instruction == name][-1]


def environment() -> dict[str, str]:
    pairs = (pair.partition("=") for pair in shlex.split(last("ENV")))
    return {key: value for key, _, value in pairs}


@pytest.fixture
def api() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["api"]


def test_the_image_runs_the_service_as_a_user_of_its_own():
    assert json.loads(last("CMD")) == ["stochcon", "serve"]
    user = last("USER")
    assert user not in ("root", "0")
    assert f"useradd --system --uid 10001 --no-create-home {user}" in last("RUN")


def test_everything_that_is_copied_exists_and_gets_past_the_ignore_file():
    ignore = (ROOT / ".dockerignore").read_text().split()
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    names = {name for group in copied for name in group}
    assert all((ROOT / name).exists() for name in names)
    assert {entry[1:] for entry in ignore if entry.startswith("!")} == names
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {package.split(".")[0] for package in packages} <= names


def test_the_requirements_are_those_of_serving_and_have_no_torch(tmp_path):
    command = next(rest for name, rest in instructions() if name == "RUN" and "requirements.txt" in rest)
    code = shlex.split(command.partition("&&")[0])
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    subprocess.run([sys.executable, *code[1:]], cwd=tmp_path, check=True)
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    names = {re.match(r"[A-Za-z0-9_.-]+", line)[0].lower() for line in lines}
    assert {"numpy", "typer", "fastapi", "uvicorn", "onnxruntime", "faiss-cpu"} <= names
    assert not names & {"torch", "onnx", "onnxscript", "stochcon"}


def test_variables_are_settings_and_the_port_and_the_folder_are_the_same_everywhere(api):
    variables = environment() | api["environment"]
    given = {name.removeprefix("STOCHCON_").lower() for name in variables if name.startswith("STOCHCON_")}
    assert given <= set(Settings.model_fields)
    port, data = environment()["STOCHCON_PORT"], environment()["STOCHCON_DATA"]
    assert last("EXPOSE") == port
    assert last("VOLUME") == data
    assert api["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert api["volumes"] == [f"data:{data}"]
    assert f"127.0.0.1:{port}/healthz" in last("HEALTHCHECK")


def test_the_image_refuses_to_serve_without_a_key_and_compose_demands_one(api):
    from service.settings import check_exposure

    settings = Settings(host=environment()["STOCHCON_HOST"], api_key=None)
    with pytest.raises(ValueError, match="STOCHCON_API_KEY"):
        check_exposure(settings)
    assert api["environment"]["STOCHCON_API_KEY"].startswith("${STOCHCON_API_KEY:?")


def test_compose_builds_this_dockerfile_reads_only_and_waits_longer_than_the_service(api):
    assert ROOT / api["build"]["context"] / api["build"]["dockerfile"] == DOCKERFILE
    assert api["read_only"] is True
    assert "/tmp" in api["tmpfs"]
    assert int(api["stop_grace_period"].removesuffix("s")) > Settings().shutdown_s


class Health(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_follows_the_services_answer(status, healthy):
    handler = type("Handler", (Health,), {"status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    command = [part.replace(":8000", f":{server.server_port}") for part in command]
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, check=False)
    server.shutdown()
    thread.join()
    server.server_close()
    assert (done.returncode == 0) is healthy
