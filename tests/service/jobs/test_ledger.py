"""What ledgers of both kinds promise of jobs; `test_ledger_leases.py` has what they promise to workers."""

from collections.abc import Callable

import pytest

from contracts.errors import BackendUnavailable, Conflict, NotFound
from service.jobs.job import Counts, JobFailure, JobSpec
from service.jobs.ledger import LeaseLost, Ledger, Scanned
from tests.service.jobs.ledger_steps import SPEC, Opener, lease, submit_scanned

FAILURE = JobFailure("b.jpg", "not an image", "b.jpg")


def test_a_job_is_scanned_and_indexed_and_counted_exactly(ledger: Ledger) -> None:
    job = ledger.submit(SPEC)
    assert (job.state, job.counts, job.is_scanned) == ("queued", Counts(), False)
    assert (job.started, job.finished, job.num_workers, job.reason) == (None, None, 0, None)

    scan = lease(ledger)
    assert (scan.job_id, scan.spec, scan.is_scan, scan.places) == (job.id, SPEC, True, [])
    assert (scan.attempt, scan.version, scan.scanned_to) == (1, None, None)
    running = ledger.job(job.id)
    assert (running.state, running.num_workers) == ("running", 1)

    ledger.extend(scan, Scanned([["a", "b"], ["c"]], [JobFailure("folder", "cannot be read")], "c", "v1"))
    ledger.extend(scan, Scanned([["d", "e", "f"]], [], "f", "v1"))
    assert ledger.job(job.id).counts == Counts(found=7, failed=1)
    assert not ledger.job(job.id).is_scanned
    ledger.complete(scan)
    assert ledger.job(job.id).is_scanned

    first = lease(ledger)
    assert (first.shard, first.places, first.version, first.scanned_to) == (1, ["a", "b"], "v1", "f")
    ledger.complete(first, Counts(added=1, failed=1), [FAILURE])
    assert ledger.job(job.id).counts == Counts(found=7, added=1, failed=2)
    second, third = lease(ledger), lease(ledger)
    assert (second.places, third.places) == (["c"], ["d", "e", "f"])
    ledger.complete(third, Counts(updated=2, skipped=1))
    assert ledger.job(job.id).state == "running"
    ledger.complete(second, Counts(added=1))

    done = ledger.job(job.id)
    assert (done.state, done.is_open, done.num_workers) == ("done", False, 0)
    assert done.counts == Counts(found=7, added=2, updated=2, skipped=1, failed=2)
    assert done.counts.settled == done.counts.found
    assert done.finished is not None
    assert running.started is not None
    assert running.started == done.started, "it starts but once"
    assert job.created <= done.started <= done.finished
    assert ledger.lease("worker") is None


def test_a_source_without_images_is_done_once_it_is_scanned(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [])
    assert (job.state, job.is_scanned, job.counts) == ("done", True, Counts())


def test_everything_is_kept_for_whoever_opens_the_ledger_next(opener: Opener) -> None:
    first = opener.open()
    spec = JobSpec(source="/bilder/été", prefix="ß/", metadata={"år": [1, None, "☃"]}, exclude=["*/raw/*"])
    job = first.submit(spec)
    scan = lease(first)
    found = Scanned([["a"]], [JobFailure("é", "☃")], "a", "v1")
    first.extend(scan, found)
    first.hand_back(scan, "the disk 💾 was away")
    second = opener.open()
    assert second.job(job.id).spec == spec
    assert second.job(job.id).reason == "the disk 💾 was away"
    assert second.failures(job.id) == found.failures
    assert second.jobs() == [second.job(job.id)]
    leased = lease(second)
    assert (leased.spec, leased.version, leased.scanned_to) == (spec, "v1", "a")


def test_places_of_every_kind_come_back_as_they_were(ledger: Ledger) -> None:
    places = ["été/☃ 1.jpg", "\U0001f4f7\n\t\"'\\.jpg", 0, 2**53 + 1, ["tar.tar", 512, "a/b"], ["é", 1], ""]
    job = submit_scanned(ledger, [places])
    shard = lease(ledger)
    assert shard.places == places
    assert shard.scanned_to == ""
    failures = [JobFailure(f"{number}", "no image", place) for number, place in enumerate(places)]
    ledger.complete(shard, Counts(failed=len(places)), failures)
    assert ledger.failures(job.id) == failures
    ledger.retry(job.id)
    assert lease(ledger).places == places


