"""Memory that a process frees and soon needs again."""

from __future__ import annotations

import ctypes
import platform

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed instead of giving it back; return whether it will.

    A network frees and fetches the same large pieces in every call. Given back, each is fetched
    page by page again, which on a CPU takes a tenth of a step in training and more in the draw of
    tokens. Only glibc knows these settings; the process holds on to the most that it ever needed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
