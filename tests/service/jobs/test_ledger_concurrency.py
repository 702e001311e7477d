"""Many workers at once: every shard is counted exactly once, in ledgers of both kinds."""

from concurrent.futures import ThreadPoolExecutor

from service.jobs.job import Counts
from service.jobs.ledger import Ledger
from tests.service.jobs.ledger_steps import SPEC, Opener
from tests.service.jobs.ledger_worker import NUM_PLACES, read_shards, start_workers, work

NUM_WORKERS = 4


def check_all_done(ledger: Ledger, seen: list[list[int]]) -> None:
    (job,) = ledger.jobs()
    assert (job.state, job.num_workers) == ("done", 0)
    assert job.counts == Counts(found=NUM_PLACES, added=NUM_PLACES)
    assert sorted(place for shard in seen for place in shard) == list(range(NUM_PLACES))


def test_processes_share_a_job_and_count_each_shard_once(opener: Opener) -> None:
    ledger = opener.open()
    ledger.submit(SPEC)
    workers = start_workers(opener, [f"worker-{n}" for n in range(NUM_WORKERS)], 60.0)
    printed = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * NUM_WORKERS
    check_all_done(ledger, read_shards("".join(printed)))
    assert sum(map(bool, printed)) > 1, "one worker did it all, so that nothing was tried"


def test_threads_share_one_ledger_and_count_each_shard_once(opener: Opener) -> None:
    ledger = opener.open()
    ledger.submit(SPEC)
    seen: list[list[int]] = []
    with ThreadPoolExecutor(2 * NUM_WORKERS) as pool:
        for future in [pool.submit(work, ledger, f"worker-{n}", 60.0, seen) for n in range(2 * NUM_WORKERS)]:
            future.result()
    check_all_done(ledger, seen)