@pytest.mark.parametrize("up_to", ["é", 7, ["a.tar", 512], None])
def test_a_scan_goes_on_after_the_last_place_found(ledger: Ledger, up_to: object) -> None:
    ledger.submit(SPEC)
    scan = lease(ledger)
    ledger.extend(scan, Scanned([], [JobFailure("folder", "cannot be read")], up_to, "v1"))
    ledger.hand_back(scan)
    again = lease(ledger)
    assert again.is_scan
    assert (again.scanned_to, again.version) == (up_to, "v1")


def test_jobs_are_listed_newest_first_and_in_pages(ledger: Ledger) -> None:
    ids = [ledger.submit(SPEC).id for _ in range(7)][::-1]
    assert [job.id for job in ledger.jobs()] == ids
    assert [job.id for job in ledger.jobs(limit=3)] == ids[:3]
    assert [job.id for job in ledger.jobs(after=ids[2], limit=3)] == ids[3:6]
    assert [job.id for job in ledger.jobs(after=ids[5])] == ids[6:]
    assert ledger.jobs(after=ids[6]) == []
    ledger.cancel(ids[2])
    ledger.forget(ids[2])
    assert [job.id for job in ledger.jobs(after=ids[2], limit=3)] == ids[3:6]


def test_jobs_take_turns(ledger: Ledger) -> None:
    one = submit_scanned(ledger, [[n] for n in range(5)])
    two = ledger.submit(SPEC)
    scan = lease(ledger)
    assert scan.job_id == two.id, "who never had a turn comes first"
    ledger.extend(scan, Scanned([["a"], ["b"]], [], "b", "v1"))
    three = ledger.submit(SPEC)
    order = [lease(ledger).job_id for _ in range(8)]
    assert order == [three.id, one.id, two.id, one.id, two.id, one.id, one.id, one.id]
    assert ledger.lease("worker") is None


def test_the_queue_is_what_could_be_leased(ledger: Ledger) -> None:
    assert (ledger.num_waiting(), ledger.has_work()) == (0, False)
    job = submit_scanned(ledger, [["a"], ["b"], ["c"]])
    assert (ledger.num_waiting(), ledger.has_work()) == (3, True)
    lease(ledger)
    assert ledger.num_waiting() == 2
    lease(ledger, 0)
    assert ledger.num_waiting() == 2, "a lease that ran out counts as waiting"
    ledger.pause(job.id)
    assert (ledger.num_waiting(), ledger.has_work()) == (0, False)
    ledger.resume(job.id)
    assert (ledger.num_waiting(), ledger.has_work()) == (2, True)
    lease(ledger)
    lease(ledger)
    assert (ledger.num_waiting(), ledger.has_work()) == (0, True), "a worker may yet die"
    ledger.cancel(job.id)
    assert (ledger.num_waiting(), ledger.has_work()) == (0, False)


def test_a_paused_job_ends_what_is_under_way_and_begins_nothing(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [["a"], ["b"], ["c"]])
    held = lease(ledger)
    assert ledger.pause(job.id).state == "paused"
    assert ledger.pause(job.id).state == "paused"
    assert ledger.lease("worker") is None
    ledger.renew(held, 60.0)
    ledger.complete(held, Counts(added=1))
    paused = ledger.job(job.id)
    assert (paused.state, paused.counts.added, paused.is_open) == ("paused", 1, True)
    assert ledger.resume(job.id).state == "running"
    assert ledger.resume(job.id).state == "running"
    ledger.complete(lease(ledger), Counts(added=1))
    last = lease(ledger)
    ledger.pause(job.id)
    ledger.complete(last, Counts(added=1))
    assert ledger.job(job.id).state == "done"


def test_a_job_paused_before_it_began_is_queued_again(ledger: Ledger) -> None:
    job = ledger.submit(SPEC)
    ledger.pause(job.id)
    assert ledger.lease("worker") is None
    assert ledger.resume(job.id).state == "queued"
    assert lease(ledger).job_id == job.id


