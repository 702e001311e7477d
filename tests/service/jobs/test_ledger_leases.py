"""What ledgers of both kinds promise to workers: a shard is held by one, and counted once."""

import time
from collections.abc import Callable

import pytest

from service.jobs.job import Counts, JobFailure
from service.jobs.ledger import Lease, LeaseLost, Ledger, Scanned
from tests.service.jobs.ledger_steps import SPEC, Opener, lease, submit_scanned

FAILURE = JobFailure("a", "not an image", "a")
NOTHING_MORE = Scanned([["z"]], [FAILURE], "z", "v2")

OF_A_HOLDER: dict[str, Callable[[Ledger, Lease], None]] = {
    "renew": lambda ledger, held: ledger.renew(held),
    "extend": lambda ledger, held: ledger.extend(held, NOTHING_MORE),
    "complete": lambda ledger, held: ledger.complete(held, Counts(added=1, failed=1), [FAILURE]),
    "divide": lambda ledger, held: ledger.divide(held, [["y"], ["z"]]),
    "hand_back": lambda ledger, held: ledger.hand_back(held, "a reason"),
    "fail": lambda ledger, held: ledger.fail(held, "a reason"),
}


@pytest.mark.parametrize("name", OF_A_HOLDER)
@pytest.mark.parametrize("is_leased_again", [False, True])
def test_who_lost_a_lease_can_do_nothing_more(ledger: Ledger, name: str, is_leased_again: bool) -> None:
    job = submit_scanned(ledger, [["a", "b"]])
    lost = lease(ledger, 0, "slow")
    again = lease(ledger, 60, "quick") if is_leased_again else None
    before = ledger.job(job.id)
    with pytest.raises(LeaseLost, match=f"shard 1 of job {job.id}"):
        OF_A_HOLDER[name](ledger, lost)
    assert ledger.job(job.id) == before
    assert ledger.failures(job.id) == []
    again = again or lease(ledger)
    assert (again.places, again.attempt, again.version) == (["a", "b"], 2, "v1")
    ledger.complete(again, Counts(added=2))
    assert ledger.job(job.id).counts == Counts(found=2, added=2)
    assert ledger.job(job.id).state == "done"


@pytest.mark.parametrize("name", OF_A_HOLDER)
@pytest.mark.parametrize("first", ["complete", "divide", "hand_back", "fail"])
def test_a_shard_that_was_given_up_is_given_up(ledger: Ledger, name: str, first: str) -> None:
    job = submit_scanned(ledger, [["a", "b"], ["c"]])
    held = lease(ledger)
    OF_A_HOLDER[first](ledger, held)
    before = ledger.job(job.id)
    with pytest.raises(LeaseLost):
        OF_A_HOLDER[name](ledger, held)
    after = ledger.job(job.id)
    assert (after.state, after.counts, after.reason) == (before.state, before.counts, before.reason)


@pytest.mark.parametrize("name", OF_A_HOLDER)
def test_a_lease_of_a_job_that_is_gone_is_lost(ledger: Ledger, name: str) -> None:
    job = ledger.submit(SPEC)
    held = lease(ledger)
    ledger.cancel(job.id)
    ledger.forget(job.id)
    with pytest.raises(LeaseLost):
        OF_A_HOLDER[name](ledger, held)
    assert ledger.jobs() == []
    assert ledger.lease("worker") is None


def test_a_token_of_another_lease_is_no_proof(ledger: Ledger) -> None:
    submit_scanned(ledger, [["a"]])
    lost = lease(ledger, 0)
    held = lease(ledger, 60)
    assert lost.token != held.token
    with pytest.raises(LeaseLost):
        ledger.complete(lost, Counts(added=1))
    ledger.renew(held)
    ledger.complete(held, Counts(added=1))


def test_a_lease_runs_out_by_itself(opener: Opener) -> None:
    ledger, other = opener.open(), opener.open()
    submit_scanned(ledger, [["a"], ["b"]])
    held = lease(ledger, 60.0)
    started = time.monotonic()
    silent = lease(ledger, 0.4)
    while (again := other.lease("other")) is None:
        assert time.monotonic() - started < 20
        time.sleep(0.01)
    assert time.monotonic() - started >= 0.4
    assert (again.shard, again.attempt) == (silent.shard, 2)
    with pytest.raises(LeaseLost):
        ledger.renew(silent)
    ledger.complete(held, Counts(added=1))
    other.complete(again, Counts(added=1))


def test_a_lease_may_be_cut_short(ledger: Ledger) -> None:
    submit_scanned(ledger, [["a"]])
    held = lease(ledger, 60.0)
    assert ledger.lease("other") is None
    ledger.renew(held, 0)
    assert lease(ledger).shard == held.shard


def test_what_was_lost_goes_before_what_waits(ledger: Ledger) -> None:
    submit_scanned(ledger, [["a"], ["b"], ["c"], ["d"]])
    first, second = lease(ledger), lease(ledger)
    ledger.renew(second, 0)
    ledger.renew(first, 0)
    assert [lease(ledger).shard for _ in range(4)] == [second.shard, first.shard, 3, 4]


