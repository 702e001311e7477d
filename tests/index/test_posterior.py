import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codes import hamming
from index.posterior import Posterior

ALL_CODES = np.arange(256, dtype=np.uint8)[:, None]
logits = st.lists(
    st.floats(-6, 6) | st.sampled_from([0.0, -0.0, 800.0, -800.0, np.inf, -np.inf]), min_size=8, max_size=8
)


def expected_distance(logits: np.ndarray, code: int) -> float:
    """By the definition, a bit at a time."""
    total = 0.0
    for bit, logit in enumerate(logits):
        p = 1 / (1 + np.exp(-np.clip(logit, -700, 700)))
        total += (1 - p) if code >> (7 - bit) & 1 else p
    return total


@given(logits)
def test_expected_distances_follow_the_definition(values: list[float]) -> None:
    found = Posterior(values).expected_distances(ALL_CODES)
    assert found == pytest.approx([expected_distance(np.array(values), code) for code in range(256)])


def test_expected_distance_is_the_mean_over_samples() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(64)
    codes = rng.integers(0, 256, (5, 8), dtype=np.uint8)
    samples = np.packbits(rng.random((40_000, 64)) < 1 / (1 + np.exp(-values)), axis=1)
    means = hamming(codes, samples).mean(axis=1)
    assert Posterior(values).expected_distances(codes) == pytest.approx(means, abs=0.1)


@settings(max_examples=200)
@given(logits)
def test_the_lower_bound_is_the_least_at_each_distance(values: list[float]) -> None:
    posterior = Posterior(values)
    expected = posterior.expected_distances(ALL_CODES)
    distances = hamming(posterior.code[None], ALL_CODES)[0]
    for distance in range(9):
        assert posterior.lower_bound(distance) == pytest.approx(expected[distances == distance].min())
        assert posterior.lower_bound(distance) == pytest.approx(expected[distances >= distance].min())


def test_the_code_is_the_sign_of_the_logits() -> None:
    assert Posterior([0.0, -1.0, 2.0, -0.5, 1e-9, -1e-9, -3.0, 3.0]).code.tolist() == [0b10101001]
