"""What a comparison says: plain values, which are its JSON document too."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stochcon.comparing.measure import Floats
from stochcon.comparing.significance import Estimate, Paired


@dataclass(frozen=True, slots=True)
class Distribution:
    """A value over the images."""

    mean: float
    p5: float
    median: float
    p95: float

    @classmethod
    def of(cls, values: npt.NDArray[np.generic]) -> "Distribution":
        """That of values [n]."""
        p5, median, p95 = np.percentile(values.astype(np.float64), [5, 50, 95]).tolist()
        return cls(float(values.astype(np.float64).mean()), p5, median, p95)


@dataclass(frozen=True, slots=True)
class Images:
    """Which images were compared."""

    used: int
    failed: int
    copies: int
    """Left out, since another file has the same bytes."""
    labelled: int
    """Of those used."""


@dataclass(frozen=True, slots=True)
class Model:
    """One of the two models, and its codes of these images."""

    id: str
    name: str
    version: str
    num_bits: int
    bytes_per_image: int
    provider: str
    images_per_s: Distribution
    """Of decoding and model on this machine, over the turns."""
    entropy_bits: Distribution
    active_bits: Distribution
    constant_bits: int
    """Bits that are the same for all images."""
    sharing_a_code: int
    """Images whose code another image has too."""
    nearest_distance: Distribution
    """To the nearest other image, as a share of the bits."""
    random_distance: Distribution
    """Of random pairs, as a share of the bits."""
    separation: float
    """Chance that a nearest pair is nearer than a random one; 0.5 if nothing tells them apart."""


@dataclass(frozen=True, slots=True)
class Score:
    """How good the two models are at one thing, from 0 to 1, over the same queries."""

    name: str
    num_queries: int
    a: Estimate
    b: Estimate
    paired: Paired


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of the k nearest the two models have in common, as a share."""

    k: int
    overlap: float
    chance: float
    num_queries: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that was found."""

    images: Images
    a: Model
    b: Model
    agreement: Agreement
    labelled: list[Score]
    """By label, leaving each image out; empty if there are too few labels."""
    near_duplicates: Score | None
    """Finding the original of an edited image first, over all edits; None if no image could be edited."""
    edits: list[Score]
    """The same for each edit."""
    verdict: str

    @property
    def tested(self) -> list[Score]:
        """The scores that the verdict is about."""
        return [*self.labelled, *([self.near_duplicates] if self.near_duplicates else [])]


@dataclass(frozen=True, slots=True)
class Curves:
    """What is drawn of one model."""

    nearest: Floats
    """float64 [num_queries], as a share of the bits."""
    random: Floats
    """float64 [num_pairs], as a share of the bits."""
    entropy: Floats
    """float64 [n], in bits for each bit of the code."""
    activity: Floats
    """float64 [num_bits]: share of the images in which each bit is 1."""
