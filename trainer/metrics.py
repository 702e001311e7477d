"""What a run reports: a JSON-lines file, TensorBoard, and a progress bar or plain lines."""

import json
import math
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

METRICS = "metrics.jsonl"


class MetricsWriter:
    """Writes one line for each report. On resume, lines past the checkpoint are dropped first."""

    def __init__(self, folder: Path, num_steps: int, start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / METRICS
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= start_step]
        partial = path.with_name(f"{METRICS}.part")
        partial.write_text("".join(kept))
        partial.replace(path)
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(folder / "tensorboard", purge_step=start_step + 1)
        self._start_step, self._num_steps = start_step, num_steps
        self._terminal = sys.stderr.isatty()
        self._printed_s = -math.inf
        self._progress = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self._terminal,
        )
        self._task = self._progress.add_task("train", total=num_steps, completed=start_step, status="")

    def __enter__(self) -> "MetricsWriter":
        if self._start_step >= self._num_steps:
            print(f"all {self._num_steps} steps are done already", file=sys.stderr, flush=True)
        elif self._start_step:
            told = f"going on after step {self._start_step} of {self._num_steps}"
            print(told, file=sys.stderr, flush=True)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._board.close()
        self._file.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Report `values` after `step` steps."""
        rounded = {key: float(f"{value:.6g}") for key, value in values.items()}
        self._file.write(json.dumps({"step": step, **rounded}) + "\n")
        for key, value in values.items():
            self._board.add_scalar(key, value, step)
        if "loss" in values:
            short = f"loss {values['loss']:.3f}  {values['images_per_s']:.0f} images/s"
            self._progress.update(self._task, completed=step, status=short)
        # Without a terminal, a line every ten seconds is enough to see that the run lives.
        now = time.monotonic()
        if not self._terminal and (now - self._printed_s >= 10 or step >= self._num_steps):
            status = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
            print(f"step {step}/{self._num_steps}  {status}", file=sys.stderr, flush=True)
            self._printed_s = now


def _lines(path: Path) -> list[str]:
    """Whole lines; a run that was killed may have left part of one."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
