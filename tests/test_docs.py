"""What the documents say exists, and what exists is in the documents."""

import re
from pathlib import Path

import pytest
import typer

from service.settings import Settings
from stochcon.cli import HANDED_ON, app

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("models/*.md")])
CLI = (ROOT / "docs" / "cli.md").read_text()


def sections() -> dict[str, str]:
    """Text below each heading of docs/cli.md."""
    parts = re.split(r"^#+ (.*)$", CLI, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def verbs(command=None, path=()):
    command = command or typer.main.get_command(app)
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from verbs(child, (*path, name))
        else:
            yield " ".join((*path, name)), child


VERBS = dict(verbs())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_every_option_is_documented(verb):
    heading = next(title for title in sections() if re.search(rf"`stochcon {verb}\b", title))
    text = sections()[heading] + sections()["Options that many verbs share"]
    if verb == "serve":
        text += sections()["Settings"]
    shown = [option for option in VERBS[verb].params if not getattr(option, "hidden", False)]
    options = [name for option in shown for name in option.opts if name.startswith("-")]
    assert [name for name in options if not re.search(rf"`{name}\b", text)] == []


def test_no_verb_is_documented_that_does_not_exist():
    named = {name for title in sections() for name in re.findall(r"`stochcon ([a-z ]+[a-z])", title)}
    assert named == set(VERBS)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in HANDED_ON])
def test_no_option_is_documented_that_does_not_exist(verb):
    heading = next(title for title in sections() if re.search(rf"`stochcon {verb}\b", title))
    named = set(re.findall(r"^\| .*?`(--?[a-z-]+)", sections()[heading], flags=re.M))
    assert named <= {name for option in VERBS[verb].params for name in option.opts}


def test_every_setting_is_documented_with_its_flag():
    rows = re.findall(r"^\| `(STOCHCON_\w+)` \| (?:`(--[\w-]+)`)? ?\|", CLI, flags=re.M)
    assert {name for name, _ in rows} == {f"STOCHCON_{name.upper()}" for name in Settings.model_fields}
    flags = {name for option in VERBS["serve"].params for name in option.opts} - {"--help"}
    assert {flag for _, flag in rows if flag} == flags


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_that_are_named_exist(document):
    defined = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), flags=re.M)) <= defined


def test_the_readme_and_ci_install_the_same_packages():
    wanted = re.search(r"apt-get install --yes (.*)", (ROOT / "README.md").read_text())[1].split()
    script = (ROOT / ".ci" / "run").read_text()
    of_tests = {"prometheus"}  # Without it a test is skipped, but not there.
    assert set(re.findall(r"missing\+=\(([\w-]+)\)", script)) == {*wanted, *of_tests}
