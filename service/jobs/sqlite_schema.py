"""The tables of the SQLite ledger."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from contracts.errors import StoreCorrupt

SCHEMA_VERSION = 1

LEASABLE = "state IN ('queued', 'running')"
"""What is true of jobs whose shards may be leased, as the index has it: SQLite compares the text."""

_SCHEMA = f"""
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    version TEXT,
    scanned_to TEXT,
    is_scanned INTEGER NOT NULL DEFAULT 0,
    next_shard INTEGER NOT NULL DEFAULT 0,
    num_shards INTEGER NOT NULL DEFAULT 0,
    found INTEGER NOT NULL DEFAULT 0,
    added INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    turn INTEGER NOT NULL DEFAULT 0,
    indexing_since REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_turn ON jobs (turn);
CREATE INDEX leasable_jobs ON jobs (turn, id) WHERE {LEASABLE};
CREATE TABLE shards (
    job_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    places BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    token TEXT,
    expires REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (job_id, number)
) STRICT;
CREATE INDEX shards_by_expiry ON shards (job_id, expires, number);
CREATE TABLE failures (
    job_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    id TEXT NOT NULL,
    reason TEXT NOT NULL,
    place TEXT,
    PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE settled (job_id TEXT NOT NULL, moment REAL NOT NULL, num_images INTEGER NOT NULL) STRICT;
CREATE INDEX settled_by_job ON settled (job_id, moment);
"""
"""Shards that are done are deleted; `num_shards` counts those that a job has. `expires` is 0 for shards that
wait. `turn` numbers the leases: the job with the lowest has waited longest. `indexing_since` is when a shard
of images was first leased after the last standstill, and with `settled` gives the rate."""

Sql = Callable[..., sqlite3.Cursor]
"""Runs one statement in a transaction that is open."""


def prepare(sql: Sql, path: Path) -> None:
    """Make the tables if there are none. Raises StoreCorrupt for those of another version."""
    (version,) = sql("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in _SCHEMA.split(";"):
            sql(statement)
        sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    elif version != SCHEMA_VERSION:
        raise StoreCorrupt(
            f"{path} has schema version {version} and this StochCon reads {SCHEMA_VERSION}: let its jobs end "
            "with the version that made it, and remove it"
        )
