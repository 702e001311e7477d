"""Random numbers keyed by (seed, step, sample, view), without any generator's state.

Each number is a hash of its key, so augmentation and latent noise do not depend on how a batch is
spread over ranks and workers, nor on where a run was interrupted. The hash is the output function of
SplitMix64 (Steele, Lea and Flood 2014) over a counter, in int64 arithmetic that wraps alike on CPU
and GPU.
"""

from typing import Final

import torch
from torch import Tensor

_GOLDEN: Final = 0x9E3779B97F4A7C15 - 2**64
_MIX1: Final = 0xBF58476D1CE4E5B9 - 2**64
_MIX2: Final = 0x94D049BB133111EB - 2**64
_CHUNK_NUMBERS: Final = 2**16
"""Numbers that a CPU thread hashes at once, so that its cache holds them through all operations."""


def keys(seed: int, step: int, samples: Tensor, view: int) -> Tensor:
    """One int64 key for each sample, [N], from int64 sample numbers [N]."""
    key = torch.full_like(samples, seed)
    for part in (step, samples, view):
        key = _mix(key.add_(_GOLDEN)).add_(part)
    return _mix(key.add_(_GOLDEN))


def uniform(key: Tensor, count: int, stream: int = 0) -> Tensor:
    """float32 numbers in the open interval (0, 1), [N, count], for int64 keys [N].

    `stream` (below 2^16) separates independent uses of one key, such as augmentation and latent noise.
    """
    counter = torch.arange(1, count + 1, device=key.device).add_(stream << 32).mul_(_GOLDEN)
    out = torch.empty((len(key), count), device=key.device)
    at_once = len(key) if key.is_cuda else _CHUNK_NUMBERS * torch.get_num_threads() // count
    at_once = max(1, at_once)
    for start in range(0, len(key), at_once):
        rows = slice(start, start + at_once)
        bits = _mix(key[rows, None] + counter)
        # The upper 24 bits fill a float32's mantissa; half a unit keeps 0 and 1 out, so logs are finite.
        out[rows].copy_(_shift(bits, 40)).add_(0.5).mul_(2.0**-24).clamp_(max=1 - 2.0**-24)
    return out


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's output function, in place."""
    z.bitwise_xor_(_shift(z, 30)).mul_(_MIX1)
    z.bitwise_xor_(_shift(z, 27)).mul_(_MIX2)
    return z.bitwise_xor_(_shift(z, 31))


def _shift(z: Tensor, places: int) -> Tensor:
    """Logical right shift of int64, which torch shifts arithmetically."""
    return (z >> places).bitwise_and_((1 << (64 - places)) - 1)
