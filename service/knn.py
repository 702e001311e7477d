"""Labels of a query from its labelled neighbours."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from index.protocol import Hit

TEMPERATURE = 0.07
"""Of the votes, as in Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination" (2018), where similarity is a cosine; 1 - 2 d / num_bits is the cosine of codes in ±1."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and its share of the vote, 0 to 1."""

    label: str
    score: float


def vote(hits: Sequence[Hit], num_bits: int) -> list[LabelScore]:
    """Labels of `hits`, best first, with scores that sum to 1; none if no hit has a label.

    A neighbour at distance d votes with exp(s / TEMPERATURE), s = 1 - 2 d / num_bits. For 2048 bits, a
    neighbour 50 bits farther than another has half its weight.
    """
    labelled = [(hit.label, hit.distance) for hit in hits if hit.label is not None]
    if not labelled:
        return []
    nearest = min(distance for _, distance in labelled)
    votes: defaultdict[str, float] = defaultdict(float)
    for label, distance in labelled:
        # Relative to the nearest, which cancels in the shares and keeps exp from overflowing.
        votes[label] += exp(-2 * (distance - nearest) / num_bits / TEMPERATURE)
    total = sum(votes.values())
    ranked = sorted(votes.items(), key=lambda item: (-item[1], item[0]))
    return [LabelScore(label, weight / total) for label, weight in ranked]
