"""How many units of a representation a class needs: the right half of Figure 2.

A random forest ranks the units by their importance, and forests that see only the first of them are scored
on images that neither the ranking nor the forests have seen. Were the units chosen before the images are
cut into folds, the held-out images would have had a say in the choice, and pure noise would score above
chance.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

UNITS = "units.json"
"""Where a run keeps its curve."""

Representation = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
"""[n, width]: bits of a Bernoulli latent as 0 and 1, or means of a Gaussian one."""

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class UnitCurve:
    """Scores of forests that see so many units."""

    num_images: int
    folds: int
    mean: dict[int, float]
    """F1 by number of units: the mean over classes, then over the held-out folds."""
    std: dict[int, float]
    """Standard deviation over the folds, with folds - 1 degrees of freedom."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, as JSON would hold them: `f1` has `mean` and `std` by number of units."""
        scores = {
            str(number): {"mean": round(self.mean[number], 6), "std": round(self.std[number], 6)}
            for number in self.mean
        }
        return {"num_images": self.num_images, "folds": self.folds, "f1": scores}


def unit_curve(
    representation: Representation,
    labels: Labels,
    *,
    max_images: int = 10_000,
    folds: int = 5,
    num_trees: int = 100,
    seed: int = 0,
    threads: int = 1,
) -> UnitCurve:
    """F1 against the number of units, under stratified `folds`-fold cross-validation.

    In each fold the units are ranked on its training part alone. Of more than `max_images` images a
    stratified sample is taken. Forests have `num_trees` trees and otherwise scikit-learn's defaults; their
    importance is the mean decrease in impurity. The number of `threads` changes nothing. Raises ValueError
    for a single class, or one with fewer images than folds.
    """
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedKFold

    places = _sample(labels, max_images, seed)
    x, y = representation[places].astype(np.float32), labels[places]
    _check_classes(y, folds)
    numbers = ladder(x.shape[1])
    scores = np.empty((folds, len(numbers)))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y)
    for fold, (fitted, held_out) in enumerate(splits):
        importance = _forest(x[fitted], y[fitted], num_trees, seed, threads).feature_importances_
        ranked = np.argsort(-importance, kind="stable")
        for column, number in enumerate(numbers):
            units = ranked[:number]
            forest = _forest(x[np.ix_(fitted, units)], y[fitted], num_trees, seed, threads)
            found = forest.predict(x[np.ix_(held_out, units)])
            # A class that a forest never names has an F1 of 0.
            scores[fold, column] = f1_score(y[held_out], found, average="macro", zero_division=0)
    return UnitCurve(
        num_images=len(x),
        folds=folds,
        mean=dict(zip(numbers, scores.mean(axis=0).tolist(), strict=True)),
        std=dict(zip(numbers, scores.std(axis=0, ddof=1).tolist(), strict=True)),
    )


def ladder(width: int) -> list[int]:
    """Numbers of units from 1 to `width` in steps of about √2: 1, 2, 3, 4, 6, 8, 11, ..., 45, 64, ..."""
    steps = range(2 * width.bit_length() + 1)
    return sorted({number for step in steps if (number := round(2 ** (step / 2))) < width} | {width})


def _forest(x: Representation, y: Labels, num_trees: int, seed: int, threads: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(num_trees, random_state=seed, n_jobs=threads).fit(x, y)


def _sample(labels: Labels, max_images: int, seed: int) -> npt.NDArray[np.int64]:
    """Places of at most `max_images` images, of each class its share; in rising order."""
    if len(labels) <= max_images:
        return np.arange(len(labels))
    # Shuffled, then ordered by each image's rank in its class as a share of the class: any beginning of
    # that order is stratified.
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    of_class, counts = labels[shuffled], np.bincount(labels)
    by_class = np.argsort(of_class, kind="stable")
    rank = np.empty(len(labels))
    rank[by_class] = np.arange(len(labels)) - (np.cumsum(counts) - counts)[of_class[by_class]]
    share = (rank + 0.5) / counts[of_class]
    chosen: npt.NDArray[np.int64] = np.sort(shuffled[np.argsort(share, kind="stable")[:max_images]])
    return chosen


def _check_classes(labels: Labels, folds: int) -> None:
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise ValueError(
            "the images are of one class, and a forest needs two: give images of several classes"
        )
    if counts.min() < folds:
        raise ValueError(
            f"class number {names[counts.argmin()]} has {counts.min()} images among the {len(labels)} taken, "
            f"and {folds} folds need {folds} of each class: give more --queries"
        )
