"""What the ledger in a file does when it is killed or damaged, and how it tells the time."""

import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from contracts.errors import BackendUnavailable, StoreCorrupt
from service.jobs.job import Counts
from service.jobs.ledger import LeaseLost, Scanned
from service.jobs.opening import LEDGER_NAME
from service.jobs.sqlite_ledger import SqliteLedger
from tests.service.jobs.ledger_steps import SPEC, Opener, lease, submit_scanned
from tests.service.jobs.ledger_worker import NUM_PLACES, SHARD_SIZE, read_shards, start_workers

NUM_KILLS = 4


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(tmp_path / LEDGER_NAME, clock)) as opened:
        yield opened


def test_kill_9_in_the_middle_of_calls_leaves_a_sound_file_and_exact_counts(tmp_path: Path) -> None:
    opener = Opener(tmp_path, None)
    ledger = opener.open()
    job_id = ledger.submit(SPEC).id
    moments = random.Random(1)
    printed = ""
    num_kills_at_work = 0
    for kill in range(NUM_KILLS):
        (worker,) = start_workers(opener, [f"killed-{kill}"], 0.5)
        assert worker.stdout is not None
        for _ in range(moments.randrange(25)):
            printed += worker.stdout.readline()
        threading.Event().wait(moments.uniform(0, 0.02))  # Anywhere within the next calls.
        worker.kill()
        printed += worker.communicate(timeout=30)[0]
        with closing(sqlite3.connect(tmp_path / LEDGER_NAME)) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        num_kills_at_work += ledger.job(job_id).is_open
    assert num_kills_at_work, "all was done before a kill"
    (worker,) = start_workers(opener, ["last"], 60.0)
    printed += worker.communicate(timeout=60)[0]
    seen = [place for shard in read_shards(printed) for place in shard]
    job = ledger.job(job_id)
    assert job.state == "done"
    assert job.counts == Counts(found=NUM_PLACES, added=NUM_PLACES)
    # A shard may have been counted for a worker that did not live to say so.
    assert len(set(seen)) == len(seen)
    assert len(seen) >= NUM_PLACES - NUM_KILLS * SHARD_SIZE
    opener.close()


def test_commits_are_durable_and_without_a_wal(ledger: SqliteLedger) -> None:
    assert ledger._file.connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert ledger._file.connection.execute("PRAGMA journal_mode").fetchone() == ("truncate",)


def test_a_lease_ends_when_its_time_is_up(ledger: SqliteLedger, clock: Clock) -> None:
    submit_scanned(ledger, [["a"]])
    held = lease(ledger, 15.0)
    clock.now += 14.9
    assert ledger.lease("other") is None
    ledger.renew(held, 15.0)
    clock.now += 14.9
    assert ledger.lease("other") is None
    clock.now += 0.1
    with pytest.raises(LeaseLost):
        ledger.renew(held)
    assert lease(ledger).attempt == 2


def test_times_are_those_of_the_clock(ledger: SqliteLedger, clock: Clock) -> None:
    job = ledger.submit(SPEC)
    clock.now += 5
    scan = lease(ledger)
    clock.now += 7
    ledger.complete(scan)
    done = ledger.job(job.id)
    assert (done.created, done.started, done.finished) == (1_000_000.0, 1_000_005.0, 1_000_012.0)


def test_the_rate_is_the_mean_of_the_last_minute(ledger: SqliteLedger, clock: Clock) -> None:
    job_id = submit_scanned(ledger, [[n] for n in range(12)]).id
    shards = [lease(ledger, 1e6) for _ in range(12)]
    clock.now += 10
    ledger.complete(shards[0], Counts(added=60, skipped=20, failed=20))
    assert ledger.job(job_id).rate == pytest.approx(100 / 10)
    clock.now += 10
    assert ledger.job(job_id).rate == pytest.approx(100 / 20)
    clock.now += 10
    ledger.complete(shards[1], Counts(added=50))
    assert ledger.job(job_id).rate == pytest.approx(150 / 30)
    assert ledger.job(job_id).seconds_left == pytest.approx((12 - 150) / 5)
    clock.now += 45
    assert ledger.job(job_id).rate == pytest.approx(50 / 60), "what is older than a minute is left out"
    ledger.complete(shards[2], Counts(added=10))
    assert ledger.job(job_id).rate == pytest.approx(60 / 60)
    clock.now += 600
    assert (ledger.job(job_id).rate, ledger.job(job_id).seconds_left) == (0.0, None)


def test_a_rate_does_not_count_a_standstill(ledger: SqliteLedger, clock: Clock) -> None:
    job_id = submit_scanned(ledger, [[n] for n in range(4)]).id
    first = lease(ledger)
    clock.now += 5
    ledger.complete(first, Counts(added=50))
    ledger.pause(job_id)
    clock.now += 20
    ledger.resume(job_id)
    clock.now += 20
    assert ledger.job(job_id).rate == 0.0
    second = lease(ledger)
    clock.now += 2
    ledger.complete(second, Counts(added=30))
    assert ledger.job(job_id).rate == pytest.approx(30 / 2)


def test_time_that_goes_back_neither_breaks_a_lease_nor_the_rate(ledger: SqliteLedger, clock: Clock) -> None:
    job_id = submit_scanned(ledger, [["a"], ["b"]]).id
    held = lease(ledger)
    clock.now -= 3600
    ledger.renew(held)
    ledger.complete(held, Counts(added=1))
    assert ledger.job(job_id).rate >= 0
    assert lease(ledger).places == ["b"]


def test_a_file_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_NAME
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 2")
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="schema version 2"):
        SqliteLedger(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_NAME
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreCorrupt, match=LEDGER_NAME):
        SqliteLedger(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="nowhere"):
        SqliteLedger(tmp_path / "nowhere" / LEDGER_NAME)


def test_a_call_that_cannot_be_finished_changes_nothing(ledger: SqliteLedger) -> None:
    job_id = submit_scanned(ledger, [["a"]]).id
    held = lease(ledger)
    before = ledger.job(job_id)
    with pytest.raises(TypeError):
        ledger.divide(held, [["a"], [object()]])  # type: ignore[list-item]
    assert ledger.job(job_id) == before
    ledger.complete(held, Counts(added=1))
    assert ledger.job(job_id).state == "done"


def test_the_work_of_a_call_does_not_grow_with_what_waits_or_is_done(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    ledger.submit(SPEC)
    scan = lease(ledger)
    ledger.extend(scan, Scanned([[n] for n in range(200)], [], 199, "v1"))
    few = count_steps(ledger)
    ledger.extend(scan, Scanned([[n] for n in range(200, 2200)], [], 2199, "v1"))
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME)) as file, file:
        file.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2000) "
            "INSERT INTO jobs (id, spec, state, created) SELECT n, '{}', 'done', n FROM numbers"
        )
    assert count_steps(ledger) < 1.5 * few


def count_steps(ledger: SqliteLedger) -> int:
    """What SQLite does for a shard's life and a look at the queue, in steps of its machine, about."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    ledger._file.connection.set_progress_handler(step, 10)
    held = lease(ledger)
    ledger.renew(held)
    ledger.complete(held, Counts(added=1))
    ledger.job(held.job_id)
    ledger.num_waiting()
    ledger.has_work()
    ledger._file.connection.set_progress_handler(None, 0)
    return count
