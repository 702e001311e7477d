import math

import numpy as np
import pytest

from contracts.codes import pack_logits
from service.encoding.encoding import Encoding


def encoding(logits: list[float]) -> Encoding:
    values = np.array(logits, dtype=np.float32)
    return Encoding(pack_logits(values).tobytes(), values)


def naive_entropy(logits: list[float]) -> float:
    total = 0.0
    for logit in logits:
        p = 1 / (1 + math.exp(-logit))
        total -= p * math.log2(p) + (1 - p) * math.log2(1 - p)
    return total


def test_entropy_is_that_of_independent_bits() -> None:
    logits = [-3.0, -1.5, -0.2, 0.0, 0.1, 0.9, 2.0, 4.0]
    assert encoding(logits).entropy_bits == pytest.approx(naive_entropy(logits), rel=1e-6)


def test_a_logit_of_zero_is_one_bit_of_entropy() -> None:
    assert encoding([0.0] * 16).entropy_bits == 16


def test_entropy_of_large_logits_is_zero_and_not_nan() -> None:
    assert encoding([1e4, -1e4, 300, -300, 88, -88, 3e38, -3e38]).entropy_bits == pytest.approx(0, abs=1e-30)


def test_entropy_does_not_depend_on_the_sign() -> None:
    logits = [0.3, 1.2, 2.5, 0.7, 4.0, 0.01, 1.0, 6.0]
    assert encoding(logits).entropy_bits == encoding([-x for x in logits]).entropy_bits


def test_active_bits_counts_ones() -> None:
    assert encoding([1, -1, 0, 5, -2, -3, 2, -1]).active_bits == 4
    assert encoding([-1.0] * 8).active_bits == 0
