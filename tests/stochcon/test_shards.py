"""A scan that is cut off between any two of its calls, and gone on with by another worker."""

import os
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from service.jobs.job import Counts, JobSpec, Place
from service.jobs.ledger import Lease
from service.jobs.roots import Roots
from service.jobs.sqlite_ledger import SqliteLedger
from service.settings import Settings
from stochcon import Client
from stochcon.encoders import Encoders
from stochcon.remote import RemoteBackend
from stochcon.shards import Shards

# In the order of a scan; those with a byte that is no UTF-8 are failures.
NAMES = [
    b"a.jpg",
    b"b\xff.jpg",
    b"c\xff.jpg",
    b"d.jpg",
    b"e.jpg",
    b"f\xff.jpg",
    b"g.jpg",
    b"h\xff.jpg",
    b"i\xff.jpg",
]


class Killed(Exception):
    pass


class KilledAfter:
    """A ledger for a worker that dies after so many calls of it."""

    def __init__(self, ledger: Any, num_calls: int) -> None:
        self._ledger = ledger
        self._num_left = num_calls

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            result = getattr(self._ledger, name)(*args)
            self._num_left -= 1
            if not self._num_left:
                raise Killed
            return result

        return call


@pytest.mark.parametrize("num_calls", range(1, 7))
def test_each_place_and_each_failure_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_calls: int
) -> None:
    monkeypatch.setattr("stochcon.shards.SCANNED_AT_ONCE", 2)
    root, data = tmp_path / "images", tmp_path / "data"
    root.mkdir()
    data.mkdir()
    for name in NAMES:
        (root / os.fsdecode(name)).touch()
    places: list[Place] = []
    now = 1e9
    with (
        closing(SqliteLedger(data / "jobs.sqlite", lambda: now)) as ledger,
        Client("http://127.0.0.1:9") as client,
    ):
        # Nobody is at that address: a scan asks no service.
        shards = Shards(
            RemoteBackend(client), Encoders(Settings(models=tmp_path), capacity=1), Roots((str(root),))
        )
        job_id = ledger.submit(JobSpec(source=str(root))).id

        def index(lease: Lease) -> None:
            places.extend(lease.places)
            ledger.complete(lease, Counts(added=len(lease.places)))

        dying: Any = KilledAfter(ledger, num_calls)
        for worker in (dying, ledger):
            while (lease := ledger.lease("worker", 60)) is not None and not lease.is_scan:
                index(lease)
            if lease is not None:
                with suppress(Killed):
                    shards.do(worker, lease, lambda: False)
            now += 61  # What the dead worker had runs out.
        while (lease := ledger.lease("worker", 60)) is not None:
            index(lease)
        job = ledger.job(job_id)
        failed = Counter(failure.id for failure in ledger.failures(job_id, 0, 100))
    assert set(failed.values()) == {1}
    assert len(failed) == job.counts.failed == 5
    assert (job.state, job.counts.found) == ("done", 9)
    assert sorted(map(str, places)) == ["a.jpg", "d.jpg", "e.jpg", "g.jpg"]
