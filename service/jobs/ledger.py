"""The ledger of jobs: what is to be done, who does it, and what became of it. It is also the queue.

A job is cut into shards. Its first shard is the scan, which finds the images and adds the shards that
index them. A worker leases a shard, renews the lease while it works, and completes the shard or hands it
back. A lease that is not renewed in time runs out, and the shard is leased to the next who asks. Whoever
held it before gets LeaseLost from every call: what counts is counted once.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.jobs.job import NOTHING, Counts, Job, JobFailure, JobSpec, Place

LEASE_S = 15.0
"""How long a worker may be silent."""

RATE_WINDOW_S = 60.0
"""What a job's rate is the mean over."""

SCAN = 0
"""Number of the shard that is the scan."""

SHARD_PLACES = 128
"""Images in one shard: a second of work, and what is done over when a worker dies."""


class LeaseLost(Exception):
    """The shard is no longer this worker's: the lease ran out, or the job was cancelled."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One shard, held by one worker."""

    job_id: str
    spec: JobSpec
    shard: int
    """Its number in the job; 0 is the scan."""
    places: list[Place]
    """Where its images are; none for the scan."""
    token: str
    """Proof of the lease; another holder has another."""
    attempt: int
    """1 for the first. Shards handed back do not count."""
    version: str | None
    """That of the source when the scan began; None before it has found anything."""
    scanned_to: Place | None
    """The last place that the scan has found so far."""

    @property
    def is_scan(self) -> bool:
        return self.shard == SCAN


@dataclass(frozen=True, slots=True)
class Scanned:
    """A part of what a scan finds."""

    shards: Sequence[Sequence[Place]]
    """The places, cut into shards."""
    failures: Sequence[JobFailure]
    up_to: Place | None
    """Where another scan would go on: the last of the places, or of those before if there are none."""
    version: str
    """That of the source."""

    @property
    def num_found(self) -> int:
        return sum(map(len, self.shards)) + len(self.failures)


class Ledger(Protocol):
    """What the service and its workers ask of it. Safe to use from many threads and processes.

    Every call raises BackendUnavailable when the ledger cannot be reached, and those that name a job
    raise NotFound if there is none. What a call has returned from is durable.

    Of a call that raised BackendUnavailable nobody knows whether it was done. A holder may call again:
    LeaseLost then says that it was done, or that the lease has run out. Only `extend` must not be repeated:
    give the scan up, and whoever takes it over goes on from what is there.
    """

    # For the service

    def submit(self, spec: JobSpec) -> Job:
        """Queue a job."""
        ...

    def job(self, job_id: str) -> Job:
        """One job as it is now."""
        ...

    def jobs(self, after: str | None = None, limit: int = 100) -> list[Job]:
        """Jobs, newest first, from the first that is older than `after`."""
        ...

    def failures(self, job_id: str, skip: int = 0, limit: int = 100) -> list[JobFailure]:
        """Images that failed, in the order in which they did."""
        ...

    def pause(self, job_id: str) -> Job:
        """Lease no more shards of it; those under way are finished. Raises Conflict unless it is open."""
        ...

    def resume(self, job_id: str) -> Job:
        """Go on with a paused job. Raises Conflict unless it is open."""
        ...

    def cancel(self, job_id: str) -> Job:
        """End a job; what is stored stays, and shards under way are lost to their workers.

        Raises Conflict unless it is open.
        """
        ...

    def retry(self, job_id: str) -> Job:
        """Try the images that failed again, and go on with a job that failed itself.

        Raises Conflict for a job that was cancelled, or has nothing to be tried again.
        """
        ...

    def forget(self, job_id: str) -> None:
        """Remove a job that is over. Raises Conflict if it is open."""
        ...

    def has_work(self) -> bool:
        """Whether any shard could be leased, now or when another's lease runs out."""
        ...

    def num_waiting(self) -> int:
        """Shards that wait for a worker: the depth of the queue."""
        ...

    # For workers

    def lease(self, worker: str, lease_s: float = LEASE_S) -> Lease | None:
        """A shard for the worker of that name, if one waits; jobs take turns."""
        ...

    def renew(self, lease: Lease, lease_s: float = LEASE_S) -> None:
        """Hold on to a shard. Raises LeaseLost."""
        ...

    def extend(self, lease: Lease, found: Scanned) -> None:
        """Add what a scan has found, so that nobody need look there again. Raises LeaseLost.

        Attempts that ended badly before are forgotten: the scan gets on.
        """
        ...

    def complete(self, lease: Lease, counts: Counts = NOTHING, failures: Sequence[JobFailure] = ()) -> None:
        """The shard is done: count it, once. The job is done with its last one. Raises LeaseLost."""
        ...

    def divide(self, lease: Lease, parts: Sequence[Sequence[Place]]) -> None:
        """Put parts of a shard in its place, as if they had never been tried. Raises LeaseLost."""
        ...

    def hand_back(self, lease: Lease, reason: str | None = None) -> None:
        """Let another worker have the shard; `reason` is shown until the job gets on. Raises LeaseLost."""
        ...

    def fail(self, lease: Lease, reason: str) -> None:
        """The job cannot go on; `retry` takes it up where it stands. Raises LeaseLost."""
        ...

    def close(self) -> None:
        """Give back what is held. No other call may follow."""
        ...


def pack_places(places: Sequence[Place]) -> bytes:
    """Places as a ledger keeps them."""
    # Names of neighbours are alike, and there may be millions.
    return zlib.compress(json.dumps(places, separators=(",", ":")).encode(), 1)


def unpack_places(packed: bytes) -> list[Place]:
    """The places that were packed."""
    places: list[Place] = json.loads(zlib.decompress(packed))
    return places


def cut(places: Sequence[Place], size: int = SHARD_PLACES) -> list[Sequence[Place]]:
    """Places cut into shards of at most that many."""
    return [places[start : start + size] for start in range(0, len(places), size)]
