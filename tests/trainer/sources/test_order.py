import numpy as np
import pytest

from trainer.sources import order as order_module
from trainer.sources.order import local_permutation, permutation, run_starts

SIZES = np.random.default_rng(0).integers(0, 60, 150)
COUNT = int(SIZES.sum())
RUN_OF = np.repeat(np.arange(150), SIZES)


def test_a_permutation_is_fixed_by_seed_and_epoch() -> None:
    order = permutation(1, 2, 100)
    assert sorted(order) == list(range(100))
    np.testing.assert_array_equal(order, permutation(1, 2, 100))
    assert not np.array_equal(order, permutation(1, 3, 100))
    assert not np.array_equal(order, permutation(2, 2, 100))


def test_a_local_permutation_is_one_and_fixed_by_seed_and_epoch() -> None:
    order = local_permutation(1, 2, SIZES, 500)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(COUNT))
    np.testing.assert_array_equal(order, local_permutation(1, 2, SIZES, 500))
    assert not np.array_equal(order, local_permutation(1, 3, SIZES, 500))
    assert not np.array_equal(order, local_permutation(2, 2, SIZES, 500))


def images_in_use(order: np.ndarray) -> int:
    """The most images that runs in use have at one time: from the first use of a run to its last."""
    runs = RUN_OF[order]
    first = {run: int(np.flatnonzero(runs == run)[0]) for run in set(runs)}
    last = {run: int(np.flatnonzero(runs == run)[-1]) for run in set(runs)}
    return max(
        sum(SIZES[run] for run in first if first[run] <= now <= last[run]) for now in range(0, COUNT, 10)
    )


@pytest.mark.parametrize("window", [1, 300, 1000])
def test_at_any_time_few_runs_are_in_use(window: int) -> None:
    in_use = images_in_use(local_permutation(0, 0, SIZES, window))
    assert window <= in_use <= window + 2 * SIZES.max()


def test_a_batch_has_images_of_most_runs_in_the_window() -> None:
    order = local_permutation(0, 0, SIZES, 1000)
    for start in range(0, COUNT - 64, 640):
        # 1000 images are some 33 runs, of which 64 images drawn at random meet 28; half as many at the ends.
        middle = 500 <= start < COUNT - 564
        assert len(set(RUN_OF[order[start : start + 64]])) >= (22 if middle else 11)


def test_runs_follow_each_other_in_random_order() -> None:
    order = local_permutation(0, 0, SIZES, 100)
    late = order[COUNT // 2 :]
    assert 0.4 < np.mean(late < COUNT // 2) < 0.6


def test_files_are_cut_into_runs_of_about_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_module, "RUN_BYTES", 100)
    # Two files: parts at 0, 60, 99, 100, 250, 260 of the one, and at 0, 90 of the other.
    offsets = np.array([0, 60, 99, 100, 250, 260, 0, 90])
    assert run_starts(offsets, [0, 6]) == [0, 3, 4, 6]
    assert run_starts(np.array([0, 0, 0]), [0, 1, 2]) == [0, 1, 2]
