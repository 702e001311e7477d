"""Memory is really kept: the system counts the pages it has to clear for a tensor of a freed one's size."""

import platform
import subprocess
import sys

import pytest

_USES = """
import resource
import torch
from trainer.memory import keep_freed_memory

if {keep}:
    assert keep_freed_memory()
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(64 << 20, dtype=torch.uint8).fill_(1)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[0], sum(faults[10:]) // 10)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def _faults(keep: bool) -> list[int]:
    code = _USES.format(keep=keep)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return [int(word) for word in out.split()]


def test_a_tensor_reuses_the_pages_of_a_freed_one() -> None:
    first, later = _faults(keep=True)
    assert first > 10 * max(later, 1)


def test_otherwise_they_are_cleared_again() -> None:
    first, later = _faults(keep=False)
    assert later > 0.9 * first
