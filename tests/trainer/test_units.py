import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from trainer.units import ladder, unit_curve

PLANTED = [3, 17, 29, 40]


def planted_bits(num_images: int = 400, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """16 classes, told apart exactly by four of the bits; the others are noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(num_images) % 16
    bits = rng.integers(0, 2, (num_images, width), dtype=np.uint8)
    bits[:, PLANTED] = labels[:, None] >> np.arange(4) & 1
    return bits, labels


def test_the_curve_finds_the_units_that_tell_classes_apart() -> None:
    bits, labels = planted_bits()
    curve = unit_curve(bits, labels, num_trees=20)
    assert (curve.num_images, curve.folds) == (400, 5)
    assert list(curve.mean) == list(curve.std) == [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 48]
    # n of the four bits leave 2^(4 - n) classes together, of which one is named: its precision is 2^(n - 4),
    # its recall 1, and the F1 of the others 0.
    for n in (1, 2, 3, 4):
        precision = 2 ** (n - 4)
        assert curve.mean[n] == pytest.approx(precision * 2 * precision / (precision + 1))
    assert curve.std[4] == 0.0
    assert curve.mean[48] > 0.5


def test_floats_are_cut_where_they_say_most() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(300) % 3
    means = rng.normal(size=(300, 10)).astype(np.float32)
    means[:, 6] = labels + rng.uniform(-0.4, 0.4, 300)
    curve = unit_curve(means, labels, num_trees=10)
    assert curve.mean[1] > 0.98


def test_units_are_chosen_inside_each_fold_so_noise_stays_at_chance() -> None:
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 2, (120, 600), dtype=np.uint8)
    labels = np.arange(120) % 4
    leaking = RandomForestClassifier(30, random_state=0).fit(noise, labels).feature_importances_
    chosen = noise[:, np.argsort(-leaking)[:23]]
    scores = []
    for fitted, held_out in StratifiedKFold(5, shuffle=True, random_state=0).split(chosen, labels):
        forest = RandomForestClassifier(30, random_state=0).fit(chosen[fitted], labels[fitted])
        scores.append(f1_score(labels[held_out], forest.predict(chosen[held_out]), average="macro"))
    assert np.mean(scores) > 0.36  # what a leak is worth
    curve = unit_curve(noise, labels, num_trees=10)
    assert curve.mean[23] < 0.33
    assert np.mean(list(curve.mean.values())) == pytest.approx(0.25, abs=0.05)


def test_a_score_is_the_mean_f1_of_classes_and_not_the_share_of_hits() -> None:
    # 90 images of one class and 10 of another that nothing tells apart: F1 of 0.947 and of 0.
    labels = np.repeat([0, 1], [90, 10])
    curve = unit_curve(np.zeros((100, 1), np.uint8), labels, num_trees=5)
    assert curve.mean[1] == pytest.approx((2 * 0.9 / 1.9) / 2)


def test_a_sample_has_the_share_of_each_class_and_the_same_seed_the_same_curve() -> None:
    bits, labels = planted_bits(800)
    # Five of each of the 16 classes: with less of any one, five folds would be refused.
    curve = unit_curve(bits, labels, max_images=80, num_trees=2)
    assert curve.num_images == 80
    assert unit_curve(bits, labels, max_images=80, num_trees=2) == curve
    assert unit_curve(bits, labels, max_images=80, num_trees=2, seed=1) != curve


@pytest.mark.parametrize(("width", "last"), [(1, [1]), (8, [6, 8]), (64, [45, 64]), (100, [91, 100])])
def test_the_ladder_climbs_to_the_width(width: int, last: list[int]) -> None:
    numbers = ladder(width)
    assert numbers[-len(last) :] == last
    assert numbers == sorted(set(numbers))
    assert width < 64 or {1, 11, 64} <= set(numbers)


def test_classes_that_folds_cannot_share_are_refused() -> None:
    bits = np.zeros((20, 8), np.uint8)
    with pytest.raises(ValueError, match=r"class number 1 has 4 images among the 20 taken, and 5 folds"):
        unit_curve(bits, np.repeat([0, 1], [16, 4]))
    with pytest.raises(ValueError, match="of one class"):
        unit_curve(bits, np.zeros(20, np.int64))
