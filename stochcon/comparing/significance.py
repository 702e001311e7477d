"""Whether a difference means anything: intervals of 95 %, and tests of the same queries under both models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SEED = 0
LEVEL = 0.05
"""Chance of seeing a difference where there is none, all comparisons of a run together."""

_Z = 1.959963984540054
"""The normal distribution lies within so many deviations with a chance of 95 %."""

_RESAMPLES = 2000
_DRAWN = 2**18
"""Queries drawn at a time, 8 bytes each."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over queries, and the ends of its interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Paired:
    """B less A, over the same queries."""

    difference: Estimate
    num_a_better: int
    """Queries on which A is right and B wrong, or A better."""
    num_b_better: int
    p: float
    """Of the exact sign test, two-sided; for right and wrong it is the exact test of McNemar (1947)."""

    def better(self, num_tests: int) -> str | None:
        """`a` or `b` where it can be told, if this is one of so many tests; else None.

        The sign test must say so at an equal share of LEVEL (Bonferroni), and so must the interval of the
        difference, in the same direction: where most queries get a little better and a few much worse,
        neither model is.
        """
        if self.p >= LEVEL / num_tests:
            return None
        if self.difference.low > 0 and self.num_b_better > self.num_a_better:
            return "b"
        if self.difference.high < 0 and self.num_a_better > self.num_b_better:
            return "a"
        return None


def share(is_right: npt.NDArray[np.bool_]) -> Estimate:
    """The share that is right, with the interval of Wilson (1927), which holds near 0 and 1 too."""
    n = len(is_right)
    p = float(is_right.mean())
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    # Rounding may leave the share itself just outside at 0 and 1.
    return Estimate(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def mean(values: Values) -> Estimate:
    """The mean, with the percentiles of means of seeded resamples of the queries (the bootstrap)."""
    random = np.random.default_rng(SEED)
    at_once = max(1, _DRAWN // len(values))
    means = [
        values[random.integers(len(values), size=(min(at_once, _RESAMPLES - start), len(values)))].mean(
            axis=1
        )
        for start in range(0, _RESAMPLES, at_once)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def paired(
    a: Sequence[float] | npt.NDArray[np.generic], b: Sequence[float] | npt.NDArray[np.generic]
) -> Paired:
    """How B differs from A; values of each query, [num_queries] both, where more is better."""
    difference = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    num_a, num_b = int((difference < 0).sum()), int((difference > 0).sum())
    return Paired(mean(difference), num_a, num_b, sign_test(num_a, num_b))


def sign_test(num_a: int, num_b: int) -> float:
    """Chance that num_a + num_b fair coins fall at least as unevenly, exactly; 1 if there are none."""
    count, fewer = num_a + num_b, min(num_a, num_b)
    ways = total = 1  # Whole numbers of any length: nothing is rounded before the division.
    for heads in range(fewer):
        ways = ways * (count - heads) // (heads + 1)
        total += ways
    p: float = 2 * total / 2**count
    return min(1.0, p)
