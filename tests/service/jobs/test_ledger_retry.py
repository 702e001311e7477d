"""Images that failed, and jobs that did, in ledgers of both kinds."""

import pytest

from contracts.errors import Conflict
from service.jobs.job import Counts, JobFailure
from service.jobs.ledger import SHARD_PLACES, LeaseLost, Ledger, Scanned
from tests.service.jobs.ledger_steps import SPEC, lease, submit_scanned

UNPLACED = JobFailure("folder", "cannot be read")


def failure(place: int) -> JobFailure:
    return JobFailure(f"image {place}", f"reason {place}", place)


def fail_images(ledger: Ledger, *places: int) -> None:
    """Complete the shard that is next, with images that failed."""
    shard = lease(ledger)
    counts = Counts(added=len(shard.places) - len(places), failed=len(places))
    ledger.complete(shard, counts, [failure(place) for place in places])


def test_failures_are_listed_in_order_and_in_pages(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [[0, 1, 2], [3, 4, 5]], [UNPLACED])
    other = ledger.submit(SPEC)
    ledger.cancel(other.id)
    fail_images(ledger, 2, 0)
    fail_images(ledger, 5, 4, 3)
    expected = [UNPLACED, *map(failure, (2, 0, 5, 4, 3))]
    assert ledger.failures(job.id) == expected
    assert ledger.failures(job.id, skip=1, limit=2) == expected[1:3]
    assert ledger.failures(job.id, skip=4, limit=100) == expected[4:]
    assert ledger.failures(job.id, skip=6) == []
    assert ledger.failures(job.id, limit=0) == []
    assert ledger.failures(other.id) == []


def test_images_that_failed_are_tried_again_and_counted_anew(ledger: Ledger) -> None:
    places = list(range(2 * SHARD_PLACES + 3))
    job = submit_scanned(ledger, [places], [UNPLACED])
    fail_images(ledger, *places[1:])
    assert ledger.job(job.id).state == "done"
    assert ledger.job(job.id).counts == Counts(found=len(places) + 1, added=1, failed=len(places))

    again = ledger.retry(job.id)
    assert (again.state, again.finished, again.is_scanned) == ("running", None, True)
    assert again.counts == Counts(found=len(places) + 1, added=1, failed=1)
    assert ledger.failures(job.id) == [UNPLACED]
    assert ledger.num_waiting() == 3
    shards = [lease(ledger) for _ in range(3)]
    assert [place for shard in shards for place in shard.places] == places[1:]
    assert max(len(shard.places) for shard in shards) == SHARD_PLACES
    assert {shard.attempt for shard in shards} == {1}
    for shard in shards[:2]:
        ledger.complete(shard, Counts(updated=SHARD_PLACES))
    ledger.complete(shards[2], Counts(updated=1, failed=1), [failure(places[-1])])

    done = ledger.job(job.id)
    assert done.state == "done"
    assert done.counts == Counts(found=260, added=1, updated=257, failed=2)
    assert ledger.failures(job.id) == [UNPLACED, failure(places[-1])]


def test_what_has_no_place_is_not_tried_again(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [["a"]], [UNPLACED])
    ledger.complete(lease(ledger), Counts(added=1))
    with pytest.raises(Conflict, match="nothing to try again"):
        ledger.retry(job.id)
    assert ledger.failures(job.id) == [UNPLACED]
    assert ledger.job(job.id).state == "done"


def test_images_are_tried_again_while_the_job_runs(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [[0, 1], [2]])
    lease(ledger, 0)
    fail_images(ledger, 1)
    held = lease(ledger)
    again = ledger.retry(job.id)
    assert (again.state, again.num_workers) == ("running", 1)
    assert again.counts == Counts(found=3, added=1)
    ledger.complete(held, Counts(added=1))
    shard = lease(ledger)
    assert (shard.places, shard.attempt) == ([1], 1)
    ledger.complete(shard, Counts(added=1))
    assert ledger.job(job.id).counts == Counts(found=3, added=3)
    assert ledger.job(job.id).state == "done"


def test_a_paused_job_stays_paused_when_its_images_are_to_be_tried_again(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [[0], [1]])
    fail_images(ledger, 0)
    ledger.pause(job.id)
    assert ledger.retry(job.id).state == "paused"
    assert ledger.lease("worker") is None
    ledger.resume(job.id)
    assert [lease(ledger).places for _ in range(2)] == [[1], [0]]


def test_a_failed_job_says_why_and_loses_its_shards(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [["a"], ["b"], ["c"]])
    one, other = lease(ledger, worker="one"), lease(ledger, worker="other")
    ledger.fail(one, "the source has changed")
    failed = ledger.job(job.id)
    assert (failed.state, failed.reason, failed.num_workers) == ("failed", "the source has changed", 0)
    assert failed.finished is not None
    with pytest.raises(LeaseLost):
        ledger.complete(other, Counts(added=1))
    assert ledger.lease("worker") is None
    assert (ledger.num_waiting(), ledger.has_work()) == (0, False)


def test_a_failed_job_goes_on_where_it_stood(ledger: Ledger) -> None:
    job = ledger.submit(SPEC)
    lease(ledger, 0)
    scan = lease(ledger)
    ledger.extend(scan, Scanned([[0, 1], [2]], [], 2, "v1"))
    fail_images(ledger, 0)
    held = lease(ledger)
    ledger.fail(scan, "the disk is away")

    again = ledger.retry(job.id)
    assert (again.state, again.reason, again.finished, again.is_scanned) == ("running", None, None, False)
    assert again.counts == Counts(found=3, added=1)
    scan = lease(ledger)
    assert (scan.is_scan, scan.scanned_to, scan.version, scan.attempt) == (True, 2, "v1", 1)
    ledger.extend(scan, Scanned([[3]], [], 3, "v1"))
    ledger.complete(scan)
    shards = [lease(ledger) for _ in range(3)]
    assert [(shard.places, shard.attempt) for shard in shards] == [([2], 1), ([0], 1), ([3], 1)]
    with pytest.raises(LeaseLost):
        ledger.complete(held, Counts(added=1))
    for shard in shards:
        ledger.complete(shard, Counts(added=1))
    done = ledger.job(job.id)
    assert (done.state, done.is_scanned, done.counts) == ("done", True, Counts(found=4, added=4))


def test_a_failed_job_can_be_forgotten(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [["a"], ["b"]])
    ledger.fail(lease(ledger), "the source has changed")
    ledger.forget(job.id)
    assert ledger.jobs() == []
    assert ledger.lease("worker") is None
