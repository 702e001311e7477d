"""Scores of each epoch, as the result files have them: rounded to 6 digits, best and last named."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def summary(name: str, values: Sequence[float]) -> dict[str, Any]:
    """One score after each epoch, with the last one beside the best (the paper reports the best).

    `best_epoch` counts from 1 and is the first one if several are best.
    """
    rounded = [round(value, 6) for value in values]
    best = max(rounded)
    return {name: rounded, "best": best, "last": rounded[-1], "best_epoch": rounded.index(best) + 1}


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a result file, atomically."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(values, indent=1) + "\n")
    partial.replace(path)
