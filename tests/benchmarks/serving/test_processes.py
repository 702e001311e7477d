"""Processes as the benchmark handles them: real ones, with children."""

import sys
from pathlib import Path

import pytest

from benchmarks.serving.processes import NotServing, Server, poll, processor_s, resident_bytes, tree

BURN = "import time\nwhile time.process_time() < 0.4: pass\n"
WITH_CHILD = (
    "import subprocess, sys, time\n"
    "hold = bytearray(64 * 2**20)\n"
    f"subprocess.Popen([sys.executable, '-c', {BURN + 'time.sleep(60)'!r}])\n"
    "time.sleep(60)\n"
)
BUSY = "while True: pass"


def is_alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def start(code: str, folder: Path) -> Server:
    return Server([sys.executable, "-c", code], 1, folder / "log")


def test_processor_time_and_memory_are_those_of_all_descendants(tmp_path: Path) -> None:
    with start(WITH_CHILD, tmp_path) as server:
        assert any(processor_s(server.pid) >= 0.4 for _ in poll(30))
        members = tree(server.pid)
        assert len(members) == 2
        assert resident_bytes(server.pid) > resident_bytes(members[1]) + 64 * 2**20
    assert not any(is_alive(member) for member in members)


def test_a_server_that_is_held_still_takes_no_processor_time(tmp_path: Path) -> None:
    with start(BUSY, tmp_path) as server:
        assert any(processor_s(server.pid) > 0.05 for _ in poll(30))
        server.pause()
        before = processor_s(server.pid)
        other = start(BUSY, tmp_path)
        with other:
            assert any(processor_s(other.pid) > 0.1 for _ in poll(30))
        assert processor_s(server.pid) <= before + 0.02
        server.resume()
        assert any(processor_s(server.pid) > before + 0.05 for _ in poll(30))
        server.pause()  # and ends though it is held


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    with start("raise SystemExit('the model is missing')", tmp_path) as server:
        assert any(not is_alive(server.pid) for _ in poll(30))
        with pytest.raises(NotServing, match="the model is missing"):
            server.check()
