"""The table of docs/results.md: every system of the paper at the size of two CPU cores, from one command.

    python -m benchmarks.results --cifar10 DIR --tiny-imagenet DIR --out runs/results

DIR holds `train*.parquet` and `test.parquet` (or `val.parquet`). Each task is one `stochcon` command on one
thread; a task that is done is passed over and one that was interrupted goes on where it stopped, so the
command can be stopped at any point and given again. `docs/results/runs` has what is done, without weights:
copied to `--out`, only what is missing there is made. Given a second time while it runs, the two share the
tasks: one a core is the quickest. `--list` prints the table, each task with its command and state, and runs
nothing; `--only PATTERN` takes part of it. `stochcon report` draws what is done.

Headline runs (`head-*`, two seeds of what is claimed) have the larger share of the time; ablations
(`short-*`) have the same settings and fewer epochs, and are compared only among themselves.
"""

import argparse
import fcntl
import fnmatch
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint import CHECKPOINT
from trainer.metrics import METRICS
from trainer.run_record import RUN_RECORD

EPOCHS = {"head": 8, "short": 3, "tiny": 4}
PROBE_EPOCHS = {"head": 8, "short": 4, "tiny": 4, "regression": 3}
FINETUNE_EPOCHS = 4
FIGURE_5_EPOCHS = (1, 2, 6, 8)
"""With the above, in place of the paper's 20 to 100 epochs of fine-tuning."""

FEWER_QUERIES = 2500
"""Of 10,000 (or 5,000): enough for ablations, and for some twenty codes that are compared on one network."""

PRECISION = "fp32"
"""The same on every processor: bf16 is quick on few, and numbers of both in one table would not compare."""

HEADLINE = ("bernoulli", "simclr", "supervised")
"""The comparison that carries a claim, and has two seeds."""

SYSTEMS = ("bernoulli", "simclr", "gaussian", "supervised", "supervised-bernoulli")
SHORT = (
    "bernoulli",
    "simclr",
    "bernoulli-64",
    "gaussian-64",
    "bernoulli-hard-top",
    "bernoulli-soft-bottom",
    "bernoulli-hard-bottom",
    "bernoulli-512",
    "gaussian",
    "gaussian-own-64",
    "bernoulli-32",
    "bernoulli-256",
    "bernoulli-8",
    "bernoulli-128",
    "gaussian-8",
    "gaussian-512",
    "gaussian-own-2048",
    "bernoulli-1024",
    "bernoulli-16",
)
TARGETS = "targets"
"""CIFAR-10 with numbers to regress on."""

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
    product: Path
    after: tuple[str, ...] = ()
    """Names of the tasks that have to be done first."""
    module: str = "stochcon"
    """What the arguments are for."""

    def is_done(self) -> bool:
        """Whether the product is there and, for a training, whole."""
        if not self.product.exists():
            return False
        if self.product.name != RUN_RECORD:
            return True
        record = json.loads(self.product.read_text())
        return bool(record["steps"] == record["num_steps"])

    def lacks_weights(self) -> bool:
        """Whether it is a training whose checkpoint is not there."""
        return self.product.name == RUN_RECORD and not self.product.with_name(CHECKPOINT).exists()


def table(cifar10: Images, tiny: Images, out: Path) -> list[Task]:
    """Every task, in the order in which results are wanted."""
    described = Images((out / TARGETS / "train.parquet",), out / TARGETS / "test.parquet")
    both = ("--images", str(cifar10.test), *cifar10.options(queries=False), "--out", str(out / TARGETS))
    tasks = [Task(TARGETS, both, described.train[0], module="benchmarks.targets")]
    for system in SYSTEMS:
        tasks += _run(f"head-{system}-0", f"cifar10-small-{system}", cifar10, out, 0)
    for system in SHORT:
        tasks += _run(f"short-{system}-0", f"cifar10-small-{system}", cifar10, out, 0)
    tasks += [_finetune("head-simclr-0", cifar10, out, "h", epochs, 0) for epochs in FIGURE_5_EPOCHS]
    for system in HEADLINE:
        tasks += _run(f"head-{system}-1", f"cifar10-small-{system}", cifar10, out, 1)
    for system in ("bernoulli", "simclr", "gaussian"):
        tasks += [
            _probe(f"head-{system}-0", described, out, 0, column) for column in ("brightness", "detail")
        ]
    for system in HEADLINE:
        tasks += _run(f"tiny-{system}-0", f"tiny-imagenet-small-{system}", tiny, out, 0)
    return tasks