def test_only_leases_that_were_lost_count_as_attempts(ledger: Ledger) -> None:
    submit_scanned(ledger, [["a"]])
    for _ in range(3):
        held = lease(ledger)
        assert held.attempt == 1
        ledger.hand_back(held)
    lease(ledger, 0)
    held = lease(ledger)
    assert held.attempt == 2
    ledger.hand_back(held)
    assert lease(ledger, 0).attempt == 2
    assert lease(ledger).attempt == 3


def test_a_scan_that_gets_on_forgets_its_attempts(ledger: Ledger) -> None:
    ledger.submit(SPEC)
    lease(ledger, 0)
    lease(ledger, 0)
    scan = lease(ledger)
    assert scan.attempt == 3
    ledger.extend(scan, Scanned([["a"]], [], "a", "v1"))
    ledger.renew(scan, 0)
    assert lease(ledger).attempt == 2, "only the one that did not end well since"


def test_shards_that_are_handed_back_are_next(ledger: Ledger) -> None:
    submit_scanned(ledger, [[n] for n in range(12)])
    held = [lease(ledger) for _ in range(12)]
    for one in (held[10], held[2], held[7]):
        ledger.hand_back(one)
    # In the order of their numbers, not of their digits.
    assert [lease(ledger).shard for _ in range(3)] == [held[2].shard, held[7].shard, held[10].shard]


@pytest.mark.parametrize("getting_on", ["complete", "extend"])
def test_a_reason_is_shown_until_the_job_gets_on(ledger: Ledger, getting_on: str) -> None:
    job = ledger.submit(SPEC)
    ledger.hand_back(lease(ledger), "the disk is away")
    assert ledger.job(job.id).reason == "the disk is away"
    assert ledger.job(job.id).state == "running"
    ledger.hand_back(lease(ledger))
    assert ledger.job(job.id).reason == "the disk is away", "who has nothing to say has nothing better"
    ledger.hand_back(lease(ledger), "the model is away")
    held = lease(ledger)
    assert ledger.job(job.id).reason == "the model is away"
    OF_A_HOLDER[getting_on](ledger, held)
    assert ledger.job(job.id).reason is None


def test_a_divided_shard_is_done_in_parts_as_if_never_tried(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [["a", "b", "c"], ["d"]])
    lease(ledger, 0)
    held = lease(ledger)
    assert held.attempt == 2
    ledger.divide(held, [["a"], ["b", "c"]])
    assert ledger.num_waiting() == 3
    parts = [lease(ledger) for _ in range(3)]
    assert [(part.places, part.attempt) for part in parts] == [(["d"], 1), (["a"], 1), (["b", "c"], 1)]
    assert len({part.shard for part in parts} | {held.shard}) == 4
    for part in parts:
        ledger.complete(part, Counts(added=len(part.places)))
    assert ledger.job(job.id).counts == Counts(found=4, added=4)
    assert ledger.job(job.id).state == "done"


def test_workers_are_counted_while_they_hold_something(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [[n] for n in range(4)])
    mine = lease(ledger, worker="one")
    lease(ledger, worker="one")
    lease(ledger, 0, worker="lost")
    assert ledger.job(job.id).num_workers == 1
    other = lease(ledger, worker="zwei ☃")
    assert ledger.job(job.id).num_workers == 2
    ledger.complete(mine, Counts(added=1))
    assert ledger.job(job.id).num_workers == 2
    ledger.hand_back(other)
    assert ledger.job(job.id).num_workers == 1


def test_the_rate_is_that_of_the_images_settled(ledger: Ledger) -> None:
    job = submit_scanned(ledger, [list(range(100)), list(range(100, 130)), [130]])
    assert (ledger.job(job.id).rate, ledger.job(job.id).seconds_left) == (0.0, None)
    before = time.time()
    first, second, _ = lease(ledger), lease(ledger), lease(ledger)
    began = time.time()
    ledger.complete(first, Counts(added=100))
    time.sleep(0.05)
    ledger.complete(second, Counts(skipped=20, failed=10))
    asked = time.time()
    shown = ledger.job(job.id)
    after = time.time()
    # The ledger's time began somewhere between `before` and `began`. Clocks differ by their fractions.
    assert 130 / (after - before) * 0.99 <= shown.rate <= 130 / (asked - began) * 1.01
    assert shown.seconds_left == pytest.approx(1 / shown.rate)
    paused = ledger.pause(job.id)
    assert (paused.rate, paused.seconds_left) == (0.0, None)
    assert ledger.resume(job.id).rate == 0.0, "what was before the pause does not count"


def test_a_job_that_is_still_scanned_has_a_rate_but_no_end(ledger: Ledger) -> None:
    job = ledger.submit(SPEC)
    scan = lease(ledger)
    ledger.extend(scan, Scanned([["a"], ["b"]], [], "b", "v1"))
    ledger.complete(lease(ledger), Counts(added=1))
    assert ledger.job(job.id).rate > 0
    assert ledger.job(job.id).seconds_left is None
    ledger.complete(scan)
    assert ledger.job(job.id).seconds_left is not None
