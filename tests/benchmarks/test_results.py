import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.results import Images, command_of, main, table
from tests.tiny_images import make_png, write_parquet
from trainer.catalogue import entries


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar10"
    folder.mkdir()
    labels = [i % 3 for i in range(256)]
    pictures = [make_png(x, i) for i, x in enumerate(labels)]
    write_parquet(folder / "train.parquet", pictures, labels)
    write_parquet(folder / "test.parquet", pictures[:20], labels[:20])
    return folder


Run = Callable[..., tuple[int, str]]
"""Exit code, and what was printed."""


def arguments(cifar10: Path, out: Path, *options: str) -> list[str]:
    return [
        "results",
        "--cifar10",
        str(cifar10),
        "--tiny-imagenet",
        str(cifar10),
        "--out",
        str(out),
        *options,
    ]


def start(cifar10: Path, out: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.results", *arguments(cifar10, out, *options)[1:]]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )


def run(cifar10: Path, out: Path, *options: str) -> tuple[int, str]:
    process = start(cifar10, out, *options)
    printed = process.communicate(timeout=240)[0]
    return process.returncode, printed


def test_the_table_has_a_recipe_and_an_own_name_and_product_for_each_task(cifar10: Path) -> None:
    images = Images.of(cifar10)
    tasks = table(images, images, Path("out"))
    recipes = {entry.recipe.name for entry in entries()}
    names, seen = [task.name for task in tasks], set()
    assert len(set(names)) == len(names)
    assert len({task.product for task in tasks}) == len(tasks)
    for task in tasks:
        assert seen.issuperset(task.after), "a task comes after those it needs"
        seen.add(task.name)
        assert task.arguments[0] != "train" or task.arguments[1] in recipes
    # Two seeds of each system that a claim is made about.
    for system in ("bernoulli", "simclr", "supervised"):
        assert {f"head-{system}-0", f"head-{system}-1"} <= set(names)


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The same in this process, for what trains nothing: to import torch takes seconds."""

    def call(cifar10: Path, out: Path, *options: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", arguments(cifar10, out, *options))
        try:
            main()
        except SystemExit as exc:
            return int(exc.code or 0), capsys.readouterr().out
        return 0, capsys.readouterr().out

    return call


def test_a_killed_table_goes_on_and_what_is_done_is_not_done_again(
    cifar10: Path, tmp_path: Path, run_here: Run
) -> None:
    out, name = tmp_path / "out", "head-supervised-0"
    process = start(cifar10, out, "--only", name)
    deadline = time.monotonic() + 240
    while not (out / name / "metrics.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    code, printed = run(cifar10, out, "--only", name)
    assert code == 0
    assert printed.count("head-supervised-0: stochcon train") == 1
    record = json.loads((out / name / "run.json").read_text())
    assert record["steps"] == record["num_steps"] == 8
    assert record["classes"] == ["red", "green", "blue"]
    assert "test_top1" in (out / name / "metrics.jsonl").read_text()
    assert run_here(cifar10, out, "--only", name) == (0, "")

    assert run_here(cifar10, out, "--collect", str(tmp_path / "kept")) == (0, "")
    kept = [path.relative_to(tmp_path / "kept") for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert set(kept) == {Path(name, "run.json"), Path(name, "metrics.jsonl")}


def test_a_run_without_weights_is_done_as_long_as_nothing_needs_them(
    cifar10: Path, tmp_path: Path, run_here: Run
) -> None:
    folder = tmp_path / "out" / "head-supervised-0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"steps": 8, "num_steps": 8}')

    def states() -> list[bool]:
        _, printed = run_here(cifar10, tmp_path / "out", "--only", "head-supervised-0*", "--list")
        return [line.startswith("done") for line in printed.splitlines()]

    assert states() == [False, False]
    (folder / "evaluation.json").write_text("{}")
    assert states() == [True, True]
    (folder / "evaluation.json").unlink()
    (folder / "last.pt").touch()
    assert states() == [True, False]


def test_two_processes_do_not_take_the_same_task(cifar10: Path, tmp_path: Path, run_here: Run) -> None:
    out = tmp_path / "out"
    (out / "locks").mkdir(parents=True)
    with (out / "locks" / "head-simclr-0.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run_here(cifar10, out, "--only", "head-simclr-0") == (0, "")
    assert not (out / "head-simclr-0").exists()


def test_a_task_that_fails_is_said_and_fails_the_command(cifar10: Path, tmp_path: Path) -> None:
    (cifar10 / "train.parquet").write_bytes(b"no parquet")
    code, printed = run(cifar10, tmp_path / "out", "--only", "head-simclr-0*")
    assert code == 1
    assert "head-simclr-0: failed with exit code 2" in printed
    assert "head-simclr-0:probe" not in printed  # what follows it cannot be done


def test_commands_can_be_pasted_into_a_shell(cifar10: Path) -> None:
    images = Images.of(cifar10)
    (task,) = (task for task in table(images, images, Path("a b")) if task.name == "head-simclr-1")
    assert command_of(task).startswith("stochcon train cifar10-small-simclr --images ")
    assert "--out 'a b/head-simclr-1' --epochs 8 --seed 1 --precision fp32 --threads 1" in command_of(task)
