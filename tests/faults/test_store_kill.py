"""A writer killed with SIGKILL loses nothing that it acknowledged, and leaves nothing half done."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from contracts.codes import hamming
from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef

MODEL = ModelRef("a" * 64, "tiny", 64)
ROOT = Path(__file__).resolve().parents[2]

# Three threads, each with ids of its own, upsert and delete at random. A line says what begins, another
# that it is done. Segments of 64 slots are written and compacted all the while.
WRITER = """
import json, os, random, sys, threading
from pathlib import Path
from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef

def say(line):
    os.write(1, (json.dumps(line) + "\\n").encode())

def write(store, thread, seed):
    rng = random.Random(seed)
    step = 0
    while True:
        step += 1
        ids = [f"{thread}-{number}" for number in rng.sample(range(120), rng.choice([1, 5, 60]))]
        if rng.random() < 0.3:
            say(["begin", thread, {item_id: None for item_id in ids}])
            store.delete("c", ids)
        else:
            codes = {item_id: rng.randbytes(8) for item_id in ids}
            say(["begin", thread, {item_id: code.hex() for item_id, code in codes.items()}])
            store.upsert("c", [Item(i, c, "x", {"step": step}) for i, c in codes.items()], MODEL)
        say(["done", thread])

MODEL = ModelRef("a" * 64, "tiny", 64)
store = EmbeddedStore.open(Path(sys.argv[1]), num_threads=1, segment_slots=64)
store.create_collection("c", MODEL)
for thread in range(3):
    threading.Thread(target=write, args=(store, thread, int(sys.argv[2]) * 10 + thread)).start()
"""


def run_until_killed(folder: Path, seed: int, num_lines: int) -> list[list]:
    """What the writer said until it was killed, somewhere after `num_lines` lines."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(seed)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with writer:
        said = [writer.stdout.readline() for _ in range(num_lines)]
        writer.kill()
        said += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL
    return [json.loads(line) for line in said]


def apply(items: dict[str, str], change: dict[str, str | None]) -> dict[str, str]:
    return {item_id: code for item_id, code in (items | change).items() if code is not None}


def test_an_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    rng = random.Random(11)
    acknowledged: list[dict[str, str]] = [{}, {}, {}]
    for seed in range(8):
        under_way: list[dict[str, str | None] | None] = [None, None, None]
        for line in run_until_killed(tmp_path, seed, num_lines=rng.randrange(2, 400)):
            thread = line[1]
            if line[0] == "begin":
                under_way[thread] = line[2]
            else:
                acknowledged[thread] = apply(acknowledged[thread], under_way[thread])
                under_way[thread] = None
        with EmbeddedStore.open(tmp_path, num_threads=1) as store:
            assert store.verify() == []
            found = store.list_items("c", limit=10_000)
            for thread in range(3):
                mine = {item.id: item.code.hex() for item in found if item.id.startswith(f"{thread}-")}
                # What was under way when the process died may have happened, but wholly or not at all.
                possible = [acknowledged[thread]]
                if under_way[thread] is not None:
                    possible.append(apply(acknowledged[thread], under_way[thread]))
                assert mine in possible
                acknowledged[thread] = mine
            check_search(store, found)


def check_search(store: EmbeddedStore, items: list[Item]) -> None:
    query = np.zeros((1, 8), np.uint8)
    hits = store.search("c", query, k=1000)[0].hits
    codes = np.array([np.frombuffer(item.code, np.uint8) for item in items]).reshape(-1, 8)
    expected = dict(zip((item.id for item in items), hamming(query, codes)[0].tolist(), strict=True))
    assert len(hits) == len(expected)
    assert {hit.id: hit.distance for hit in hits} == expected


# The process kills itself as it enters a function, so that each order of steps is met for certain.
CRASH = """
import os, signal, sys
from pathlib import Path
from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef
import index.catalog, index.embedded, index.segment_files, shutil

def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)

owner, name = sys.argv[2].rsplit(".", 1)
model = ModelRef("a" * 64, "tiny", 64)
store = EmbeddedStore.open(Path(sys.argv[1]), num_threads=1, segment_slots=64)

def items(prefix, count):
    return [Item(f"{prefix}{i}", bytes([i % 256] * 8), "x") for i in range(count)]

store.upsert("c", items("a", 100), model)
setattr(eval(owner), name, die)
action = sys.argv[3]
if action == "fill":
    store.upsert("c", items("b", 100), model)
elif action == "empty":
    store.delete("c", [f"a{i}" for i in range(60)])
elif action == "create":
    store.create_collection("new", model)
elif action == "drop":
    store.delete_collection("c")
os._exit(7)
"""

FIRST = {f"a{i}" for i in range(100)}
BOTH = FIRST | {f"b{i}" for i in range(100)}
FEWER = {f"a{i}" for i in range(60, 100)}


@pytest.mark.parametrize(
    ("where", "action", "expected"),
    [
        ("index.catalog.Writer.set_state", "fill", FIRST),
        # From here on the write is committed.
        ("index.segment_files.SegmentFiles.write", "fill", BOTH),
        ("os.fsync", "fill", BOTH),
        ("Path.rename", "fill", BOTH),
        ("index.segment_files.sync_folder", "fill", BOTH),
        ("index.catalog.Writer.record_segment", "fill", BOTH),
        ("index.catalog.Writer.move", "empty", FEWER),
        ("index.catalog.Writer.forget_segment", "empty", FEWER),
        ("index.segment_files.SegmentFiles.delete", "empty", FEWER),
        ("index.catalog.Catalog.create", "create", FIRST),
        ("Path.rename", "create", FIRST),
        ("Path.rename", "drop", FIRST),
        ("shutil.rmtree", "drop", None),
    ],
)
def test_a_crash_at_each_step_leaves_a_sound_store(
    tmp_path: Path, where: str, action: str, expected: set[str] | None
) -> None:
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path), where, action], cwd=ROOT, check=False
    )
    assert crashed.returncode == -signal.SIGKILL
    with EmbeddedStore.open(tmp_path, num_threads=1, segment_slots=64) as store:
        assert store.verify() == []
        if expected is None:
            assert store.collections() == []
        else:
            assert [info.name for info in store.collections()] == ["c"]
            items = store.list_items("c", limit=1000)
            assert {item.id for item in items} == expected
            check_search(store, items)
        store.upsert("c", [Item("next", bytes(8))], MODEL)
    names = [path.name for path in (tmp_path / "collections").iterdir()]
    assert names == ["c"]
    assert not list((tmp_path / "collections").rglob("*.part"))
