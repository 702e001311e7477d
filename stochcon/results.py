"""What the client and the command line take and give back: plain, typed values.

Items, hits and collections are those of `index.protocol`, so that an answer looks the same whether it
came over HTTP or from a store in this process.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

from index.protocol import Hit, Metadata, ModelRef

if TYPE_CHECKING:
    from PIL.Image import Image

ImageLike: TypeAlias = Union[bytes, str, Path, "Image"]
"""The bytes of an image file, the path of one, or a PIL image."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The code of one image."""

    code: bytes
    """`num_bits / 8` bytes, most significant bit first."""
    active_bits: int
    """Number of 1 bits."""
    entropy_bits: float
    """Σ H₂(σ(logit)): how unsure the model was, summed over the bits."""
    model: ModelRef


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Hits of one query, sorted by distance and then id."""

    hits: list[Hit]
    model: ModelRef
    exact: bool
    certified: bool | None
    """For re-ranked answers: whether nothing left out can rank higher."""
    truncated: bool
    """Whether more than `k` items lie within `radius`."""


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job of the service at one moment."""

    id: str
    state: Literal["queued", "running", "paused", "done", "cancelled", "failed"]
    source: str
    collection: str
    found: int
    """Images that the scan has come across so far."""
    added: int
    updated: int
    skipped: int
    """Images that were there already, as they are."""
    failed: int
    scanned: bool
    """Whether the source was scanned to its end, so that `found` is final."""
    images_per_s: float
    """Images dealt with, over the last minute."""
    seconds_left: float | None
    """At this rate; None while that cannot be known."""
    workers: int
    """Workers that are at it now."""
    reason: str | None
    """Why it failed, or what it waits for."""
    created: str
    """Times are in ISO 8601."""
    started: str | None
    finished: str | None

    @property
    def settled(self) -> int:
        """Images that are dealt with, in whatever way."""
        return self.added + self.updated + self.skipped + self.failed

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in ("done", "cancelled", "failed")


@dataclass(frozen=True, slots=True)
class ActivationInfo:
    """How far the activation of a model is."""

    model: str
    """Id of the model that is put into use."""
    previous: str
    """Id of the one before."""
    state: Literal["checking", "encoding", "waiting", "done", "failed", "cancelled"]
    """`waiting`: items would be left out, and nobody has said yet what to do with them."""
    jobs: Mapping[str, str]
    """Job that encodes again, by collection."""
    left_out: Mapping[str, int]
    """Items that could not be encoded again, by collection."""
    check: Mapping[str, Any] | None
    """What the check in a process of its own found."""
    reason: str | None
    """Why it failed."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that a job left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and its share of the vote, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Classification(SearchAnswer):
    """Labels of one query, best first, with the labelled neighbours that voted."""

    labels: list[LabelScore]
    method: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model of the service."""

    id: str
    name: str
    version: str
    num_bits: int
    active: bool
    """Whether new collections are bound to it, and images encoded by it."""
    manifest: dict[str, Any]
    """The whole card, as `contracts.manifest.ModelManifest` has it."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to add: an image or a code, and what is to be kept beside it."""

    id: str | None = None
    """None lets the service make one."""
    image: ImageLike | None = None
    code: bytes | None = None
    label: str | None = None
    metadata: Metadata = field(default_factory=dict)
    uri: str | None = None
