"""`run.json`: what a run is and how far it has come, in words that need no torch to be read."""

import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer.recipe import Recipe

RUN_RECORD = "run.json"
_FORMAT = 1


@dataclass(slots=True)
class RunRecord:
    """Written with each checkpoint; time adds up over interruptions."""

    path: Path
    values: dict[str, Any]
    _seconds: float
    _since_s: float = field(default_factory=time.monotonic)

    @classmethod
    def open(
        cls,
        folder: Path,
        recipe: Recipe,
        classes: list[str],
        num_images: int,
        images: str,
        start_step: int,
        num_steps: int,
        command: str,
        device: str,
        ranks: int = 1,
    ) -> "RunRecord":
        """The record of a run that goes on from `start_step`; one from step 0 counts its time anew."""
        path = folder / RUN_RECORD
        goes_on = start_step > 0 and path.exists()
        seconds = float(json.loads(path.read_text())["seconds"]) if goes_on else 0.0
        values = {
            "format": _FORMAT,
            "recipe": recipe.to_dict(),
            "classes": classes,
            "num_images": num_images,
            "images": images,
            "command": command,
            "hardware": describe_hardware(device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "ranks": ranks,
            "num_steps": num_steps,
        }
        return cls(path, values, seconds)

    def save(self, step: int) -> None:
        """Write the record after `step` steps, atomically."""
        seconds = round(self._seconds + time.monotonic() - self._since_s, 1)
        partial = self.path.with_name(f"{RUN_RECORD}.part")
        partial.write_text(json.dumps({**self.values, "steps": step, "seconds": seconds}, indent=1) + "\n")
        partial.replace(self.path)


def unfinished(folder: Path) -> str:
    """What to say of a run that has not come to its end; empty for one that has, or that has no record."""
    path = folder / RUN_RECORD
    if not path.exists():
        return ""
    values = json.loads(path.read_text())
    done, num_steps = values["steps"], values["num_steps"]
    return f"{folder} is not finished: it is at step {done} of {num_steps}" if done < num_steps else ""


def describe_hardware(device: str) -> str:
    """The processor or GPU that a network runs on, as its maker names it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = names[0].partition(":")[2].strip() if names else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores"
