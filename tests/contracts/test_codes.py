import base64
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import codes
from contracts.errors import InvalidItem

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("num_bits", [0, -8, 7, 2047])
def test_a_number_of_bits_that_is_no_positive_multiple_of_8_is_refused(num_bits):
    with pytest.raises(ValueError, match=str(num_bits)):
        codes.num_bytes(num_bits)


def test_bits_are_packed_most_significant_first():
    logits = [1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 1]
    assert codes.pack_logits(logits).tolist() == [0b10000000, 0b00000011]


def test_a_logit_of_zero_gives_a_one():
    assert codes.pack_logits([0.0, -0.0, -1e-30, 1e-30, 0, 0, 0, 0]).tolist() == [0b11011111]


@given(st.binary(min_size=1, max_size=64))
def test_unpacking_reads_the_bits_of_the_number_that_the_bytes_spell(code):
    bits = codes.unpack(np.frombuffer(code, dtype=np.uint8))
    assert "".join(map(str, bits)) == f"{int.from_bytes(code, 'big'):0{8 * len(code)}b}"


@given(st.integers(1, 5), st.integers(1, 8))
def test_packing_undoes_unpacking(num_codes, num_bytes):
    packed = RNG.integers(0, 256, (num_codes, num_bytes), dtype=np.uint8)
    logits = codes.unpack(packed).astype(np.float32) - 0.5
    assert np.array_equal(codes.pack_logits(logits), packed)


def test_packing_logits_that_fill_no_byte_is_refused():
    with pytest.raises(ValueError, match="12"):
        codes.pack_logits(np.zeros((3, 12)))


@given(st.binary(min_size=8, max_size=8))
def test_text_is_standard_base64(code):
    text = codes.to_text(np.frombuffer(code, dtype=np.uint8))
    assert text == codes.to_text(code) == base64.standard_b64encode(code).decode()
    assert codes.from_text(text, 64) == code


@pytest.mark.parametrize("text", ["_-__", "not base64", "AAAA\n", "AAA", "é"])
def test_text_that_is_not_standard_base64_is_an_invalid_item(text):
    with pytest.raises(InvalidItem, match="base64"):
        codes.from_text(text, 24)


def test_a_code_of_another_length_is_told_with_both_lengths():
    with pytest.raises(InvalidItem, match="has 16 bits and this model's codes have 64"):
        codes.from_text(base64.b64encode(b"ab").decode(), 64)


def test_stacking_keeps_order_and_refuses_a_code_of_another_length():
    assert codes.stack([b"\x01\x02", b"\x03\x04"], 16).tolist() == [[1, 2], [3, 4]]
    assert codes.stack([], 16).shape == (0, 2)
    with pytest.raises(InvalidItem):
        codes.stack([b"\x01\x02", b"\x03"], 16)


def test_active_bits_and_distances_agree_with_python_integers():
    chance = random.Random(1)
    left = [chance.randbytes(32) for _ in range(5)]
    right = [chance.randbytes(32) for _ in range(7)]
    stacked = codes.stack(left, 256), codes.stack(right, 256)
    assert codes.active_bits(stacked[0]).tolist() == [int.from_bytes(c).bit_count() for c in left]
    expected = [[(int.from_bytes(a) ^ int.from_bytes(b)).bit_count() for b in right] for a in left]
    assert codes.hamming(*stacked).tolist() == expected


def test_active_bits_do_not_overflow_for_long_codes():
    assert codes.active_bits(np.full((1, 4096), 255, dtype=np.uint8)).tolist() == [32768]
