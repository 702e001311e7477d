"""docker-compose.yml against the code, the Dockerfiles and itself."""

import json
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError
from redis.retry import Retry

from service.settings import Settings
from tests.deploy.files import (
    DEPLOY,
    IMAGES,
    ROOT,
    Image,
    check_command,
    read_compose,
    read_manifests,
    seconds,
    secret_settings,
    unknown_variables,
)
from tests.redis_server import require_server

COMPOSE = read_compose()
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
SERVING = {name: service for name, service in OURS.items() if "trainer" not in name}
WORKERS = [name for name in SERVING if "worker" in name]
APIS = [name for name in SERVING if "api" in name]


def image_of(service: dict) -> Image:
    build = service["build"]
    return Image(ROOT / build["context"] / build["dockerfile"], build.get("target", ""))


def mounts(service: dict) -> dict[str, tuple[str, bool]]:
    """Where each volume is mounted: from what, and whether it can be written to."""
    found = {}
    for volume in service.get("volumes", []):
        source, target, mode = re.fullmatch(r"(\$\{[^}]*\}|[^:]*):([^:]*)(?::(ro))?", volume).groups()
        found[target] = (source, mode is None)
    return found


def test_it_has_the_parts_that_are_asked_for():
    assert set(SERVICES) >= {
        "redis",
        "api",
        "worker",
        "api-gpu",
        "worker-gpu",
        "trainer",
        "prometheus",
        "grafana",
    }
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert [name for name in SERVICES if not profiles[name]] == ["redis", "api", "worker"]
    assert profiles["api-gpu"] == profiles["worker-gpu"] == ["gpu"]
    assert profiles["trainer"] == ["train"]
    assert profiles["prometheus"] == profiles["grafana"] == ["monitoring"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_can_do_more_than_it_has_to(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    user = service.get("user") or image_of(service).last("USER")
    assert re.fullmatch(r"[1-9]\d*:\d+", user)
    assert not {"privileged", "cap_add", "pid", "network_mode"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_by_a_tag_or_built_here(name):
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[a-z/-]+:[\w.-]+", image)
    assert not image.endswith(":latest")
    if name in OURS:
        assert image_of(SERVICES[name]) in IMAGES.values()
        assert image.split(":")[1].startswith("local")
    else:
        assert re.search(r":v?\d+\.\d+\.\d+$", image)


def test_services_that_share_an_image_build_it_alike():
    built = {}
    for service in OURS.values():
        assert built.setdefault(service["image"], service["build"]) == service["build"]


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_that_there_is(name):
    service, image = SERVICES[name], image_of(SERVICES[name])
    before = json.loads(image.last("ENTRYPOINT"))
    command = service.get("command") or json.loads(image.last("CMD"))
    check_command(command if before[0] == "sh" else before + command)


def test_the_commands_in_its_comments_are_ones_that_there_are():
    comments = "\n".join(
        line for line in (ROOT / "docker-compose.yml").read_text().splitlines() if "#" in line
    )
    commands = re.findall(r"docker compose run --rm trainer (.*)", comments)
    assert len(commands) == 2
    for command in commands:
        check_command(["stochcon", *command.split()])
    named = set(re.findall(r"(?:--scale |up --build --detach )([a-z -]+)", comments))
    assert {word for words in named for word in words.split() if not word.startswith("-")} <= set(SERVICES)


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_one_that_there_is(name):
    environment = SERVICES[name].get("environment", {})
    assert unknown_variables(environment) == set()
    assert all(variable.startswith("STOCHCON_") for variable in environment)
    assert "STOCHCON_URL" not in environment or name in WORKERS
    for key in environment.keys() & secret_settings():
        assert key == "STOCHCON_REDIS_URL"
        assert "@" not in environment[key]  # No secret but in a file.


@pytest.mark.parametrize("name", SERVICES)
def test_every_file_with_a_secret_is_one_that_the_container_gets(name):
    service = SERVICES[name]
    given = {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}
    texts = [str(service.get(key, "")) for key in ("environment", "command", "healthcheck")]
    if name == "prometheus":
        texts += [path.read_text() for path in (DEPLOY / "prometheus").iterdir()]
    assert set(re.findall(r"/run/secrets/\w+", "\n".join(texts))) == given


def test_every_secret_and_volume_and_network_is_declared_and_used():
    for kind in ("secrets", "networks"):
        used = {name for service in SERVICES.values() for name in service.get(kind, [])}
        assert used == set(COMPOSE[kind])
    assert all(secret["file"] == f"./secrets/{name}" for name, secret in COMPOSE["secrets"].items())
    sources = {source for service in SERVICES.values() for source, _ in mounts(service).values()}
    assert {source for source in sources if re.fullmatch(r"\w+", source)} == set(COMPOSE["volumes"])


def test_secrets_are_neither_committed_nor_sent_to_a_build():
    assert "/secrets/" in (ROOT / ".gitignore").read_text().split()
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists_and_what_is_configured_cannot_be_written_to(name):
    for target, (source, can_write) in mounts(SERVICES[name]).items():
        if source.startswith("./"):
            assert (ROOT / source).is_dir()
            assert not can_write
        elif source.startswith("$"):
            assert source.startswith("${STOCHCON_IMAGES:?")  # Nobody mounts something by an oversight.
            assert (target, can_write) == ("/images", False)


@pytest.mark.parametrize("name", OURS)
def test_volumes_lie_where_the_image_lets_its_user_write(name):
    named = {
        target: can_write
        for target, (source, can_write) in mounts(SERVICES[name]).items()
        if "$" not in source
    }
    assert named.keys() <= image_of(SERVICES[name]).folders
    assert {target for target, can_write in named.items() if not can_write} == (
        {"/models"} if name in WORKERS else set()
    )


def test_service_workers_and_trainer_share_models_and_images():
    for service in OURS.values():
        assert mounts(service)["/models"][0] == "models"
        assert "/images" in mounts(service)
    for service in SERVING.values():
        assert service["environment"]["STOCHCON_ROOTS"] == "/images"


@pytest.mark.parametrize("name", APIS)
def test_the_service_gets_longer_to_end_than_it_takes(name):
    service = SERVICES[name]
    shutdown_s = int(service["environment"].get("STOCHCON_SHUTDOWN_S", Settings().shutdown_s))
    assert seconds(service["stop_grace_period"]) >= shutdown_s + 5


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_gets_longer_to_end_than_it_takes(name):
    options = check_command(SERVICES[name]["command"])
    assert seconds(SERVICES[name]["stop_grace_period"]) >= options["grace_s"] + 5


@pytest.mark.parametrize("name", SERVICES)
def test_only_the_machine_itself_reaches_a_port(name):
    ports = SERVICES[name].get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in ports)
    if name in APIS:
        port = image_of(SERVICES[name]).environment["STOCHCON_PORT"]
        assert ports == [f"127.0.0.1:{port}:{port}"]


def networks(name: str) -> set[str]:
    return set(SERVICES[name]["networks"])


def test_redis_is_reached_by_the_service_and_its_workers_alone():
    assert networks("redis") == {"ledger"}
    assert "ports" not in SERVICES["redis"]
    assert COMPOSE["networks"]["ledger"] == {"internal": True}
    assert {name for name in SERVICES if "ledger" in networks(name)} == {"redis", *SERVING}


def test_addresses_are_those_of_services_on_a_network_in_common():
    for name, service in SERVING.items():
        assert service["environment"]["STOCHCON_REDIS_URL"] == "redis://redis:6379/0"
        if name in WORKERS:
            port = image_of(service).environment["STOCHCON_PORT"]
            assert service["environment"]["STOCHCON_URL"] == f"http://api:{port}"
            assert "default" in networks(name)
    for name in APIS:
        assert SERVICES[name]["networks"]["default"]["aliases"] == ["api"]


def test_each_part_waits_until_what_it_needs_is_healthy():
    for name, service in SERVING.items():
        wanted = {"redis"} | ({name.replace("worker", "api")} if name in WORKERS else set())
        assert service["depends_on"] == {needed: {"condition": "service_healthy"} for needed in wanted}


def test_whatever_answers_has_a_health_check():
    for name, service in SERVICES.items():
        if name in WORKERS:
            assert service["healthcheck"] == {"disable": True}  # The image's asks the service's port.
        elif name in APIS:
            assert "healthcheck" not in service
            assert image_of(service).all("HEALTHCHECK")
        elif name not in OURS:
            assert service["healthcheck"]["test"]


@pytest.mark.parametrize("name", [name for name in SERVICES if name.endswith("-gpu")])
def test_what_runs_on_a_gpu_asks_for_one(name):
    devices = SERVICES[name]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    plain = SERVICES[name.removesuffix("-gpu")]
    differing = {"image", "build", "profiles", "deploy", "depends_on"}
    assert {key: SERVICES[name][key] for key in SERVICES[name].keys() - differing} == {
        key: plain[key] for key in plain.keys() - differing
    }


def of_compose() -> str:
    command = SERVICES["redis"]["command"]
    assert command[:2] == ["sh", "-c"]
    return command[2].replace("$$", "$")


def of_kubernetes() -> str:
    (redis,) = [found for found in read_manifests() if found["kind"] == "StatefulSet"]
    command = redis["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[:2] == ["sh", "-c"]
    return command[2].replace("/run/secrets/stochcon/", "/run/secrets/")


@pytest.mark.parametrize("script", [of_compose, of_kubernetes])
def test_redis_wants_the_password_and_keeps_every_write(script, tmp_path: Path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    (tmp_path / "redis_password").write_text("a-secret\n")
    (tmp_path / "kept").mkdir()
    text = script().replace("/run/secrets", str(tmp_path)).replace("/data", f"{tmp_path}/kept")
    config = tmp_path / "redis.conf"
    text = text.replace("/tmp/redis.conf", str(config))
    text = text.replace(f"redis-server {config}", f"{require_server()} {config} --port {port}")
    process = subprocess.Popen(["sh", "-c", text], stdout=subprocess.DEVNULL)
    try:
        client = Redis(port=port, password="a-secret", retry=Retry(NoBackoff(), 0))
        wait_for(client)
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        assert client.config_get(*wanted) == wanted
        client.close()
        stranger = Redis(port=port, retry=Retry(NoBackoff(), 0))
        with pytest.raises(AuthenticationError):
            stranger.ping()
        stranger.close()
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"a-secret" not in arguments
        assert config.stat().st_mode & 0o077 == 0
    finally:
        process.terminate()
        assert process.wait(20) == 0  # The server itself got the signal, not a shell around it.


def wait_for(client: Redis) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return
