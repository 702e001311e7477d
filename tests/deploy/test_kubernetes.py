"""The manifests in deploy/kubernetes against Kubernetes' schemas, the code, compose and each other."""

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from tests.deploy.files import (
    DEPLOY,
    SERVICE,
    check_command,
    kustomized,
    read_compose,
    read_manifests,
    seconds,
    secret_settings,
    unknown_variables,
)

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS = read_manifests()
EXAMPLE = yaml.safe_load((FOLDER / "secret.example.yaml").read_text())
VERSIONS = ("1.31", "1.34", "1.37")


def find(kind: str) -> dict[str, dict[str, Any]]:
    """Objects of a kind by name."""
    return {found["metadata"]["name"]: found for found in MANIFESTS if found["kind"] == kind}


WORKLOADS = find("Deployment") | find("StatefulSet")
PODS = {name: workload["spec"]["template"]["spec"] for name, workload in WORKLOADS.items()}
SERVING = ("api", "worker")


def container(name: str) -> dict[str, Any]:
    (found,) = PODS[name]["containers"]
    return found


def labels(name: str) -> dict[str, str]:
    return WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]


def name_of(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", [*MANIFESTS, EXAMPLE], ids=name_of)
def test_an_object_is_valid_by_the_schemas(manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_find_a_field_that_there_is_not():
    wrong = find("Service")["api"] | {"spek": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_the_kustomization_lists_every_file_and_nothing_else():
    files = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml", "secret.example.yaml"}
    assert KUSTOMIZATION["resources"] == sorted(files)


def test_no_object_names_a_namespace_and_none_is_there_twice():
    assert all("namespace" not in manifest["metadata"] for manifest in MANIFESTS)
    assert len({name_of(manifest) for manifest in MANIFESTS}) == len(MANIFESTS)


def test_kustomize_builds_every_object():
    assert set(map(name_of, kustomized(FOLDER))) == set(map(name_of, MANIFESTS))


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_pod_can_do_more_than_it_has_to(name):
    pod, security = PODS[name], PODS[name]["securityContext"]
    compose = read_compose()["services"][name]
    user = compose.get("user") or SERVICE.last("USER")
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == user
    assert security["runAsNonRoot"] is True
    assert security["fsGroup"] == security["runAsGroup"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert {"memory"} == set(container(name)["resources"]["limits"])
    assert {"cpu", "memory"} == set(container(name)["resources"]["requests"])


@pytest.mark.parametrize("name", WORKLOADS)
def test_images_commands_and_time_to_end_are_those_of_compose(name):
    compose = read_compose()["services"][name]
    assert container(name)["image"] == compose["image"]
    assert PODS[name]["terminationGracePeriodSeconds"] == seconds(compose["stop_grace_period"])
    if name == "redis":
        ours = container(name)["command"][2].replace("/run/secrets/stochcon/", "/run/secrets/")
        assert ours == compose["command"][2].replace("$$", "$")
    else:
        # As arguments, so that the image's entry point stays.
        assert container(name).get("args") == compose.get("command")
        assert "command" not in container(name)


def environment(name: str) -> dict[str, str]:
    given = container(name)
    values = {entry["name"]: entry["value"] for entry in given.get("env", [])}
    for source in given["envFrom"]:
        values |= find("ConfigMap")[source["configMapRef"]["name"]]["data"]
    return values


@pytest.mark.parametrize("name", SERVING)
def test_settings_are_ones_that_there_are_and_mean_the_same_as_in_compose(name):
    given = environment(name)
    assert unknown_variables(given) == set()
    assert given.keys() & secret_settings() == {"STOCHCON_REDIS_URL"}
    assert "@" not in given["STOCHCON_REDIS_URL"]  # No secret but in a file.
    compose = read_compose()["services"][name]["environment"]
    assert {key: value for key, value in given.items() if key in compose} == {
        key: value.replace("/run/secrets/", "/run/secrets/stochcon/") for key, value in compose.items()
    }
    assert int(given["STOCHCON_SHUTDOWN_S"]) == Settings().shutdown_s


def test_a_pod_gets_longer_to_end_than_it_takes():
    shutdown_s = int(environment("api")["STOCHCON_SHUTDOWN_S"])
    assert PODS["api"]["terminationGracePeriodSeconds"] >= shutdown_s + 5
    grace_s = check_command(container("worker")["args"])["grace_s"]
    assert PODS["worker"]["terminationGracePeriodSeconds"] >= grace_s + 5


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_volume_is_mounted_and_every_claim_and_secret_is_there(name):
    mounts = {mount["name"]: mount for mount in container(name)["volumeMounts"]}
    templates = {
        found["metadata"]["name"] for found in WORKLOADS[name]["spec"].get("volumeClaimTemplates", [])
    }
    volumes = {volume["name"]: volume for volume in PODS[name]["volumes"]}
    assert set(mounts) == set(volumes) | templates
    for volume in volumes.values():
        claim = volume.get("persistentVolumeClaim")
        if claim is not None:
            assert claim["claimName"] in find("PersistentVolumeClaim")
            assert claim.get("readOnly", False) == mounts[volume["name"]].get("readOnly", False)
        if "secret" in volume:
            assert volume["secret"]["secretName"] == EXAMPLE["metadata"]["name"]
            assert mounts[volume["name"]]["mountPath"] == "/run/secrets/stochcon"
    assert mounts["tmp"]["mountPath"] == "/tmp"


@pytest.mark.parametrize("name", SERVING)
def test_what_is_mounted_lies_where_compose_has_it(name):
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container(name)["volumeMounts"]}
    wanted = {}
    for volume in read_compose()["services"][name]["volumes"]:
        target, is_read_only = re.search(r":(/\w+)(:ro)?$", volume).groups()
        wanted[target] = is_read_only is not None
    assert mounts == wanted | {"/tmp": False, "/run/secrets/stochcon": True}


def test_the_secret_has_what_is_read_from_it():
    texts = str([environment(name) for name in SERVING]) + str(MANIFESTS)
    assert set(re.findall(r"/run/secrets/stochcon/(\w+)", texts)) == set(EXAMPLE["stringData"])
    comments = (FOLDER / "secret.example.yaml").read_text()
    assert set(re.findall(r"--from-literal=(\w+)", comments)) == set(EXAMPLE["stringData"])


def test_one_pod_owns_the_store_and_several_read_models_and_images():
    api = find("Deployment")["api"]["spec"]
    assert (api["replicas"], api["strategy"]) == (1, {"type": "Recreate"})
    modes = {name: claim["spec"]["accessModes"] for name, claim in find("PersistentVolumeClaim").items()}
    assert modes == {"data": ["ReadWriteOnce"], "models": ["ReadWriteMany"], "images": ["ReadOnlyMany"]}
    assert "replicas" not in find("Deployment")["worker"]["spec"]  # Applying would undo the autoscaler's.


def test_services_lead_to_ports_of_pods_at_the_addresses_that_are_configured():
    for name, found in find("Service").items():
        assert found["spec"]["selector"].items() <= labels(name).items()
        (port,) = found["spec"]["ports"]
        (wanted,) = container(name)["ports"]
        assert (port["targetPort"], port["port"]) == (wanted["name"], wanted["containerPort"])
    ports = {name: found["spec"]["ports"][0]["port"] for name, found in find("Service").items()}
    assert environment("worker")["STOCHCON_URL"] == f"http://api:{ports['api']}"
    assert environment("api")["STOCHCON_REDIS_URL"] == f"redis://redis:{ports['redis']}/0"
    assert container("api")["ports"][0]["containerPort"] == int(SERVICE.environment["STOCHCON_PORT"])


def test_probes_ask_what_the_service_answers_without_a_key():
    from service.routers import health

    paths = {route.path for route in health.router.routes}
    probes = {kind: probe["httpGet"] for kind, probe in container("api").items() if kind.endswith("Probe")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert {probe["path"] for probe in probes.values()} <= paths
    assert {probe["port"] for probe in probes.values()} == {container("api")["ports"][0]["name"]}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_selects_its_own_pods_and_no_others(name):
    selected = WORKLOADS[name]["spec"]["selector"]["matchLabels"]
    assert [other for other in WORKLOADS if selected.items() <= labels(other).items()] == [name]
    # Those that kustomize adds are not put into selectors, which cannot be changed later.
    assert all("includeSelectors" not in added for added in KUSTOMIZATION["labels"])


def test_the_autoscaler_and_the_budget_are_about_the_workers():
    (scaler,) = find("HorizontalPodAutoscaler").values()
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "worker")
    assert scaler["spec"]["minReplicas"] >= 1  # Kubernetes takes none only with a feature gate.
    (budget,) = find("PodDisruptionBudget").values()
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels("worker").items()


def allowed(policy: dict[str, Any], direction: str, side: str) -> set[tuple[str, Any]]:
    """(component, port) that a network policy lets through; `*` is anybody."""
    found = set()
    for rule in policy["spec"].get(direction, []):
        components = {"*"}
        for peer in rule.get(side, []):
            selector = peer["podSelector"]
            components = {value for part in selector.get("matchExpressions", []) for value in part["values"]}
            components |= set(selector.get("matchLabels", {}).values())
        found |= {(component, port["port"]) for component in components for port in rule["ports"]}
    return found


def test_only_those_who_have_to_may_speak_to_each_other():
    policies = find("NetworkPolicy")
    assert set(policies) == set(WORKLOADS)
    for name, policy in policies.items():
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels(name).items()
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    names = {("*", 53)}
    assert allowed(policies["redis"], "ingress", "from") == {("api", "redis"), ("worker", "redis")}
    assert allowed(policies["redis"], "egress", "to") == set()
    assert allowed(policies["api"], "ingress", "from") == {("*", "http")}
    assert allowed(policies["api"], "egress", "to") == {("redis", 6379)} | names
    assert allowed(policies["worker"], "ingress", "from") == set()
    assert allowed(policies["worker"], "egress", "to") == {("redis", 6379), ("api", 8000)} | names
