"""A worker that only keeps the books, as a process of its own that can be killed at any moment.

An image is a number here, and a scan finds NUM_PLACES of them. Of each shard that is counted as done, as
far as the ledger has said so, its images are printed.
"""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from service.jobs.job import Counts
from service.jobs.ledger import Lease, LeaseLost, Ledger, Scanned, cut
from service.jobs.opening import open_ledger
from tests.service.jobs.ledger_steps import Opener

NUM_PLACES = 1000
SHARD_SIZE = 4
SCANNED_AT_ONCE = 50


def start_workers(opener: Opener, names: Sequence[str], lease_s: float) -> list["subprocess.Popen[str]"]:
    """Start processes that begin at once and work until there is nothing to do."""
    workers = [_start(opener, name, lease_s) for name in names]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return workers


def _start(opener: Opener, name: str, lease_s: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.service.jobs.ledger_worker"),
            *(str(opener.data), opener.redis_url or "", name, str(lease_s)),
        ],
        cwd=Path(__file__).resolve().parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_shards(printed: str) -> list[list[int]]:
    """What a worker has printed so far."""
    return [json.loads(line) for line in printed.splitlines()]


def work(ledger: Ledger, name: str, lease_s: float, seen: list[list[int]]) -> None:
    """Do shards until all are done, letting some leases run out; `seen` gets those that counted."""
    chance = random.Random(name)
    while ledger.has_work():
        is_slow = chance.random() < 0.1
        lease = ledger.lease(name, 0 if is_slow else lease_s)
        if lease is None:
            threading.Event().wait(0.01)  # Another has the rest, and may yet lose it.
            continue
        with suppress(LeaseLost):
            if lease.is_scan:
                scan(ledger, lease)
            else:
                ledger.complete(lease, Counts(added=len(lease.places)))
                seen.append([int(str(place)) for place in lease.places])
                assert not is_slow


def scan(ledger: Ledger, lease: Lease) -> None:
    first = 0 if lease.scanned_to is None else int(str(lease.scanned_to)) + 1
    for start in range(first, NUM_PLACES, SCANNED_AT_ONCE):
        places = list(range(start, min(start + SCANNED_AT_ONCE, NUM_PLACES)))
        ledger.extend(lease, Scanned(cut(places, SHARD_SIZE), [], places[-1], "v1"))
    ledger.complete(lease)


class _Printed(list[list[int]]):
    def append(self, shard: list[int]) -> None:
        print(json.dumps(shard), flush=True)


def main(data: str, redis_url: str, name: str, lease_s: str) -> None:
    ledger = open_ledger(Path(data), redis_url or None)
    print("ready", flush=True)
    sys.stdin.readline()
    work(ledger, name, float(lease_s), _Printed())
    ledger.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
