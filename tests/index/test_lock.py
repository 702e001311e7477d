import os
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.errors import BackendUnavailable, StoreLocked
from index.embedded import EmbeddedStore
from index.lock import StoreLock

HOLD = """
import sys
from pathlib import Path
from index.lock import StoreLock
lock = StoreLock(Path(sys.argv[1]), "http://127.0.0.1:8123")
print("held", flush=True)
sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_pid_url_and_remedy(tmp_path: Path) -> None:
    with hold(tmp_path) as owner:
        with pytest.raises(StoreLocked) as caught:
            EmbeddedStore.open(tmp_path)
        owner.stdin.close()
    assert caught.value.url == "http://127.0.0.1:8123"
    assert f"process {owner.pid}" in str(caught.value)
    assert "--url http://127.0.0.1:8123" in str(caught.value)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with hold(tmp_path) as owner:
        owner.kill()
        owner.wait()
        EmbeddedStore.open(tmp_path).close()


def test_one_process_cannot_open_a_store_twice(tmp_path: Path) -> None:
    with (
        EmbeddedStore.open(tmp_path),
        pytest.raises(StoreLocked, match=f"process {os.getpid()}: wait") as caught,
    ):
        EmbeddedStore.open(tmp_path)
    assert caught.value.url is None


def test_a_shorter_signature_replaces_a_longer_one(tmp_path: Path) -> None:
    StoreLock(tmp_path, "http://a-long-name.example.org:8000/with/a/path").release()
    lock = StoreLock(tmp_path, "http://b:1")
    with pytest.raises(StoreLocked) as caught:
        StoreLock(tmp_path, None)
    lock.release()
    assert caught.value.url == "http://b:1"


def test_a_lock_not_yet_signed_is_still_a_lock(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path, None)
    (tmp_path / "store.lock").write_text("")
    with pytest.raises(StoreLocked, match="another process"):
        StoreLock(tmp_path, None)
    lock.release()


def test_a_folder_that_cannot_hold_a_lock_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "store.lock").mkdir()
    with pytest.raises(BackendUnavailable, match="--data"):
        StoreLock(tmp_path, None)