def test_a_cancelled_job_keeps_its_counts_and_loses_its_shards(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [["a", "b"], ["c"], ["d"]], [JobFailure("folder", "cannot be read")])
    ledger.complete(lease(ledger), Counts(added=2))
    held, other = lease(ledger), lease(ledger)
    ledger.hand_back(other, "the model is away")
    cancelled = ledger.cancel(job.id)
    assert (cancelled.state, cancelled.num_workers, cancelled.reason) == ("cancelled", 0, None)
    assert cancelled.finished is not None
    with pytest.raises(LeaseLost):
        ledger.complete(held, Counts(added=1))
    assert ledger.lease("worker") is None
    assert ledger.job(job.id).counts == Counts(found=5, added=2, failed=1)
    assert len(ledger.failures(job.id)) == 1


def test_a_forgotten_job_is_gone_and_others_stay(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [["b.jpg"]])
    ledger.complete(lease(ledger), Counts(failed=1), [FAILURE])
    other = submit_scanned(ledger, [["b.jpg"]])
    ledger.complete(lease(ledger), Counts(failed=1), [FAILURE])
    ledger.forget(job.id)
    assert [kept.id for kept in ledger.jobs()] == [other.id]
    assert ledger.failures(other.id) == [FAILURE]
    with pytest.raises(NotFound, match=job.id):
        ledger.job(job.id)
    with pytest.raises(NotFound):
        ledger.failures(job.id)


OF_A_JOB: dict[str, Callable[[Ledger, str], object]] = {
    "job": lambda ledger, job_id: ledger.job(job_id),
    "failures": lambda ledger, job_id: ledger.failures(job_id),
    "pause": lambda ledger, job_id: ledger.pause(job_id),
    "resume": lambda ledger, job_id: ledger.resume(job_id),
    "cancel": lambda ledger, job_id: ledger.cancel(job_id),
    "retry": lambda ledger, job_id: ledger.retry(job_id),
    "forget": lambda ledger, job_id: ledger.forget(job_id),
}


@pytest.mark.parametrize("name", OF_A_JOB)
def test_an_unknown_job_is_not_found(ledger: Ledger, name: str) -> None:
    job = submit_scanned(ledger, [["a"]])
    for unknown in ("nothing", "", "é", job.id + ":failures", job.id + ":shards"):
        with pytest.raises(NotFound, match="there is no job"):
            OF_A_JOB[name](ledger, unknown)
    assert ledger.job(job.id) == job


def queued(ledger: Ledger) -> str:
    return ledger.submit(SPEC).id


def running(ledger: Ledger) -> str:
    return submit_scanned(ledger, [["a"]]).id


def paused(ledger: Ledger) -> str:
    return ledger.pause(running(ledger)).id


def done(ledger: Ledger) -> str:
    return submit_scanned(ledger, []).id


def cancelled(ledger: Ledger) -> str:
    job = submit_scanned(ledger, [["b.jpg"], ["c"]])
    ledger.complete(lease(ledger), Counts(failed=1), [FAILURE])
    return ledger.cancel(job.id).id


def failed(ledger: Ledger) -> str:
    job = ledger.submit(SPEC)
    ledger.fail(lease(ledger), "the source is gone")
    return job.id


STATES = (queued, running, paused, done, cancelled, failed)
REFUSED = {
    "pause": {"done", "cancelled", "failed"},
    "resume": {"done", "cancelled", "failed"},
    "cancel": {"done", "cancelled", "failed"},
    "retry": {"queued", "running", "paused", "done", "cancelled"},
    "forget": {"queued", "running", "paused"},
}


@pytest.mark.parametrize("reach", STATES)
@pytest.mark.parametrize("name", REFUSED)
def test_a_job_in_the_wrong_state_refuses_and_stays_as_it_is(
    ledger: Ledger, name: str, reach: Callable[[Ledger], str]
) -> None:
    job_id = reach(ledger)
    before = ledger.job(job_id)
    assert before.state == reach.__name__
    if reach.__name__ in REFUSED[name]:
        with pytest.raises(Conflict, match=job_id):
            OF_A_JOB[name](ledger, job_id)
        assert ledger.job(job_id) == before
    else:
        OF_A_JOB[name](ledger, job_id)


@pytest.mark.parametrize("name", OF_A_JOB)
def test_a_closed_ledger_says_so(ledger: Ledger, name: str) -> None:
    job = ledger.submit(SPEC)
    ledger.close()
    with pytest.raises(BackendUnavailable, match="closed"):
        OF_A_JOB[name](ledger, job.id)
    ledger.close()
