"""The ledger of one machine: an SQLite file that the service and its workers share.

Its journal is SQLite's rollback journal, not a WAL. Several processes write here, and WAL files of SQLite
3.7.0 to 3.51.2 can be damaged when two of them write and checkpoint at once; writes are few, so that the
journal's slower commits do not matter.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from uuid_utils import uuid7

from service.jobs import refusals
from service.jobs.job import NOTHING, Counts, Job, JobFailure, JobSpec, Place, State
from service.jobs.ledger import (
    LEASE_S,
    RATE_WINDOW_S,
    SCAN,
    Lease,
    Scanned,
    cut,
    pack_places,
    unpack_places,
)
from service.jobs.sqlite_file import LedgerFile
from service.jobs.sqlite_schema import LEASABLE, Sql

_COLUMNS = """id, spec, state, created, started, finished, is_scanned, found, added, updated, skipped, failed,
reason, indexing_since"""


class SqliteLedger:
    """`service.jobs.ledger.Ledger` in one file."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the ledger, making it if need be. `clock` gives seconds since 1970.

        Raises StoreCorrupt, BackendUnavailable.
        """
        self._clock = clock
        self._file = LedgerFile(path)

    def submit(self, spec: JobSpec) -> Job:
        job_id = str(uuid7())
        with self._file.writing() as sql:
            sql(
                "INSERT INTO jobs (id, spec, state, created) VALUES (?, ?, 'queued', ?)",
                (job_id, spec.model_dump_json(), self._clock()),
            )
            self._add_shards(sql, job_id, [[]])  # The scan, which is the first.
            return self._job(sql, job_id)

    def job(self, job_id: str) -> Job:
        with self._file.writing() as sql:
            return self._job(sql, job_id)

    def jobs(self, after: str | None = None, limit: int = 100) -> list[Job]:
        with self._file.writing() as sql:
            # Ids are UUIDs of version 7, which sort by the time at which they were made.
            rows = sql(
                f"SELECT {_COLUMNS} FROM jobs WHERE id < ? ORDER BY id DESC LIMIT ?", (after or "~", limit)
            ).fetchall()
            return [self._to_job(sql, row) for row in rows]

    def failures(self, job_id: str, skip: int = 0, limit: int = 100) -> list[JobFailure]:
        with self._file.writing() as sql:
            self._job(sql, job_id)
            rows = sql(
                "SELECT id, reason, place FROM failures WHERE job_id = ? ORDER BY number LIMIT ? OFFSET ?",
                (job_id, limit, skip),
            ).fetchall()
        return [JobFailure(id, reason, _from_json(place)) for id, reason, place in rows]

    def pause(self, job_id: str) -> Job:
        with self._file.writing() as sql:
            self._open_job(sql, job_id, "paused")
            sql("UPDATE jobs SET state = 'paused', indexing_since = NULL WHERE id = ?", (job_id,))
            return self._job(sql, job_id)

    def resume(self, job_id: str) -> Job:
        with self._file.writing() as sql:
            job = self._open_job(sql, job_id, "resumed")
            if job.state == "paused":
                state: State = "queued" if job.started is None else "running"
                sql("UPDATE jobs SET state = ? WHERE id = ?", (state, job_id))
            return self._job(sql, job_id)

    def cancel(self, job_id: str) -> Job:
        with self._file.writing() as sql:
            self._open_job(sql, job_id, "cancelled")
            sql("DELETE FROM shards WHERE job_id = ?", (job_id,))
            sql("UPDATE jobs SET num_shards = 0 WHERE id = ?", (job_id,))
            self._end(sql, job_id, "cancelled")
            return self._job(sql, job_id)

    def retry(self, job_id: str) -> Job:
        with self._file.writing() as sql:
            job = self._job(sql, job_id)
            again = "FROM failures WHERE job_id = ? AND place IS NOT NULL"
            rows = sql(f"SELECT place {again} ORDER BY number", (job_id,)).fetchall()
            if job.state == "cancelled" or not (rows or job.state == "failed"):
                raise refusals.nothing_to_retry(job_id, job.state)
            sql(f"DELETE {again}", (job_id,))
            if job.state == "failed":
                sql("UPDATE shards SET attempts = 0 WHERE job_id = ?", (job_id,))
            self._add_shards(sql, job_id, cut([json.loads(place) for (place,) in rows]))
            sql("UPDATE jobs SET failed = failed - ? WHERE id = ?", (len(rows), job_id))
            if not job.is_open:
                sql(
                    "UPDATE jobs SET state = 'running', finished = NULL, reason = NULL, "
                    "indexing_since = NULL WHERE id = ?",
                    (job_id,),
                )
            return self._job(sql, job_id)

    def forget(self, job_id: str) -> None:
        with self._file.writing() as sql:
            if self._job(sql, job_id).is_open:
                raise refusals.not_over(job_id)
            for table in ("shards", "failures"):
                sql(f"DELETE FROM {table} WHERE job_id = ?", (job_id,))
            sql("DELETE FROM jobs WHERE id = ?", (job_id,))

    def has_work(self) -> bool:
        with self._file.writing() as sql:
            # A job that is not over has a shard.
            return sql(f"SELECT 1 FROM jobs WHERE {LEASABLE} LIMIT 1").fetchone() is not None

    def num_waiting(self) -> int:
        with self._file.writing() as sql:
            num_shards, num_held = sql(
                "SELECT coalesce(sum(num_shards), 0), coalesce(sum("
                "(SELECT count(*) FROM shards WHERE job_id = jobs.id AND expires > ?)"
                f"), 0) FROM jobs WHERE {LEASABLE}",
                (self._clock(),),
            ).fetchone()
            waiting: int = num_shards - num_held
            return waiting

    def lease(self, worker: str, lease_s: float = LEASE_S) -> Lease | None:
        token = uuid4().hex
        with self._file.writing() as sql:
            now = self._clock()
            shard = self._next_shard(sql, now)
            if shard is None:
                return None
            places, attempts = sql(
                "SELECT places, attempts FROM shards WHERE job_id = ? AND number = ?", shard
            ).fetchone()
            sql(
                "UPDATE shards SET attempts = attempts + 1, worker = ?, token = ?, expires = ? "
                "WHERE job_id = ? AND number = ?",
                (worker, token, now + lease_s, *shard),
            )
            job_id, number = shard
            sql(
                "UPDATE jobs SET state = 'running', started = coalesce(started, ?), "
                "turn = (SELECT max(turn) + 1 FROM jobs), "
                "indexing_since = CASE WHEN ? THEN coalesce(indexing_since, ?) ELSE indexing_since END "
                "WHERE id = ?",
                (now, number != SCAN, now, job_id),
            )
            spec, version, scanned_to = sql(
                "SELECT spec, version, scanned_to FROM jobs WHERE id = ?", (job_id,)
            ).fetchone()
        return Lease(
            job_id=job_id,
            spec=JobSpec.model_validate_json(spec),
            shard=number,
            places=unpack_places(places),
            token=token,
            attempt=attempts + 1,
            version=version,
            scanned_to=_from_json(scanned_to),
        )

    def renew(self, lease: Lease, lease_s: float = LEASE_S) -> None:
        with self._file.writing() as sql:
            self._update_held(sql, lease, "UPDATE shards SET expires = ?", self._clock() + lease_s)

    def extend(self, lease: Lease, found: Scanned) -> None:
        with self._file.writing() as sql:
            self._update_held(sql, lease, "UPDATE shards SET attempts = 1")
            self._add_shards(sql, lease.job_id, found.shards)
            self._add_failures(sql, lease.job_id, found.failures)
            sql(
                "UPDATE jobs SET found = found + ?, failed = failed + ?, scanned_to = ?, version = ?, "
                "reason = NULL WHERE id = ?",
                (found.num_found, len(found.failures), json.dumps(found.up_to), found.version, lease.job_id),
            )

    def complete(self, lease: Lease, counts: Counts = NOTHING, failures: Sequence[JobFailure] = ()) -> None:
        with self._file.writing() as sql:
            self._remove_held(sql, lease)
            self._add_failures(sql, lease.job_id, failures)
            sql(
                "UPDATE jobs SET added = added + ?, updated = updated + ?, skipped = skipped + ?, "
                "failed = failed + ?, is_scanned = is_scanned OR ?, reason = NULL WHERE id = ?",
                (*_changes(counts), lease.is_scan, lease.job_id),
            )
            (num_shards,) = sql("SELECT num_shards FROM jobs WHERE id = ?", (lease.job_id,)).fetchone()
            if not num_shards:
                self._end(sql, lease.job_id, "done")
            elif counts.settled:
                now = self._clock()
                sql(
                    "DELETE FROM settled WHERE job_id = ? AND moment < ?", (lease.job_id, now - RATE_WINDOW_S)
                )
                sql("INSERT INTO settled VALUES (?, ?, ?)", (lease.job_id, now, counts.settled))

    def divide(self, lease: Lease, parts: Sequence[Sequence[Place]]) -> None:
        with self._file.writing() as sql:
            self._remove_held(sql, lease)
            self._add_shards(sql, lease.job_id, parts)

    def hand_back(self, lease: Lease, reason: str | None = None) -> None:
        with self._file.writing() as sql:
            self._update_held(
                sql,
                lease,
                "UPDATE shards SET attempts = attempts - 1, worker = NULL, token = NULL, expires = 0",
            )
            sql("UPDATE jobs SET reason = coalesce(?, reason) WHERE id = ?", (reason, lease.job_id))

    def fail(self, lease: Lease, reason: str) -> None:
        with self._file.writing() as sql:
            self._check_held(sql, lease)
            sql(
                "UPDATE shards SET worker = NULL, token = NULL, expires = 0 WHERE job_id = ? AND expires > 0",
                (lease.job_id,),
            )
            self._end(sql, lease.job_id, "failed", reason)

    def close(self) -> None:
        self._file.close()

    def _job(self, sql: Sql, job_id: str) -> Job:
        row = sql(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise refusals.no_job(job_id)
        return self._to_job(sql, row)

    def _open_job(self, sql: Sql, job_id: str, wanted: str) -> Job:
        job = self._job(sql, job_id)
        if not job.is_open:
            raise refusals.not_open(job_id, job.state, wanted)
        return job

    def _to_job(self, sql: Sql, row: tuple[Any, ...]) -> Job:
        job_id, spec, state, created, started, finished, is_scanned, *counts, reason, indexing_since = row
        now = self._clock()
        (num_workers,) = sql(
            "SELECT count(DISTINCT worker) FROM shards WHERE job_id = ? AND expires > ?", (job_id, now)
        ).fetchone()
        rate = 0.0
        if state == "running" and indexing_since is not None:
            since = max(indexing_since, now - RATE_WINDOW_S)
            (settled,) = sql(
                "SELECT total(num_images) FROM settled WHERE job_id = ? AND moment >= ?", (job_id, since)
            ).fetchone()
            rate = settled / max(now - since, 1e-3)
        return Job(
            id=job_id,
            spec=JobSpec.model_validate_json(spec),
            state=state,
            counts=Counts(*counts),
            is_scanned=bool(is_scanned),
            created=created,
            started=started,
            finished=finished,
            rate=rate,
            num_workers=num_workers,
            reason=reason,
        )

    def _add_shards(self, sql: Sql, job_id: str, shards: Sequence[Sequence[Place]]) -> None:
        (first,) = sql("SELECT next_shard FROM jobs WHERE id = ?", (job_id,)).fetchone()
        for number, places in enumerate(shards, first):
            sql(
                "INSERT INTO shards (job_id, number, places) VALUES (?, ?, ?)",
                (job_id, number, pack_places(places)),
            )
        sql(
            "UPDATE jobs SET next_shard = next_shard + ?1, num_shards = num_shards + ?1 WHERE id = ?2",
            (len(shards), job_id),
        )

    def _add_failures(self, sql: Sql, job_id: str, failures: Sequence[JobFailure]) -> None:
        (first,) = sql(
            "SELECT coalesce(max(number) + 1, 0) FROM failures WHERE job_id = ?", (job_id,)
        ).fetchone()
        for number, failure in enumerate(failures, first):
            place = None if failure.place is None else json.dumps(failure.place)
            sql(
                "INSERT INTO failures VALUES (?, ?, ?, ?, ?)",
                (job_id, number, failure.id, failure.reason, place),
            )

    def _next_shard(self, sql: Sql, now: float) -> tuple[str, int] | None:
        """The job and the number of the shard whose turn it is: one that was lost, or else the first."""
        for (job_id,) in sql(f"SELECT id FROM jobs WHERE {LEASABLE} ORDER BY turn, id").fetchall():
            row = (
                sql(
                    "SELECT number FROM shards WHERE job_id = ? AND expires > 0 AND expires <= ? "
                    "ORDER BY expires, number LIMIT 1",
                    (job_id, now),
                ).fetchone()
                or sql(
                    "SELECT number FROM shards WHERE job_id = ? AND expires = 0 ORDER BY number LIMIT 1",
                    (job_id,),
                ).fetchone()
            )
            if row is not None:
                return job_id, row[0]
        return None

    def _end(self, sql: Sql, job_id: str, state: State, reason: str | None = None) -> None:
        sql(
            "UPDATE jobs SET state = ?, reason = ?, finished = ? WHERE id = ?",
            (state, reason, self._clock(), job_id),
        )
        sql("DELETE FROM settled WHERE job_id = ?", (job_id,))

    def _remove_held(self, sql: Sql, lease: Lease) -> None:
        self._update_held(sql, lease, "DELETE FROM shards")
        sql("UPDATE jobs SET num_shards = num_shards - 1 WHERE id = ?", (lease.job_id,))

    def _check_held(self, sql: Sql, lease: Lease) -> None:
        self._update_held(sql, lease, "UPDATE shards SET token = token")

    def _update_held(self, sql: Sql, lease: Lease, change: str, *values: object) -> None:
        done = sql(
            f"{change} WHERE job_id = ? AND number = ? AND token = ? AND expires > ?",
            (*values, lease.job_id, lease.shard, lease.token, self._clock()),
        )
        if done.rowcount == 0:
            raise refusals.lease_lost(lease)


def _changes(counts: Counts) -> tuple[int, int, int, int]:
    return counts.added, counts.updated, counts.skipped, counts.failed


def _from_json(text: str | None) -> Place | None:
    return None if text is None else json.loads(text)
