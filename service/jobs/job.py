"""Jobs as the service keeps and shows them."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from index.protocol import DEFAULT_COLLECTION

State = Literal["queued", "running", "paused", "done", "cancelled", "failed"]
"""`queued`: nobody has begun. `failed`: it cannot go on, and says why; images that failed do not end it."""

OPEN_STATES: tuple[State, ...] = ("queued", "running", "paused")

Place = str | int | list[str | int]
"""Where one image is in its source; see `stochcon.sources`."""


class JobSpec(BaseModel):
    """What is to be indexed, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str = Field(min_length=1, max_length=4096)
    """Absolute path, or URL such as `s3://bucket/prefix`, below a configured root: a folder, an image, a
    `.tar`, a `.zip`, a `.parquet`, or a `.txt` with a path in each line."""
    collection: str = DEFAULT_COLLECTION
    prefix: str = Field(default="", max_length=255)
    """Put before every id."""
    labels: Literal["none", "folders"] = "none"
    """`folders`: the first folder of an image's path below its source is its label."""
    label_column: str = "label"
    """Column of a Parquet file that holds labels."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Put on every item."""
    metadata_columns: list[str] = Field(default_factory=list)
    """Columns of a Parquet file that go into the items' metadata."""
    include: list[str] = Field(default_factory=list)
    """Patterns, of which an image's path must match one if there are any; `*` stands for slashes too."""
    exclude: list[str] = Field(default_factory=list)
    """Patterns, of which an image's path must match none."""
    reencode: str | None = None
    """Set by the service alone: id of the model for which the collection's items are encoded again."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the images of a job. Once it is done, `found` is the sum of the others."""

    found: int = 0
    added: int = 0
    updated: int = 0
    skipped: int = 0
    """Images that were there already, as they are."""
    failed: int = 0

    @property
    def settled(self) -> int:
        """Images that are dealt with, in whatever way."""
        return self.added + self.updated + self.skipped + self.failed


NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Job:
    """A job at one moment."""

    id: str
    spec: JobSpec
    state: State
    counts: Counts
    is_scanned: bool
    """Whether all of the source has been looked through, so that `counts.found` is final."""
    created: float
    """Times are in seconds since 1970."""
    started: float | None
    finished: float | None
    rate: float
    """Images settled in each second, over the last minute."""
    num_workers: int
    """Workers that hold a part of it."""
    reason: str | None
    """Why it failed, or what it waits for."""

    @property
    def is_open(self) -> bool:
        """Whether anything is still to come."""
        return self.state in OPEN_STATES

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at this rate; None while that cannot be known."""
        if self.state != "running" or not self.is_scanned or not self.rate:
            return None
        return (self.counts.found - self.counts.settled) / self.rate


@dataclass(frozen=True, slots=True)
class JobFailure:
    """An image that a job left out, and why."""

    id: str
    reason: str
    place: Place | None = None
    """Where to try it again; None if that takes another scan."""
