"""docs/operations.md says what is so."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.deploy.files import (
    DEPLOY,
    ROOT,
    check_command,
    kustomized,
    read_compose,
    secret_settings,
    unknown_variables,
)
from tests.deploy.test_monitoring import ALERTS, families, samples

__all__ = ["samples"]  # The fixture: a service in use.

TEXT = (ROOT / "docs" / "operations.md").read_text()
SERVICES = read_compose()["services"]
CODE = re.findall(r"^```\w+\n(.*?)^```", TEXT, flags=re.M | re.S) + re.findall(r"`([^`\n]+)`", TEXT)
DOCUMENTS = re.findall(r"^```yaml\n(.*?)^```", TEXT, flags=re.M | re.S)
PROFILES = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}


def first_column(section: str) -> set[str]:
    """Everything in backquotes that begins a row of the section's tables."""
    (text,) = re.findall(rf"^## {section}\n(.*?)^## ", TEXT, flags=re.M | re.S)
    cells = re.findall(r"^\| ([^|]*) \|", text, flags=re.M)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_every_metric_and_every_alert_is_there_with_what_to_do_about_it(samples):
    metrics = families(samples) | {name for name in samples if name.startswith("process_")}
    assert first_column("Monitor") == metrics | {rule["alert"] for rule in ALERTS}


def test_every_variable_is_one_that_there_is():
    named = set(re.findall(r"\bSTOCHCON_\w+", TEXT)) - {"STOCHCON_IMAGES"}
    assert unknown_variables(dict.fromkeys(named)) == set()
    assert "${STOCHCON_IMAGES:?" in (ROOT / "docker-compose.yml").read_text()


def commands(word: str) -> list[list[str]]:
    """The commands in the text that begin with a word, as their words, without what a shell adds."""
    lines = [line for code in CODE for line in code.splitlines() if not line.startswith("kubectl")]
    found = {match for line in lines for match in re.findall(rf"(?:^|[\s/(]){word} ([^\n']*)", line)}
    return [shlex.split(rest) for rest in sorted(found)]


@pytest.mark.parametrize("words", commands("stochcon"), ids=" ".join)
def test_every_command_is_one_that_there_is(words):
    check_command(["stochcon", *words])


@pytest.mark.parametrize("words", commands("docker compose"), ids=" ".join)
def test_every_command_of_compose_is_about_services_and_profiles_that_there_are(words):
    if words[0] == "--profile":
        assert words[1] in PROFILES
        words = words[2:]
    verb, rest = words[0], words[1:]
    assert verb in ("up", "run", "exec", "stop", "start", "build", "ps", "cp", "rm")
    scaled = [word.partition("=")[0] for word in rest if re.fullmatch(r"\w+=\d+", word)]
    assert set(scaled) <= set(SERVICES)
    named = [word for word in rest if word.partition(":")[0] in SERVICES]
    if verb not in ("up", "build"):
        assert named
    if verb == "run" and "trainer" in named:
        check_command(["stochcon", *rest[rest.index("trainer") + 1 :]])


def test_profiles_and_secrets_are_those_of_compose():
    assert first_column("Install") == PROFILES
    assert first_column("Secrets") == set(read_compose()["secrets"])
    made = re.search(r"for name in ([\w ]+); do openssl", TEXT)[1].split()
    assert set(made) == set(read_compose()["secrets"])
    for variable in re.findall(r"(STOCHCON_\w+)_FILE", TEXT):
        assert variable in secret_settings()


def test_every_example_in_yaml_can_be_read_and_is_about_what_there_is():
    override, overlay, rules, monitor = (yaml.safe_load(block) for block in DOCUMENTS)
    assert set(override["services"]) <= set(SERVICES)
    assert override["services"]["api"] == override["services"]["worker"]
    assert overlay["resources"] == ["../deploy/kubernetes"]
    assert "stochcon_jobs_waiting_shards" in rules["externalRules"][0]["seriesQuery"]
    credentials = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]
    example = yaml.safe_load((DEPLOY / "kubernetes" / "secret.example.yaml").read_text())
    assert credentials["name"] == example["metadata"]["name"]
    assert credentials["key"] in example["stringData"]


def test_kustomize_builds_the_overlay(tmp_path: Path):
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "deploy" / "kubernetes")
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(DOCUMENTS[1])
    built = {(found["kind"], found["metadata"]["name"]): found for found in kustomized(tmp_path / "overlay")}
    assert {found["metadata"]["namespace"] for found in built.values()} == {"stochcon"}
    worker = built["Deployment", "worker"]["spec"]["template"]["spec"]["containers"][0]
    assert worker["image"] == "registry.example.com/stochcon:1"
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert built["PersistentVolumeClaim", "images"]["spec"]["volumeName"] == "photos"


def test_the_time_that_is_given_to_stop_fits_the_unit():
    from service.settings import Settings

    assert int(re.search(r"TimeoutStopSec=(\d+)", TEXT)[1]) >= Settings().shutdown_s + 5
