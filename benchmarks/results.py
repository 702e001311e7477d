"""The table of docs/results.md: every system of the paper at the size of two CPU cores, from one command.

    python -m benchmarks.results --cifar10 DIR --tiny-imagenet DIR --out runs/results

DIR holds `train*.parquet` and `test.parquet` (or `val.parquet`). Each task is one `stochcon` command on one
thread; a task that is done is passed over and one that was interrupted goes on where it stopped, so the
command can be stopped at any point and given again. Given a second time while it runs, the two share the
tasks: one a core is the quickest. `--list` prints the table, each task with its command and state, and runs
nothing; `--only PATTERN` takes part of it. When all is done, `stochcon report` draws it.

The headline comparison (`head-*`, two seeds) has the larger share of the time; ablations (`short-*`) have
the same settings and fewer epochs, and are compared only among themselves.
"""

import argparse
import fcntl
import fnmatch
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HEAD_EPOCHS = 10
SHORT_EPOCHS = 4
TINY_EPOCHS = 8
PROBE_EPOCHS = {"head": 10, "short": 5, "tiny": 10}
FINETUNE_EPOCHS = 5
FIGURE_5_EPOCHS = (2, 4, 6, 8, 10)
"""The paper's sweep over 20 to 100 epochs of fine-tuning, at a tenth."""

SYSTEMS = ("bernoulli", "simclr", "gaussian", "supervised")
SHORT = (
    "bernoulli",
    "simclr",
    "bernoulli-64",
    "gaussian-64",
    "bernoulli-hard-top",
    "bernoulli-soft-bottom",
    "bernoulli-hard-bottom",
    "bernoulli-512",
    "bernoulli-32",
    "bernoulli-128",
    "bernoulli-8",
    "gaussian",
    "gaussian-8",
    "gaussian-512",
    "gaussian-own-64",
    "gaussian-own-2048",
)
UNITS = ("bernoulli-64", "gaussian-64")
"""Figure 2 right."""


@dataclass(frozen=True, slots=True)
class Images:
    """A data set in Parquet files."""

    train: tuple[Path, ...]
    test: Path

    @classmethod
    def of(cls, folder: Path) -> "Images":
        """The data set in `folder`. Raises SystemExit if a part is missing."""
        train = tuple(sorted(folder.glob("train*.parquet")))
        test = next(
            (folder / name for name in ("test.parquet", "val.parquet") if (folder / name).exists()), None
        )
        if not train or test is None:
            sys.exit(f"{folder} lacks train*.parquet or test.parquet: name the folder that holds both")
        return cls(train, test)

    def options(self, *, queries: bool) -> list[str]:
        """`--images` and, if asked for, `--queries`."""
        named = [part for path in self.train for part in ("--images", str(path))]
        return [*named, "--queries", str(self.test)] if queries else named


@dataclass(frozen=True, slots=True)
class Task:
    """One command, and the file that says that it is done."""

    name: str
    arguments: tuple[str, ...]
    """Of `stochcon`."""
    product: Path
    after: str | None = None
    """Name of the task that has to be done first."""

    def is_done(self) -> bool:
        """Whether the product is there and, for a training, whole."""
        if not self.product.exists():
            return False
        record = json.loads(self.product.read_text())
        return self.product.name != "run.json" or record["steps"] == record["num_steps"]


def table(cifar10: Images, tiny: Images, out: Path) -> list[Task]:
    """Every task, in the order in which results are wanted."""
    tasks: list[Task] = []
    for seed in (0, 1):
        for system in SYSTEMS:
            tasks += _run(f"head-{system}-{seed}", f"cifar10-small-{system}", cifar10, out, HEAD_EPOCHS, seed)
        tasks += _run(
            f"head-supervised-bernoulli-{seed}",
            "cifar10-small-supervised-bernoulli",
            cifar10,
            out,
            HEAD_EPOCHS,
            seed,
        )
        if seed == 0:
            for system in SHORT:
                recipe = f"cifar10-small-{system}"
                tasks += _run(f"short-{system}-0", recipe, cifar10, out, SHORT_EPOCHS, 0)
            run = "head-simclr-0"
            tasks += [_finetune(run, cifar10, out, "h", epochs, 0) for epochs in FIGURE_5_EPOCHS]
    for seed in (0, 1):
        for system in ("bernoulli", "simclr", "supervised"):
            recipe = f"tiny-imagenet-small-{system}"
            tasks += _run(f"tiny-{system}-{seed}", recipe, tiny, out, TINY_EPOCHS, seed)
    return tasks


