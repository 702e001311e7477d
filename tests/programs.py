"""Programs of the system that a test needs."""

import os
import shutil
from typing import NoReturn

import pytest


def require_program(name: str, source: str) -> str:
    """Path of a program that `source` has. Without it the test is skipped, but fails where CI is set."""
    return shutil.which(name) or skip(f"there is no {name} here: {source} has it")


def skip(reason: str) -> NoReturn:
    """Skip a test for want of a program; fail it where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
