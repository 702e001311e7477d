"""Ledgers of either kind, and what tests do with them over and over."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.jobs.job import Job, JobFailure, JobSpec, Place
from service.jobs.ledger import Lease, Ledger, Scanned
from service.jobs.opening import open_ledger

SPEC = JobSpec(source="/images")


@dataclass
class Opener:
    """Opens the same ledger again and again, as other processes do."""

    data: Path
    redis_url: str | None
    opened: list[Ledger] = field(default_factory=list)

    def open(self) -> Ledger:
        self.opened.append(open_ledger(self.data, self.redis_url))
        return self.opened[-1]

    def close(self) -> None:
        for ledger in self.opened:
            ledger.close()


def lease(ledger: Ledger, lease_s: float = 60.0, worker: str = "worker") -> Lease:
    """A lease, where there must be one. With 0 seconds it runs out at once."""
    leased = ledger.lease(worker, lease_s)
    assert leased is not None
    return leased


def submit_scanned(
    ledger: Ledger, shards: Sequence[Sequence[Place]], failures: Sequence[JobFailure] = ()
) -> Job:
    """A job whose scan is done; no other job may wait before it."""
    job = ledger.submit(SPEC)
    scan = lease(ledger)
    assert (scan.job_id, scan.is_scan) == (job.id, True)
    ledger.extend(scan, Scanned(shards, failures, shards[-1][-1] if shards else None, "v1"))
    ledger.complete(scan)
    return ledger.job(job.id)


def num_settled(ledger: Ledger, job_id: str) -> int:
    return ledger.job(job_id).counts.settled