def _run(name: str, recipe: str, images: Images, out: Path, epochs: int, seed: int) -> Iterator[Task]:
    """A training and what is measured of it."""
    kind, folder = name.split("-")[0], out / name
    yield Task(
        name,
        (
            *("train", recipe, *images.options(queries=False), "--monitor", str(images.test)),
            *("--out", str(folder), "--epochs", str(epochs), "--seed", str(seed), "--threads", "1"),
        ),
        folder / "run.json",
    )
    measure = (str(folder), *images.options(queries=True))
    only = ("--only", "retrieval")
    yield Task(f"{name}:evaluate", ("evaluate", *measure, *only), folder / "evaluation.json", name)
    if "supervised" in name:
        return
    probe = ("probe", *measure, "--epochs", str(PROBE_EPOCHS[kind]), "--seed", str(seed), "--threads", "1")
    yield Task(f"{name}:probe", probe, folder / "probe.json", name)
    system = name.removeprefix(f"{kind}-").rpartition("-")[0]
    if system in ("bernoulli", "simclr"):
        baselines = ("evaluate", *measure, "--only", "baselines")
        yield Task(f"{name}:baselines", baselines, folder / "baselines.json", name)
    if system in UNITS:
        yield Task(f"{name}:units", ("evaluate", *measure, "--only", "units"), folder / "units.json", name)
    if kind != "short":
        on = "h" if system == "simclr" else "z"
        yield _finetune(name, images, out, on, FINETUNE_EPOCHS, seed)


def _finetune(name: str, images: Images, out: Path, on: str, epochs: int, seed: int) -> Task:
    folder = out / f"{name}-finetuned-{on}-{epochs}"
    arguments = (
        *("finetune", str(out / name), *images.options(queries=True), "--out", str(folder)),
        *("--on", on, "--epochs", str(epochs), "--seed", str(seed), "--threads", "1"),
    )
    return Task(f"{name}:finetune-{on}-{epochs}", arguments, folder / "finetune.json", name)


def run(tasks: list[Task], out: Path) -> bool:
    """Do all that is not done and that no other process is doing; whether anything failed."""
    done, failed = {task.name for task in tasks if task.is_done()}, False
    for task in tasks:
        if task.name in done or (task.after is not None and task.after not in done):
            continue
        with _claimed(out, task) as claimed:
            if not claimed:
                continue
            if not task.is_done():
                print(f"{task.name}: {command_of(task)}", flush=True)
                code = subprocess.run([sys.executable, "-m", "stochcon", *task.arguments]).returncode
                if code != 0 or not task.is_done():
                    print(f"{task.name}: failed with exit code {code}", flush=True)
                    failed = True
                    continue
            done.add(task.name)
    return failed


def command_of(task: Task) -> str:
    """What to type for this task alone."""
    return shlex.join(["stochcon", *task.arguments])


@contextmanager
def _claimed(out: Path, task: Task) -> Iterator[bool]:
    """Whether the task is ours to do; it is, until this process ends, whatever ends it."""
    folder = out / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{task.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def main() -> None:
    """Parse the arguments, and run or list the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--cifar10", type=Path, required=True, help="folder of train.parquet and test.parquet"
    )
    parser.add_argument(
        "--tiny-imagenet", type=Path, required=True, help="folder of the same for Tiny ImageNet"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    parser.add_argument(
        "--only", action="append", help="tasks of this name (* for any), with what follows them"
    )
    parser.add_argument("--list", action="store_true", help="print the table and its state, and run nothing")
    options = parser.parse_args()
    tasks = table(Images.of(options.cifar10), Images.of(options.tiny_imagenet), options.out)
    if options.only:
        tasks = [t for t in tasks if any(fnmatch.fnmatch(t.name, pattern) for pattern in options.only)]
    if options.list:
        for task in tasks:
            print(f"{'done' if task.is_done() else '    '} {task.name:40} {command_of(task)}")
        return
    sys.exit(run(tasks, options.out))


if __name__ == "__main__":
    main()
