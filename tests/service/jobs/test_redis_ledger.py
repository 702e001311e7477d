"""What the ledger in Redis does when the server dies, refuses, or its answer is lost."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contracts.errors import BackendUnavailable
from service.jobs.job import Counts, Job, JobFailure
from service.jobs.ledger import LeaseLost, Ledger, Scanned
from service.jobs.opening import open_ledger
from service.jobs.redis_ledger import RedisLedger
from tests.redis_server import RedisServer
from tests.service.jobs.ledger_steps import SPEC, lease, submit_scanned
from tests.service.jobs.lossy_proxy import LossyProxy

NUM_KILLS = 5
NUM_SHARDS = 500


@pytest.fixture
def ledger(redis_url: str) -> Iterator[RedisLedger]:
    with closing(RedisLedger(redis_url)) as opened:
        yield opened


def test_everything_returned_survives_kill_9_of_the_server(own_redis_server: RedisServer) -> None:
    ledger = RedisLedger(own_redis_server.url)
    job_id = submit_scanned(ledger, [[n] for n in range(NUM_SHARDS)]).id
    moments = random.Random(1)
    done: list[int] = []
    num_unanswered = 0

    def work_until_it_is_gone() -> None:
        """Complete shards one by one until a call fails."""
        nonlocal num_unanswered
        held = None
        try:
            while (held := ledger.lease("worker", 3600)) is not None:
                ledger.complete(held, Counts(added=1), [JobFailure(f"{held.shard}", "é")])
                done.append(held.shard)
        except BackendUnavailable:
            # Either was the shard counted and nobody heard of it, or its lease must run out first.
            num_unanswered += 1

    for _ in range(NUM_KILLS):
        worker = threading.Thread(target=work_until_it_is_gone)
        worker.start()
        threading.Event().wait(moments.uniform(0.01, 0.04))
        own_redis_server.kill()
        worker.join(30)
        assert not worker.is_alive()
        with pytest.raises(BackendUnavailable):
            ledger.job(job_id)
        own_redis_server.restart()
        job = ledger.job(job_id)
        assert len(done) <= job.counts.added <= len(done) + num_unanswered
        failures = {int(failure.id) for failure in ledger.failures(job_id, limit=NUM_SHARDS)}
        assert set(done) <= failures
        assert len(failures) == job.counts.added
    assert num_unanswered == NUM_KILLS, "the shards ran out before a kill"
    work_until_it_is_gone()
    assert NUM_SHARDS - num_unanswered <= ledger.job(job_id).counts.added <= NUM_SHARDS
    ledger.close()


EVERY_CALL: dict[str, Callable[[Ledger], object]] = {
    "submit": lambda ledger: ledger.submit(SPEC),
    "job": lambda ledger: ledger.job("a"),
    "jobs": lambda ledger: ledger.jobs(),
    "failures": lambda ledger: ledger.failures("a"),
    "pause": lambda ledger: ledger.pause("a"),
    "resume": lambda ledger: ledger.resume("a"),
    "cancel": lambda ledger: ledger.cancel("a"),
    "retry": lambda ledger: ledger.retry("a"),
    "forget": lambda ledger: ledger.forget("a"),
    "has_work": lambda ledger: ledger.has_work(),
    "num_waiting": lambda ledger: ledger.num_waiting(),
    "lease": lambda ledger: ledger.lease("worker"),
}


def test_every_call_says_that_the_server_is_gone_and_works_when_it_is_back(
    own_redis_server: RedisServer,
) -> None:
    secret = own_redis_server.url.replace("redis://", "redis://default:s3cr%2Ft@")
    with own_redis_server.client() as client:
        client.config_set("requirepass", "s3cr/t")
    ledger = RedisLedger(secret)
    job = ledger.submit(SPEC)
    held = lease(ledger)
    of_holders: dict[str, Callable[[Ledger], object]] = {
        "renew": lambda ledger: ledger.renew(held),
        "extend": lambda ledger: ledger.extend(held, Scanned([["a"]], [], "a", "v1")),
        "divide": lambda ledger: ledger.divide(held, [["a"]]),
        "hand_back": lambda ledger: ledger.hand_back(held),
        "fail": lambda ledger: ledger.fail(held, "gone"),
        "complete": lambda ledger: ledger.complete(held),
    }
    own_redis_server.stop()
    for name, call in (EVERY_CALL | of_holders).items():
        with pytest.raises(BackendUnavailable, match="check that the server runs") as caught:
            call(ledger)
        assert own_redis_server.url in str(caught.value), name
        assert "s3cr" not in str(caught.value), name
    with pytest.raises(BackendUnavailable):
        RedisLedger(secret)
    own_redis_server.restart()
    with own_redis_server.client() as client:
        client.config_set("requirepass", "s3cr/t")
    ledger.complete(held)
    assert ledger.job(job.id).state == "done"
    ledger.close()


@pytest.fixture
def proxy(redis_url: str) -> Iterator[LossyProxy]:
    with LossyProxy(int(redis_url.rpartition(":")[2].removesuffix("/0"))) as started:
        yield started


@pytest.fixture
def far(proxy: LossyProxy) -> Iterator[RedisLedger]:
    """The same ledger as `ledger`, beyond a network that loses answers.

    A call must have been made before: what is lost of the first may be that its script is not known yet.
    """
    with closing(RedisLedger(f"redis://127.0.0.1:{proxy.port}/0")) as opened:
        yield opened


def test_a_completion_whose_answer_is_lost_is_counted_once(
    ledger: RedisLedger, far: RedisLedger, proxy: LossyProxy
) -> None:
    job_id = submit_scanned(far, [["a", "b"], ["c"]]).id
    held = lease(far)
    proxy.lose_next_answer()
    with pytest.raises(BackendUnavailable):
        far.complete(held, Counts(added=2))
    assert ledger.job(job_id).counts == Counts(found=3, added=2)
    with pytest.raises(LeaseLost):
        far.complete(held, Counts(added=2))
    assert ledger.job(job_id).counts == Counts(found=3, added=2)


def test_a_part_of_a_scan_whose_answer_is_lost_is_added_once_and_the_scan_goes_on_behind_it(
    ledger: RedisLedger, far: RedisLedger, proxy: LossyProxy
) -> None:
    job_id = far.submit(SPEC).id
    scan = lease(far)
    far.extend(scan, Scanned([["a"]], [], "a", "v1"))
    proxy.lose_next_answer()
    with pytest.raises(BackendUnavailable):
        far.extend(scan, Scanned([["b"], ["c"]], [], "c", "v1"))
    assert ledger.job(job_id).counts.found == 3
    far.hand_back(scan)
    assert lease(far).scanned_to == "c"


def test_a_lease_whose_answer_is_lost_runs_out(
    ledger: RedisLedger, far: RedisLedger, proxy: LossyProxy
) -> None:
    submit_scanned(far, [["a"]])
    assert far.lease("worker", 0) is not None
    proxy.lose_next_answer()
    with pytest.raises(BackendUnavailable):
        far.lease("worker", 0)
    assert lease(ledger).attempt == 3


def test_a_full_server_refuses_and_keeps_what_it_has(own_redis_server: RedisServer) -> None:
    with closing(RedisLedger(own_redis_server.url)) as ledger, own_redis_server.client() as client:
        job = ledger.submit(SPEC)
        scan = lease(ledger)
        before = ledger.job(job.id)
        client.config_set("maxmemory", 1)
        for call in (
            lambda: ledger.submit(SPEC),
            lambda: ledger.extend(scan, Scanned([["a"]], [], "a", "v1")),
        ):
            with pytest.raises(BackendUnavailable, match="maxmemory"):
                call()
        assert ledger.job(job.id) == before
        client.config_set("maxmemory", 0)
        ledger.extend(scan, Scanned([["a"]], [], "a", "v1"))
        assert ledger.job(job.id).counts.found == 1


def test_a_replica_is_named_as_such(own_redis_server: RedisServer) -> None:
    with closing(RedisLedger(own_redis_server.url)) as ledger, own_redis_server.client() as client:
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(BackendUnavailable, match="name the primary"):
            ledger.submit(SPEC)


def test_a_wrong_password_is_named_and_not_shown(own_redis_server: RedisServer) -> None:
    with own_redis_server.client() as client:
        client.config_set("requirepass", "right")
    for secret in (":wr0ng@", "someone:wr0ng@", ""):
        with pytest.raises(BackendUnavailable, match="the password") as caught:
            RedisLedger(own_redis_server.url.replace("redis://", f"redis://{secret}"))
        assert "wr0ng" not in str(caught.value)


def test_a_user_who_may_not_run_scripts_is_told_so(own_redis_server: RedisServer) -> None:
    with own_redis_server.client() as client:
        client.acl_setuser("reader", enabled=True, passwords=["+p"], keys=["*"], categories=["+@read"])
    with (
        closing(RedisLedger(own_redis_server.url.replace("//", "//reader:p@"))) as ledger,
        pytest.raises(BackendUnavailable, match="let its user"),
    ):
        ledger.jobs()


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost",
        "redis://:pass/w0rd@localhost",
        "redis://h:port",
        "redis://h?db=x",
    ],
)
def test_a_url_that_is_none_of_redis_is_refused_without_showing_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="redis://") as caught:
        open_ledger(tmp_path, url)
    assert "w0rd" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_server_that_may_lose_writes_is_warned_of(own_redis_server: RedisServer) -> None:
    def opened() -> list[tuple[str, object]]:
        with capture_logs() as logs:
            RedisLedger(own_redis_server.url).close()
        return [(entry["log_level"], entry.get("remedy")) for entry in logs]

    with own_redis_server.client() as client:
        assert opened() == []
        client.config_set("appendfsync", "everysec")
        assert opened() == [("warning", "set appendonly yes and appendfsync always")]
        client.config_set("appendfsync", "always")
        client.config_set("appendonly", "no")
        assert opened() == [("warning", "set appendonly yes and appendfsync always")]
        client.config_set("appendonly", "yes")
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert opened() == [], "there is no limit to its memory"
        client.config_set("maxmemory", 2**30)
        assert opened() == [("warning", "set maxmemory-policy noeviction")]
        client.config_set("maxmemory-policy", "volatile-lru")
        assert opened() == [], "what never expires is never dropped then"


def test_a_server_that_does_not_tell_its_configuration_can_be_used(own_redis_server: RedisServer) -> None:
    with own_redis_server.client() as client:
        client.acl_setuser(
            "guest", enabled=True, passwords=["+p"], keys=["stochcon:*"], commands=["+@all", "-config"]
        )
    with capture_logs() as logs:
        ledger = RedisLedger(own_redis_server.url.replace("//", "//guest:p@"))
    assert [entry["log_level"] for entry in logs] == ["info"]
    job = submit_scanned(ledger, [["a"]])
    ledger.complete(lease(ledger), Counts(added=1))
    assert ledger.job(job.id).state == "done"
    ledger.close()


def test_scripts_that_the_server_has_forgotten_are_sent_again(
    ledger: RedisLedger, redis_server: RedisServer
) -> None:
    job = ledger.submit(SPEC)
    with redis_server.client() as client:
        client.script_flush()
    assert ledger.job(job.id) == job


@pytest.fixture
def keys(redis_server: RedisServer) -> Callable[[], set[str]]:
    """All that the server has."""

    def read() -> set[str]:
        with redis_server.client() as client:
            return {key.decode() for key in client.keys("*")}

    return read


def test_a_job_that_is_done_takes_no_more_room_than_what_is_shown_of_it(
    ledger: RedisLedger, keys: Callable[[], set[str]]
) -> None:
    job = submit_scanned(ledger, [["a", "b"], ["c"], ["d", "e"]])
    ledger.complete(lease(ledger), Counts(added=1, failed=1), [JobFailure("b", "no image", "b")])
    assert lease(ledger, 0) is not None
    ledger.complete(lease(ledger), Counts(added=1))
    ledger.divide(lease(ledger), [["d"], ["e"]])
    ledger.hand_back(lease(ledger))
    ledger.complete(lease(ledger), Counts(added=1))
    ledger.complete(lease(ledger), Counts(added=1))
    assert ledger.job(job.id).state == "done"
    kept = {f"stochcon:job:{job.id}:{part}" for part in ("facts", "failures")}
    assert keys() == kept | {"stochcon:jobs", "stochcon:turn"}


def test_a_forgotten_job_leaves_no_key_behind(ledger: RedisLedger, keys: Callable[[], set[str]]) -> None:
    ledger.forget(submit_scanned(ledger, []).id)
    before = keys()
    assert all(key.startswith("stochcon:") for key in before)
    for end in (ledger.cancel, lambda job_id: fail(ledger, job_id), lambda job_id: finish(ledger, job_id)):
        job = submit_scanned(ledger, [["a", "b"], ["c"]])
        ledger.complete(lease(ledger), Counts(added=1, failed=1), [JobFailure("b", "no image", "b")])
        end(job.id)
        ledger.forget(job.id)
        assert keys() == before


def fail(ledger: Ledger, job_id: str) -> None:
    ledger.fail(lease(ledger), "gone")


def finish(ledger: Ledger, job_id: str) -> None:
    ledger.complete(lease(ledger), Counts(added=1))


def test_jobs_submitted_from_many_places_at_once_are_all_there(ledger: RedisLedger, redis_url: str) -> None:
    def submit(_: int) -> list[Job]:
        with closing(RedisLedger(redis_url)) as other:
            return [other.submit(SPEC) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        jobs = [job for made in pool.map(submit, range(4)) for job in made]
    listed = ledger.jobs(limit=1000)
    assert {job.id for job in listed} == {job.id for job in jobs}
    assert [job.created for job in listed] == sorted((job.created for job in jobs), reverse=True)
