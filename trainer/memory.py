"""Freed memory, kept for the next tensors instead of given back to the system.

The maps of a convolution are tens of megabytes. glibc takes each from the system and gives it back, and the
system clears every page of it before the next use: with maps of 112 x 112 pixels, most of the time of a step.
"""

import ctypes

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Never give memory back until this process ends; whether the C library is one that can be told so.

    Some of the first tensors of a size still get fresh memory: glibc holds up to seven of the slivers that
    aligning a tensor leaves, and a freed one without its sliver is too small for the next.
    """
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS has no mallopt, and Windows no None
        return False
    return bool(tell(_MMAP_MAX, 0) and tell(_TRIM_THRESHOLD, -1))
