"""The ledger of several machines: a Redis or Valkey server that the service and its workers share.

It needs Redis 6.2 or later, and no Redis Cluster: a script changes several keys, which would lie on several
nodes there. Shards are kept in hashes and sorted sets rather than in a stream with a consumer group, since
a group can neither hold back one job's entries, nor take them away, nor cut one in parts, and would count
them apart from the job. A script does each of these in one step; see `service.jobs.redis_scripts`.

What a call has returned from is as durable as the server makes it: with `appendonly yes` and
`appendfsync always` it is on disk. A failover to a replica may lose the latest changes.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from service.jobs import refusals
from service.jobs.job import NOTHING, Counts, Job, JobFailure, JobSpec, Place
from service.jobs.ledger import LEASE_S, Lease, Scanned, pack_places, unpack_places
from service.jobs.redis_client import connect, translated, warn_unless_durable
from service.jobs.redis_scripts import SCRIPTS


class RedisLedger:
    """`service.jobs.ledger.Ledger` in Redis.

    A call whose answer is lost raises BackendUnavailable like one that never arrived, and is not sent again.
    """

    def __init__(self, url: str) -> None:
        """Connect. Raises ValueError for a URL that is none of Redis, BackendUnavailable."""
        self._url = url
        self._is_closed = False
        self._client = connect(url)
        self._scripts = {name: self._client.register_script(text) for name, text in SCRIPTS.items()}
        try:
            with self._reached():
                warn_unless_durable(self._client, url)
        except BaseException:
            self.close()
            raise

    def submit(self, spec: JobSpec) -> Job:
        drawn = str(uuid4())[19:]
        return _to_job(self._run("submit", drawn, spec.model_dump_json(), pack_places([])))

    def job(self, job_id: str) -> Job:
        return _to_job(self._run_for_job("job", job_id))

    def jobs(self, after: str | None = None, limit: int = 100) -> list[Job]:
        # Ids are UUIDs of version 7, which sort by the time at which they were made.
        return [_to_job(described) for described in self._run("jobs", f"({after}" if after else "+", limit)]

    def failures(self, job_id: str, skip: int = 0, limit: int = 100) -> list[JobFailure]:
        return [_to_failure(entry) for entry in self._run_for_job("failures", job_id, skip, limit)]

    def pause(self, job_id: str) -> Job:
        return self._change_open("pause", job_id, "paused")

    def resume(self, job_id: str) -> Job:
        return self._change_open("resume", job_id, "resumed")

    def cancel(self, job_id: str) -> Job:
        return self._change_open("cancel", job_id, "cancelled")

    def retry(self, job_id: str) -> Job:
        is_done, result = self._run_for_job("retry", job_id)
        if not is_done:
            raise refusals.nothing_to_retry(job_id, result.decode())
        return _to_job(result)

    def forget(self, job_id: str) -> None:
        is_done, _ = self._run_for_job("forget", job_id)
        if not is_done:
            raise refusals.not_over(job_id)

    def has_work(self) -> bool:
        return bool(self._run("has_work"))

    def num_waiting(self) -> int:
        waiting: int = self._run("num_waiting")
        return waiting

    def lease(self, worker: str, lease_s: float = LEASE_S) -> Lease | None:
        token = uuid4().hex
        leased = self._run("lease", token, worker, _microseconds(lease_s))
        if leased is None:
            return None
        job_id, number, places, attempt, spec, version, scanned_to = leased
        return Lease(
            job_id=job_id.decode(),
            spec=JobSpec.model_validate_json(spec),
            shard=int(number),
            places=_unpack(places),
            token=token,
            attempt=attempt,
            version=_text(version),
            scanned_to=None if scanned_to is None else json.loads(scanned_to),
        )

    def renew(self, lease: Lease, lease_s: float = LEASE_S) -> None:
        self._run_for_holder("renew", lease, _microseconds(lease_s))

    def extend(self, lease: Lease, found: Scanned) -> None:
        self._run_for_holder(
            "extend",
            lease,
            found.version,
            json.dumps(found.up_to),
            found.num_found,
            len(found.failures),
            len(found.shards),
            *map(pack_places, found.shards),
            *map(_pack_failure, found.failures),
        )

    def complete(self, lease: Lease, counts: Counts = NOTHING, failures: Sequence[JobFailure] = ()) -> None:
        changes = (counts.added, counts.updated, counts.skipped, counts.failed)
        self._run_for_holder("complete", lease, *changes, *map(_pack_failure, failures))

    def divide(self, lease: Lease, parts: Sequence[Sequence[Place]]) -> None:
        self._run_for_holder("divide", lease, *map(pack_places, parts))

    def hand_back(self, lease: Lease, reason: str | None = None) -> None:
        self._run_for_holder("hand_back", lease, *(() if reason is None else (reason,)))

    def fail(self, lease: Lease, reason: str) -> None:
        self._run_for_holder("fail", lease, reason)

    def close(self) -> None:
        self._is_closed = True
        self._client.close()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        if self._is_closed:  # The client would connect anew.
            raise refusals.closed()
        with translated(self._url):
            yield

    def _run(self, name: str, *arguments: str | bytes | int) -> Any:
        with self._reached():
            return self._scripts[name](args=arguments)

    def _run_for_job(self, name: str, job_id: str, *arguments: int) -> Any:
        result = self._run(name, job_id, *arguments)
        if result is None:
            raise refusals.no_job(job_id)
        return result

    def _change_open(self, name: str, job_id: str, wanted: str) -> Job:
        is_done, result = self._run_for_job(name, job_id)
        if not is_done:
            raise refusals.not_open(job_id, result.decode(), wanted)
        return _to_job(result)

    def _run_for_holder(self, name: str, lease: Lease, *arguments: str | bytes | int) -> None:
        if not self._run(name, lease.job_id, lease.shard, lease.token, *arguments):
            raise refusals.lease_lost(lease)


def _to_job(described: list[Any]) -> Job:
    job_id, facts, num_workers, num_images, elapsed = described
    spec, state, created, started, finished, is_scanned, *counts, reason = facts
    return Job(
        id=job_id.decode(),
        spec=JobSpec.model_validate_json(spec),
        state=state.decode(),
        counts=Counts(*map(int, counts)),
        is_scanned=bool(int(is_scanned)),
        created=int(created) / 1e6,
        started=None if started is None else int(started) / 1e6,
        finished=None if finished is None else int(finished) / 1e6,
        rate=num_images / max(int(elapsed) / 1e6, 1e-3),
        num_workers=num_workers,
        reason=_text(reason),
    )


def _pack_failure(failure: JobFailure) -> str:
    return f"{json.dumps(failure.place)}\n{json.dumps([failure.id, failure.reason])}"


def _to_failure(entry: bytes) -> JobFailure:
    place, described = map(json.loads, entry.split(b"\n"))
    id, reason = described
    return JobFailure(id, reason, place)


def _unpack(places: bytes) -> list[Place]:
    # Those of a shard that `retry` has made are plain JSON, since Lua there cannot compress.
    if places.startswith(b"["):
        plain: list[Place] = json.loads(places)
        return plain
    return unpack_places(places)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
