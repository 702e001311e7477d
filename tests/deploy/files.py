"""The files of the deployment, parsed, and what the code says about the commands and variables in them."""

import re
import shlex
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import typer
import yaml

from service.settings import Settings
from stochcon.cli import HANDED_ON, app
from tests.programs import require_program
from trainer.cli import VERBS

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"

OTHER_VARIABLES = {"STOCHCON_URL"}
"""Variables of our own that are no settings of the service."""


@dataclass
class Stage:
    """One stage of a Dockerfile."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


def read_stages(dockerfile: Path) -> dict[str, Stage]:
    """The stages by name, in order, continued lines joined and comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            stages[alias] = Stage(alias, base)
        elif name and stages:
            list(stages.values())[-1].instructions.append((name, rest.strip()))
    return stages


@dataclass(frozen=True)
class Image:
    """What a target of a Dockerfile becomes: its own instructions after those of the stages below it."""

    dockerfile: Path
    target: str

    @property
    def instructions(self) -> list[tuple[str, str]]:
        stages = read_stages(self.dockerfile)
        stage, found = stages[self.target], []
        while True:
            found = stage.instructions + found
            if stage.base not in stages:
                return found
            stage = stages[stage.base]

    def all(self, name: str) -> list[str]:
        return [rest for instruction, rest in self.instructions if instruction == name]

    def last(self, name: str) -> str:
        return self.all(name)[-1]

    @property
    def environment(self) -> dict[str, str]:
        pairs = (pair.partition("=") for rest in self.all("ENV") for pair in shlex.split(rest))
        return {key: value for key, _, value in pairs}

    @property
    def folders(self) -> set[str]:
        """What the image's user may write to."""
        made = re.search(r"install --directory --owner stochcon --group stochcon ([/\w ]+)", self.last("RUN"))
        assert made is not None
        return set(made[1].split())


SERVICE = Image(DEPLOY / "service.Dockerfile", "cpu")
SERVICE_GPU = Image(DEPLOY / "service.Dockerfile", "gpu")
TRAINER = Image(DEPLOY / "trainer.Dockerfile", "")
IMAGES = {"service": SERVICE, "service for GPUs": SERVICE_GPU, "trainer": TRAINER}


@cache
def read_compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return compose


def read_manifests() -> list[dict[str, Any]]:
    """Every object of deploy/kubernetes that is applied."""
    folder = DEPLOY / "kubernetes"
    names = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    return [found for name in names for found in yaml.safe_load_all((folder / name).read_text())]


def secret_settings() -> set[str]:
    """Settings that may lie in a file, by their variables."""
    fields = Settings.model_fields.items()
    return {f"STOCHCON_{name.upper()}" for name, found in fields if "SecretStr" in str(found.annotation)}


def unknown_variables(variables: dict[str, Any]) -> set[str]:
    """Those that begin like ours and are none."""
    known = {f"STOCHCON_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    known |= {f"{name}_FILE" for name in secret_settings()}
    return {name for name in variables if name.startswith("STOCHCON_")} - known


def check_command(words: list[str]) -> dict[str, Any]:
    """The options of a `stochcon` command as they are parsed. Raises typer's UsageError for another."""
    assert words[0] == "stochcon", words
    command, path = typer.main.get_command(app), words[1:]
    if path[0] in HANDED_ON:
        verbs = typer.Typer()
        for verb in VERBS:
            verbs.command()(verb)
        command = typer.main.get_command(verbs)
    while hasattr(command, "commands"):
        assert path[0] in command.commands, f"there is no stochcon {words[1:]}"
        command, path = command.commands[path[0]], path[1:]
    options: dict[str, Any] = command.make_context(words[1], list(path)).params
    return options


def seconds(text: str) -> int:
    """Of a duration as compose writes it."""
    number, unit = re.fullmatch(r"(\d+)([sm])", text).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def kustomized(folder: Path) -> list[dict[str, Any]]:
    """The objects that kustomize builds of a folder."""
    command = [require_program("kubectl", "the Kubernetes project"), "kustomize", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))
