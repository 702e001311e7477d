"""Programs of the system that a test needs."""

import os
import shutil

import pytest


def require_program(name: str, source: str) -> str:
    """Path of a program that `source` has. Without it the test is skipped, but fails where CI is set."""
    found = shutil.which(name)
    if found is None:
        skip(f"there is no {name} here: {source} has it")
    return str(found)


def skip(reason: str) -> None:
    """Skip a test for want of a program; fail it where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
