"""The rules of the house that no linter knows."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("contracts", "index", "service", "trainer", "stochcon")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
EVERYTHING = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]

MAY_IMPORT = {
    "contracts": {"contracts"},
    "index": {"contracts", "index"},
    "service": {"contracts", "index", "service"},
    "trainer": {"contracts", "trainer"},
    "stochcon": set(PACKAGES),
}
MEASURING = {"sklearn", "matplotlib"}
DRAWING = ROOT / "stochcon" / "comparing" / "figures.py"
"""Imported only for `models compare --out`, with an extra of its own."""
TRAINING_ONLY = {"torch", "torchvision", "onnx", "onnxscript", "kornia", "tensorboard"} | MEASURING
SERVING = {"onnxruntime", "faiss", "fastapi", "httpx2", "pyarrow", "PIL", "uvicorn", "service"}
HEAVY = tuple(sorted(TRAINING_ONLY | SERVING))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module


def run(*command: str, cwd: Path = ROOT, python: str = sys.executable) -> str:
    done = subprocess.run([python, *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_run_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    imported = {module.split(".")[0] for module in imports(path)}
    assert imported & set(PACKAGES) <= MAY_IMPORT[package]
    if package != "trainer":
        assert not (imported - {"matplotlib"} if path == DRAWING else imported) & TRAINING_ONLY
    if package == "contracts":
        assert imported <= {"contracts", "numpy", "pydantic", "PIL"} | sys.stdlib_module_names


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_variable_has_a_packages_name(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    assert not names & {"index", "service", "trainer"}


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_nothing_heavy(package):
    heavy = [name for name in HEAVY if name != package]
    run("-c", f"import {package}, sys; assert not set(sys.modules) & set({heavy}), set(sys.modules)")


@pytest.mark.parametrize("module", ["stochcon.cli", "trainer.cli"])
def test_the_command_line_imports_no_part_before_a_verb_needs_it(module):
    run("-c", f"import {module}, sys; found = set(sys.modules) & set({HEAVY}); assert not found, found")


def test_the_help_is_quick():
    # What takes long is importing what the help does not need. Processor time, so that a busy machine does
    # not decide; importing torch alone takes more than this.
    code = (
        "import time, stochcon.cli as c\n"
        "assert c.run(['--help']) == 0\n"
        "assert time.process_time() < 1.5, time.process_time()"
    )
    assert "collections" in run("-c", code)


def test_the_package_list_names_every_package():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in SOURCES
        if path.name == "__init__.py"
    }
    assert set(listed) == found | {"models"}
    assert {path.parent for path in SOURCES} == {ROOT / name.replace(".", "/") for name in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The Python of an environment with the built wheel; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for path in [*SOURCES, *(ROOT / "models").iterdir(), *ROOT.glob("*/py.typed")]:
        copy(path, source / path.relative_to(ROOT))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, source / name)
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source), cwd=folder)
    run("-m", "venv", "--without-pip", str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    (wheel,) = folder.glob("*.whl")
    run("-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel), cwd=folder)
    (Path(run("-c", where, python=str(python)).strip()) / "dependencies.pth").write_text(run("-c", where))
    return python


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def test_every_module_can_be_imported_from_an_installed_wheel(installed, tmp_path):
    modules = sorted(name_of(path).removesuffix(".py").replace("/", ".") for path in SOURCES)
    modules = [name.removesuffix(".__init__") for name in modules]
    code = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    module = importlib.import_module(name)\n"
        f"    assert module.__file__.startswith({str(installed.parent.parent)!r}), module.__file__\n"
    )
    run("-c", code, cwd=tmp_path, python=str(installed))


def test_an_installed_wheel_finds_the_models_that_ship(installed, tmp_path):
    code = "from service.settings import Settings; print(*(p.name for p in Settings().models.iterdir()))"
    found = run("-c", code, cwd=tmp_path, python=str(installed)).split()
    wanted = {path.name for path in (ROOT / "models").iterdir() if path.suffix in (".onnx", ".md")}
    assert wanted <= set(found)


def test_an_installed_wheel_has_the_command_and_the_types(installed, tmp_path):
    command = installed.parent / "stochcon"
    done = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "classify" in done.stdout
    for package in PACKAGES:
        code = f"from importlib.resources import files; assert (files({package!r}) / 'py.typed').is_file()"
        run("-c", code, cwd=tmp_path, python=str(installed))
