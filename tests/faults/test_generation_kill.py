"""kill -9 while generations are made, filled, switched and dropped: all are whole, and of one model."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from index.embedded import EmbeddedStore

ROOT = Path(__file__).resolve().parents[2]
NUM_KILLS = 10
NUM_ITEMS = 150

# Two collections go from one model to the next, over and over; a code says which model made it.
SWITCHER = """
import sys
from pathlib import Path
from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef, other_generation

def items(model):
    return [Item(str(number), bytes([int(model.name)] * 8)) for number in range(int(sys.argv[2]))]

store = EmbeddedStore.open(Path(sys.argv[1]), num_threads=1, segment_slots=64)
now = int(store.active_model or 0)
if not store.collections():
    for name in "ab":
        store.upsert(name, items(ModelRef("0", "0", 64)), ModelRef("0", "0", 64))
print("open", flush=True)
while True:
    now = (now + 1) % 100
    model = ModelRef(str(now), str(now), 64)
    for name in "ab":
        store.stage(name, model)
        store.upsert(other_generation(name), items(model), model)
    store.switch(["a", "b"], model.id)
    print(now, flush=True)
    for name in "ab":
        store.drop_other(name)
"""


@pytest.mark.timeout(240)
def test_a_kill_leaves_one_generation_or_the_other_and_never_a_mix(tmp_path: Path) -> None:
    moments = random.Random(20260302)
    seen = set()
    for _ in range(NUM_KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", SWITCHER, str(tmp_path), str(NUM_ITEMS)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            time.sleep(moments.uniform(0, 0.3))
            process.kill()
            told = [int(line) for line in process.stdout.read().splitlines()]
        with EmbeddedStore.open(tmp_path, num_threads=1, segment_slots=64) as store:
            assert store.verify() == []
            infos = store.collections()
            if len(infos) < 2:
                continue  # Killed before there was anything to switch.
            active = int(store.active_model or 0)
            seen.add(active)
            if told:
                assert active in (told[-1], (told[-1] + 1) % 100), "a switch that was told of is there"
            for info in infos:
                assert (info.model.name, info.num_items) == (str(active), NUM_ITEMS)
                codes = {item.code for item in store.list_items(info.name, limit=1000)}
                assert codes == {bytes([active] * 8)}
    assert len(seen) > NUM_KILLS // 2
