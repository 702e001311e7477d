"""Print what the extras named need, a requirement a line, without StochCon itself.

So an image's dependencies can be a layer of their own, which changes only when these lines do.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_OWN_EXTRAS = re.compile(r"stochcon\[([a-z,0-9]+)\]")


def requirements(project: dict[str, Any], extras: list[str]) -> Iterator[str]:
    """The project's own dependencies, and those of `extras` and of the extras that these name."""
    yield from project["dependencies"]
    for extra in extras:
        yield from _of_extra(project["optional-dependencies"], extra)


def _of_extra(extras: dict[str, list[str]], name: str) -> Iterator[str]:
    for line in extras[name]:
        own = _OWN_EXTRAS.fullmatch(line)
        if own is None:
            yield line
            continue
        for inner in own[1].split(","):
            yield from _of_extra(extras, inner)


if __name__ == "__main__":
    described = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    print(*dict.fromkeys(requirements(described, sys.argv[1:])), sep="\n")
