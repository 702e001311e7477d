"""The rules and the dashboard as Prometheus itself takes them, reading a real service with its key."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import yaml

from tests.deploy.files import DEPLOY
from tests.image_files import jpeg
from tests.programs import require_program
from tests.server_process import ServerProcess, wait_until
from tests.tiny_model import write_tiny_model

PACKAGE = "Debian's package prometheus"
FOLDER = DEPLOY / "prometheus"
CONFIGURATION = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
UNIT_TESTS = Path(__file__).parent / "alerts.test.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "stochcon.json").read_text())
TARGETS = {
    f"{panel['title']}, {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}


def promtool(*arguments: object) -> None:
    command = [require_program("promtool", PACKAGE), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_one():
    promtool("check", "config", "--syntax-only", FOLDER / "prometheus.yml")
    promtool("check", "rules", *(FOLDER / name for name in CONFIGURATION["rule_files"]))


def test_alerts_fire_when_they_should_and_say_what_they_should():
    promtool("test", "rules", UNIT_TESTS)


def test_every_alert_is_seen_quiet_and_seen_firing():
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    names = {rule["alert"] for group in rules for rule in group["rules"]}
    seen = [
        (found["alertname"], bool(found["exp_alerts"]))
        for case in yaml.safe_load(UNIT_TESTS.read_text())["tests"]
        for found in case["alert_rule_test"]
    ]
    assert set(seen) == {(name, fires) for name in names for fires in (False, True)}


class Prometheus:
    """Prometheus as `deploy/prometheus` configures it, but for where the service and its key are."""

    def __init__(self, folder: Path, service: ServerProcess, key: str) -> None:
        (folder / "api_key").write_text(key)
        (job,) = CONFIGURATION["scrape_configs"]
        job = job | {
            "authorization": {"credentials_file": str(folder / "api_key")},
            "static_configs": [{"targets": [service.url.removeprefix("http://")]}],
        }
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(FOLDER / name) for name in CONFIGURATION["rule_files"]],
            "scrape_configs": [job],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        self.log = folder / "log"
        command = [
            require_program("prometheus", PACKAGE),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            "--web.listen-address=127.0.0.1:0",
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log)
        wait_until(lambda: self._address() is not None)
        self._http = httpx2.Client(base_url=f"http://{self._address()}/api/v1")

    def get(self, path: str, **params: str) -> dict:
        answer = self._http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def stop(self) -> None:
        self._http.close()
        self.process.terminate()
        self.process.wait(20)

    def _address(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r'msg="Listening on" address=(\S+)', self.log.read_text())
        return found and found[1]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    require_program("prometheus", PACKAGE)
    folder = tmp_path_factory.mktemp("service")
    write_tiny_model(folder / "tiny.onnx")
    with ServerProcess(folder / "data", folder, api_key="a key", keep_originals=True) as started:
        yield started


@pytest.fixture(scope="module")
def prometheus(service: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    started = Prometheus(tmp_path_factory.mktemp("prometheus"), service, "a key")
    yield started
    started.stop()


def test_every_panel_shows_something_while_the_service_is_in_use(
    service: ServerProcess, prometheus: Prometheus
):
    empty = set(TARGETS)

    def use_and_look() -> bool:
        for number in range(3):
            client.post("/items", files={"image": jpeg(number)}).raise_for_status()
        client.post("/search", files={"image": jpeg(1)}).raise_for_status()
        assert client.get("/items/missing").status_code == 404
        for name in list(empty):
            query = TARGETS[name].replace("$instance", ".*").replace("$__rate_interval", "10s")
            values = [series["value"][1] for series in prometheus.get("/query", query=query)["result"]]
            if values and not {"NaN", "+Inf"} & set(values):
                empty.remove(name)
        return not empty

    with service.client(headers={"Authorization": "Bearer a key"}) as client:
        try:
            wait_until(use_and_look, timeout_s=40)
        except AssertionError:
            pytest.fail(f"nothing to see in {sorted(empty)}")


def test_prometheus_reaches_the_service_with_its_key_and_can_evaluate_every_rule(prometheus: Prometheus):
    def rules() -> list[dict]:
        return [rule for group in prometheus.get("/rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()))
    assert {rule["health"] for rule in rules()} == {"ok"}
    assert {rule["name"]: rule["state"] for rule in rules() if rule["state"] == "firing"} == {}
    (target,) = prometheus.get("/targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
