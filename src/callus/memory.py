"""Keep freed memory for the next step instead of giving it back to the kernel."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD of glibc's malloc.h
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc's malloc reuse large blocks.

    By default large blocks are mapped anew and their pages zeroed by the kernel. Measured: with MobileNetV2's
    activations at 448x448 that takes as long as the arithmetic (``bench/trunk_cache.py --plain-malloc``), and a tenth
    of the time in which radiographs are audited. Elsewhere than on glibc this does nothing.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_TRIM_THRESHOLD, _LARGEST)
    except (OSError, AttributeError):
        return
