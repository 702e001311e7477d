"""Prometheus' rules and Grafana's dashboard against the metrics of the service."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.app import _ROUTERS
from service.problems import STATUS
from tests.deploy.files import DEPLOY, SERVICE, read_compose, read_manifests
from tests.image_files import jpeg
from tests.server_process import ServerProcess, wait_until
from tests.tiny_model import write_tiny_model

PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "stochcon.json").read_text())
PANELS = DASHBOARD["panels"]
PROVISIONING = DEPLOY / "grafana" / "provisioning"

OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus adds to every sample."""


EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in ALERTS} | {
    f"{panel['title']}, {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}


def used(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each metric in a PromQL expression, with the labels and the values that it is selected by."""
    for name, matchers in re.findall(r"\b((?:stochcon|process)_\w+|up)\b(?:\{([^}]*)\})?", expression):
        yield name, dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers))


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, set[str]]:
    """The names of all samples that a service in use answers with, and their labels."""
    folder = tmp_path_factory.mktemp("service")
    write_tiny_model(folder / "tiny.onnx")
    found: dict[str, set[str]] = {"up": set()}
    with ServerProcess(folder / "data", folder) as server, server.client() as client:
        for number in range(3):
            client.post("/items", files={"image": jpeg(number)}).raise_for_status()
        client.post("/search", files={"image": jpeg(1)}).raise_for_status()
        assert client.get("/items/missing").status_code == 404
        # What a collection is like is measured once somebody asks.
        wait_until(lambda: "stochcon_collection_active_share{" in client.get("/metrics").text)
        for family in text_string_to_metric_families(client.get("/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def families(names: Iterable[str]) -> set[str]:
    """Our metrics, without what Prometheus puts behind their names."""
    ours = {name for name in names if name.startswith("stochcon_") and not name.endswith("_created")}
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_metric_and_label_is_one_that_the_service_has(name, samples):
    found = list(used(EXPRESSIONS[name]))
    assert found
    for metric, matchers in found:
        assert metric in samples
        assert set(matchers) <= samples[metric] | OF_PROMETHEUS
    by = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", EXPRESSIONS[name]))))
    assert by <= set().union(*(samples[metric] for metric, _ in found)) | OF_PROMETHEUS


def test_types_of_problems_and_routes_in_alerts_are_ones_that_there_are():
    matchers = [matchers for rule in ALERTS for _, matchers in used(rule["expr"])]
    slugs = {found["slug"] for found in matchers if "slug" in found}
    paths = {route.path for module in _ROUTERS for route in module.router.routes}
    assert slugs
    assert slugs <= {error.slug for error in STATUS}
    assert {found["route"] for found in matchers if "route" in found} <= paths


def test_an_alert_says_what_is_wrong_and_how_bad_it_is():
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_prometheus_reads_the_service_of_compose_with_the_key_of_its_secrets():
    (job,) = PROMETHEUS["scrape_configs"]
    prometheus = read_compose()["services"]["prometheus"]
    assert job["job_name"] == "stochcon"  # As the rules and the dashboard have it.
    assert job["static_configs"] == [{"targets": [f"api:{SERVICE.environment['STOCHCON_PORT']}"]}]
    assert job["authorization"]["credentials_file"] == "/run/secrets/api_key"
    assert "api_key" in prometheus["secrets"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in prometheus["command"]
    assert "./deploy/prometheus:/etc/prometheus:ro" in prometheus["volumes"]
    assert all((DEPLOY / "prometheus" / name).is_file() for name in PROMETHEUS["rule_files"])


def test_grafana_is_provisioned_with_prometheus_and_the_dashboard():
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "stochcon.yml").read_text())["providers"]
    volumes = read_compose()["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in volumes
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in volumes
    assert source["url"] == "http://prometheus:9090"
    named = [panel["datasource"] for panel in PANELS]
    named += [target["datasource"] for panel in PANELS for target in panel["targets"]]
    named += [variable["datasource"] for variable in DASHBOARD["templating"]["list"]]
    assert {(found["type"], found["uid"]) for found in named} == {(source["type"], source["uid"])}


def test_every_metric_of_ours_is_on_the_dashboard(samples):
    shown = {name for panel in PANELS for target in panel["targets"] for name, _ in used(target["expr"])}
    assert families(samples) == families(shown)
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total"} <= shown


def test_panels_have_numbers_of_their_own_explain_themselves_and_do_not_overlap():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in PANELS)
    for one, other in itertools.combinations([panel["gridPos"] for panel in PANELS], 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_the_autoscaler_goes_by_a_metric_of_the_service(samples):
    (scaler,) = [found for found in read_manifests() if found["kind"] == "HorizontalPodAutoscaler"]
    metrics: list[dict[str, Any]] = scaler["spec"]["metrics"]
    assert {metric["external"]["metric"]["name"] for metric in metrics} <= set(samples)
