"""The Dockerfiles against the code. Running what they build takes an engine: deploy/smoke.sh does that."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from service.settings import Settings, check_exposure
from tests.deploy.files import (
    DEPLOY,
    IMAGES,
    ROOT,
    SERVICE,
    SERVICE_GPU,
    TRAINER,
    check_command,
    read_stages,
    unknown_variables,
)

DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))
ENTRYPOINT = DEPLOY / "entrypoint.sh"


def copied(dockerfile: Path) -> set[str]:
    """What is copied from the repository."""
    rests = [
        rest
        for stage in read_stages(dockerfile).values()
        for name, rest in stage.instructions
        if name == "COPY" and "--from" not in rest
    ]
    return {source for rest in rests for source in rest.split()[:-1]}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_an_image_runs_as_a_user_of_its_own_by_number(image):
    user = image.last("USER")
    assert user == "10001:10001"  # By number, so that Kubernetes can tell that it is not root.
    assert "useradd --uid 10001 --user-group --no-create-home " in image.last("RUN")


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_the_variables_of_an_image_are_settings_and_onnx_runtime_reports_to_nobody(image):
    assert unknown_variables(image.environment) == set()
    assert image.environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert image.environment["PATH"].startswith("/opt/stochcon/bin:")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_every_stage_is_built_on_the_pinned_base_or_on_one_before_it(dockerfile):
    base = re.search(r"^ARG BASE=(\S+)$", dockerfile.read_text(), flags=re.M)[1]
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", base)
    before: set[str] = set()
    for name, stage in read_stages(dockerfile).items():
        assert stage.base == "${BASE}" or stage.base in before
        taken = {re.search(r"--from=(\S+)", rest)[1] for _, rest in stage.instructions if "--from=" in rest}
        assert taken <= before
        before.add(name)


def test_everything_that_is_copied_exists_and_gets_past_the_ignore_file():
    names = set().union(*map(copied, DOCKERFILES))
    assert all((ROOT / name).exists() for name in names)
    ignore = (ROOT / ".dockerignore").read_text().split()
    assert {entry[1:] for entry in ignore if entry.startswith("!")} == names
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    for dockerfile in DOCKERFILES:
        assert {package.split(".")[0] for package in packages} <= copied(dockerfile)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_code_that_changes_leaves_the_layers_of_dependencies_as_they_are(dockerfile):
    stages = read_stages(dockerfile)
    dependent = [stage for name, stage in stages.items() if name.endswith("dependencies")]
    assert dependent
    for stage in dependent:
        assert stage.base == "environment"
        assert all("--from=requirements" in rest for name, rest in stage.instructions if name == "COPY")
    assert copied(dockerfile) >= {"pyproject.toml", "deploy/requirements.py"}
    for target in [IMAGES[key] for key in IMAGES if IMAGES[key].dockerfile == dockerfile]:
        assert [re.search("dependencies|code", rest)[0] for rest in target.all("COPY")] == [
            "dependencies",
            "code",
        ]


def requirements(extras: str) -> set[str]:
    """Names of what an image installs, by the command that is in the Dockerfile."""
    lines = "\n".join(dockerfile.read_text() for dockerfile in DOCKERFILES)
    assert f"python requirements.py {extras} > " in lines
    command = [sys.executable, DEPLOY / "requirements.py", *extras.split()]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return {re.match(r"[A-Za-z0-9_.-]+", line)[0].lower() for line in done.stdout.splitlines()}


def test_the_service_has_what_serving_needs_with_redis_and_object_stores_and_no_torch():
    names = requirements("cpu redis s3")
    assert {"numpy", "typer", "fastapi", "uvicorn", "onnxruntime", "faiss-cpu", "redis", "s3fs"} <= names
    assert not names & {"torch", "onnx", "onnxscript", "stochcon", "onnxruntime-gpu"}


def test_the_service_for_gpus_has_the_same_with_the_gpus_packages():
    of_cpu, of_gpu = requirements("cpu redis s3"), requirements("gpu redis s3")
    assert of_cpu - of_gpu == {"onnxruntime", "onnxruntime-ep-openvino", "faiss-cpu"}
    assert of_gpu - of_cpu == {"onnxruntime-gpu", "faiss-gpu"}
    assert SERVICE_GPU.environment.items() >= SERVICE.environment.items()
    assert SERVICE_GPU.environment["LD_LIBRARY_PATH"] == "/opt/stochcon/cuda"


def test_the_trainer_has_torch_and_its_line_can_be_found():
    names = requirements("trainer")
    assert {"torch", "onnx", "onnxscript", "onnxruntime", "tensorboard"} <= names
    assert "stochcon" not in names
    grep = re.search(r"grep '([^']+)' trainer.txt", TRAINER.dockerfile.read_text())[1]
    trainer = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "trainer"
    ]
    assert [line for line in trainer if re.search(grep, line)] == [
        line for line in trainer if line.startswith("torch")
    ]


def test_a_dockerfile_builds_the_service_for_processors_unless_told_otherwise():
    assert list(read_stages(SERVICE.dockerfile))[-1] == SERVICE.target


def test_the_images_begin_with_commands_that_there_are():
    assert json.loads(SERVICE.last("ENTRYPOINT")) == ["sh", "/opt/stochcon/entrypoint.sh"]
    assert check_command(json.loads(SERVICE.last("CMD"))) is not None
    check_command(json.loads(TRAINER.last("ENTRYPOINT")) + json.loads(TRAINER.last("CMD")))


def test_port_and_folders_of_the_service_are_the_same_everywhere():
    environment = SERVICE.environment
    assert SERVICE.last("EXPOSE") == environment["STOCHCON_PORT"]
    assert SERVICE.folders == {environment["STOCHCON_DATA"], environment["STOCHCON_MODELS"]}
    assert f"127.0.0.1:{environment['STOCHCON_PORT']}/healthz" in SERVICE.last("HEALTHCHECK")
    assert environment["STOCHCON_MODELS"] in TRAINER.folders


def test_the_image_refuses_to_serve_without_a_key():
    settings = Settings(host=SERVICE.environment["STOCHCON_HOST"], api_key=None)
    with pytest.raises(ValueError, match="STOCHCON_API_KEY"):
        check_exposure(settings)


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
    command = json.loads(SERVICE.last("HEALTHCHECK").partition("CMD ")[2])
    command = [part.replace(":8000", f":{server.server_port}") for part in command]
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, check=False)
    server.shutdown()
    thread.join()
    server.server_close()
    assert (done.returncode == 0) is healthy


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "starter-0123.onnx").write_bytes(b"the first model")
    return folder


def start(models: Path, shipped: Path, *command: str) -> "subprocess.Popen[str]":
    """Run the entry point as the image does."""
    environment = os.environ | {"STOCHCON_MODELS": str(models), "STOCHCON_SHIPPED": str(shipped)}
    words = ["sh", str(ENTRYPOINT), *(command or ("true",))]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_entry_point_puts_the_models_that_ship_beside_those_that_were_added(tmp_path, shipped):
    models = tmp_path / "models"
    models.mkdir()
    (models / "mine.onnx").write_bytes(b"mine")
    numbers = set()
    for _ in range(2):
        with start(models, shipped) as process:
            assert process.wait(10) == 0
        numbers.add((models / "starter-0123.onnx").stat().st_ino)
    assert len(numbers) == 1  # The second start has left it alone.
    (shipped / "starter-0123.onnx").rename(shipped / "starter-4567.onnx")  # An image with a newer model.
    with start(models, shipped) as process:
        assert process.wait(10) == 0
    kept = {
        "mine.onnx": b"mine",
        "starter-0123.onnx": b"the first model",
        "starter-4567.onnx": b"the first model",
    }
    assert contents(models) == kept
    assert oct((models / "starter-0123.onnx").stat().st_mode)[-3:] == "644"


def test_containers_that_start_at_once_leave_whole_models_and_nothing_else(tmp_path, shipped):
    models = tmp_path / "models"
    models.mkdir()
    processes = [start(models, shipped) for _ in range(8)]
    for process in processes:
        with process:
            assert process.wait(10) == 0
    assert contents(models) == contents(shipped)


def test_the_entry_point_becomes_the_command_with_its_arguments_and_its_exit_code(tmp_path, shipped):
    command = [
        sys.executable,
        "-c",
        "import os, sys; print(os.getpid(), sys.argv[1:]); sys.exit(7)",
        "a b",
        "c",
    ]
    with start(tmp_path / "missing", shipped, *command) as process:
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 7
    assert output == f"{process.pid} ['a b', 'c']\n"  # So signals reach it.


def test_the_entry_point_looks_where_the_image_has_its_models():
    built = " ".join(rest for _, rest in read_stages(SERVICE.dockerfile)["code"].instructions)
    where = re.search(r"STOCHCON_SHIPPED:-([\w/]+)", ENTRYPOINT.read_text())[1]
    assert f"mkdir {where}" in built
    assert f"COPY {ENTRYPOINT.relative_to(ROOT)} {json.loads(SERVICE.last('ENTRYPOINT'))[1]}".split()[1:] in [
        shlex.split(rest)
        for name, rest in read_stages(SERVICE.dockerfile)["code"].instructions
        if name == "COPY"
    ]
