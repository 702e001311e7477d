"""Codes: packing, their text form, and the reference Hamming distance.

A code is `num_bits` bits, a multiple of 8, packed most significant bit first into `num_bits / 8`
bytes. Bit j is 1 where logit j >= 0, that is where P(bit = 1) >= 1/2 (Listing 1 of the paper).
"""

import base64
import binascii
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from contracts.errors import InvalidItem

Codes = npt.NDArray[np.uint8]
"""uint8 [n, num_bits / 8]: packed codes, one a row."""


def num_bytes(num_bits: int) -> int:
    """Bytes that a code of `num_bits` bits takes. Raises ValueError unless a positive multiple of 8."""
    if num_bits <= 0 or num_bits % 8:
        raise ValueError(f"num_bits is {num_bits}: it must be a positive multiple of 8")
    return num_bits // 8


def pack_logits(logits: npt.ArrayLike) -> Codes:
    """Pack float logits [..., num_bits] into uint8 codes [..., num_bits / 8]."""
    values = np.asarray(logits)
    num_bytes(values.shape[-1])
    return np.packbits(values >= 0, axis=-1)


def unpack(codes: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Unpack uint8 codes [..., num_bits / 8] into 0/1 uint8 bits [..., num_bits]."""
    return np.unpackbits(np.asarray(codes, dtype=np.uint8), axis=-1)


def to_text(code: bytes | Codes) -> str:
    """Standard base64 of one code."""
    return base64.b64encode(bytes(code)).decode("ascii")


def from_text(text: str, num_bits: int) -> bytes:
    """Bytes of the code in standard base64. Raises InvalidItem on other text or another length."""
    expected = num_bytes(num_bits)
    try:
        code = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidItem(
            f"the code is not standard base64 ({exc}): send the text that /encode gives"
        ) from exc
    check_length(code, expected)
    return code


def check_length(code: bytes, expected_bytes: int) -> None:
    """Raise InvalidItem unless `code` has the length that the model in use makes."""
    if len(code) != expected_bytes:
        raise InvalidItem(
            f"the code has {len(code) * 8} bits and this model's codes have {expected_bytes * 8}: "
            "encode the image again with the model in use"
        )


def stack(codes: Sequence[bytes], num_bits: int) -> Codes:
    """Packed codes [n, num_bits / 8] from byte strings, which must all have that length."""
    width = num_bytes(num_bits)
    for code in codes:
        check_length(code, width)
    return np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(len(codes), width)


def active_bits(codes: Codes) -> npt.NDArray[np.int64]:
    """Number of 1 bits of each packed code [..., num_bytes] -> int64 [...]."""
    counts: npt.NDArray[np.int64] = np.bitwise_count(codes).sum(axis=-1, dtype=np.int64)
    return counts


def hamming(queries: Codes, codes: Codes) -> npt.NDArray[np.int64]:
    """Reference Hamming distances, int64 [num_queries, num_codes], of packed uint8 codes.

    Clear rather than fast: it is what every faster search is tested against.
    """
    differing = queries[:, None, :] ^ codes[None, :, :]
    distances: npt.NDArray[np.int64] = np.bitwise_count(differing).sum(axis=-1, dtype=np.int64)
    return distances
