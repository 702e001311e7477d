"""What ledgers say when they cannot do what is asked: the same, wherever they are kept."""

from contracts.errors import BackendUnavailable, Conflict, NotFound
from service.jobs.ledger import Lease, LeaseLost


def no_job(job_id: str) -> NotFound:
    return NotFound(f"there is no job {job_id!r}: list them with GET /jobs")


def not_open(job_id: str, state: str, wanted: str) -> Conflict:
    """`wanted` is what would have been done to the job: `paused`, `resumed`, `cancelled`."""
    return Conflict(f"job {job_id} is {state}: only one that is not over can be {wanted}")


def not_over(job_id: str) -> Conflict:
    return Conflict(f"job {job_id} is not over: cancel it first")


def nothing_to_retry(job_id: str, state: str) -> Conflict:
    if state == "cancelled":
        return Conflict(f"job {job_id} was cancelled: submit it again")
    return Conflict(f"job {job_id} has nothing to try again")


def lease_lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"shard {lease.shard} of job {lease.job_id} is no longer this worker's")


def closed() -> BackendUnavailable:
    return BackendUnavailable("the ledger of jobs is closed: the service is shutting down")
