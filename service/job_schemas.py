"""What the calls on jobs take and give."""

from pydantic import Field

from service.jobs.job import JobSpec, State
from service.schemas import Schema


class JobsParameters(Schema):
    after: str | None = None
    """Id of the last job of the page before."""
    limit: int = Field(default=100, ge=1, le=1000)


class FailuresParameters(Schema):
    skip: int = Field(default=0, ge=0)
    limit: int = Field(default=100, ge=1, le=1000)


class JobCounts(Schema):
    found: int
    """Images that the scan has come across so far."""
    done: int
    """Images that were encoded and stored: added and updated."""
    added: int
    updated: int
    skipped: int
    """Images that were there already, as they are."""
    failed: int


class JobAnswer(Schema):
    id: str
    state: State
    counts: JobCounts
    scanned: bool
    """Whether the source was scanned to its end, so that `found` is final."""
    images_per_s: float
    """Images dealt with, over the last minute."""
    seconds_left: float | None
    """At this rate; null while that cannot be known."""
    workers: int
    """Workers that are at it now."""
    reason: str | None
    """Why it failed, or what it waits for."""
    created: str
    started: str | None
    finished: str | None
    spec: JobSpec


class JobsAnswer(Schema):
    jobs: list[JobAnswer]


class LeftOut(Schema):
    id: str
    reason: str


class FailuresAnswer(Schema):
    failures: list[LeftOut]