def _run(name: str, recipe: str, images: Images, out: Path, seed: int) -> Iterator[Task]:
    """A training and what is measured of it."""
    kind, folder = name.split("-")[0], out / name
    yield Task(
        name,
        (
            *("train", recipe, *images.options(queries=False), "--monitor", str(images.test)),
            *("--out", str(folder), "--epochs", str(EPOCHS[kind]), *_learning(seed)),
        ),
        folder / RUN_RECORD,
    )
    system = name.removeprefix(f"{kind}-").rpartition("-")[0]
    yield _evaluate(name, "retrieval", images, out, 0 if kind == "head" else FEWER_QUERIES)
    if "supervised" in name:
        return
    yield _probe(name, images, out, seed)
    if system in ("bernoulli", "simclr") and kind != "tiny":
        yield _evaluate(name, "baselines", images, out, FEWER_QUERIES)
    if system in UNITS:
        yield _evaluate(name, "units", images, out)
    if kind != "short":
        on = "h" if system == "simclr" else "z"
        yield _finetune(name, images, out, on, FINETUNE_EPOCHS, seed)


def _evaluate(name: str, what: str, images: Images, out: Path, max_queries: int = 0) -> Task:
    product = "evaluation.json" if what == "retrieval" else f"{what}.json"
    arguments = ["evaluate", str(out / name), *images.options(queries=True), "--only", what]
    arguments += ["--max-queries", str(max_queries)] if max_queries else []
    return Task(f"{name}:{what}", (*arguments, "--threads", "1"), out / name / product, (name,))


def _probe(name: str, images: Images, out: Path, seed: int, target: str | None = None) -> Task:
    epochs = PROBE_EPOCHS["regression" if target else name.split("-")[0]]
    arguments = ["probe", str(out / name), *images.options(queries=True), "--epochs", str(epochs)]
    arguments += [*_learning(seed), *(["--target", target] if target else [])]
    suffix = f"-{target}" if target else ""
    after = (name, TARGETS) if target else (name,)
    return Task(f"{name}:probe{suffix}", tuple(arguments), out / name / f"probe{suffix}.json", after)


def _learning(seed: int) -> list[str]:
    """Options that everything that learns has in common."""
    return ["--seed", str(seed), "--precision", PRECISION, "--threads", "1"]


def _finetune(name: str, images: Images, out: Path, on: str, epochs: int, seed: int) -> Task:
    folder = out / f"{name}-finetuned-{on}-{epochs}"
    arguments = (
        *("finetune", str(out / name), *images.options(queries=True), "--out", str(folder)),
        *("--on", on, "--epochs", str(epochs), *_learning(seed)),
    )
    return Task(f"{name}:finetune-{on}-{epochs}", arguments, folder / "finetune.json", (name,))


def run(tasks: list[Task], out: Path) -> bool:
    """Do all that is not done and that no other process is doing; whether anything failed."""
    failed: set[str] = set()
    while _do_first(tasks, out, failed):
        pass
    return bool(failed)


def _do_first(tasks: list[Task], out: Path, failed: set[str]) -> bool:
    """Do the first task that can be done; False if there is none. Those that fail are added to `failed`."""
    pending = _pending(tasks)
    for task in tasks:
        if task.name not in pending or task.name in failed or pending.intersection(task.after):
            continue
        with _claimed(out, task) as claimed:
            if not claimed or task.name not in _pending(tasks):  # another process is at it, or was just now
                continue
            print(f"{task.name}: {command_of(task)}", flush=True)
            code = subprocess.run([sys.executable, "-m", task.module, *task.arguments]).returncode
            if code != 0 or not task.is_done():
                print(f"{task.name}: failed with exit code {code}", flush=True)
                failed.add(task.name)
            return True
    return False


def _pending(tasks: list[Task]) -> set[str]:
    """Names of the tasks to do: trainings without weights that others need are among them."""
    pending = {task.name for task in tasks if not task.is_done()}
    wanted = {name for task in tasks if task.name in pending for name in task.after}
    return pending | {task.name for task in tasks if task.name in wanted and task.lacks_weights()}


def collect(tasks: list[Task], folder: Path) -> None:
    """Copy the figures of finished runs, which are all that a report needs, to `folder`."""
    for task in tasks:
        if not task.is_done() or task.name == TARGETS:
            continue
        copies = folder / task.product.parent.name
        copies.mkdir(parents=True, exist_ok=True)
        for name in {task.product.name, RUN_RECORD, METRICS}:
            shutil.copy(task.product.with_name(name), copies / name)


def command_of(task: Task) -> str:
    """What to type for this task alone."""
    program = ["stochcon"] if task.module == "stochcon" else ["python", "-m", task.module]
    return shlex.join([*program, *task.arguments])


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
    parser.add_argument(
        "--collect", type=Path, help="copy what is done, without weights, to this folder, and run nothing"
    )
    parser.add_argument("--list", action="store_true", help="print the table and its state, and run nothing")
    options = parser.parse_args()
    tasks = table(Images.of(options.cifar10), Images.of(options.tiny_imagenet), options.out)
    if options.only:
        tasks = [t for t in tasks if any(fnmatch.fnmatch(t.name, pattern) for pattern in options.only)]
    if options.list:
        pending = _pending(tasks)
        for task in tasks:
            print(f"{'    ' if task.name in pending else 'done'} {task.name:40} {command_of(task)}")
        return
    if options.collect:
        collect(tasks, options.collect)
        return
    sys.exit(run(tasks, options.out))


if __name__ == "__main__":
    main()
