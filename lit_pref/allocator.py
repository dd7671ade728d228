"""How the C library hands out large blocks of memory. Knows the process alone."""

import ctypes
import os
import platform
from functools import cache

#: Of mallopt(3): from which size on blocks are mapped anew, and how much free memory at the heap's end goes back.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE = 1 << 30


@cache
def keep_large_blocks() -> bool:
    """Let freed memory stay with the process, for the next block of its size, up to 1 GiB a block.

    By default glibc maps each large block anew, and the system fills it with zeros page by page as it is written: for
    matrices of the vocabulary's size a tenth to a fifth of a training step on a CPU. The most that a process holds
    stays about the same. Nothing is done where the user has set the allocator, or another one is in use.

    Returns:
        Whether it is so from now on.
    """
    chosen = any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD"))
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(M_TRIM_THRESHOLD, 2 * LARGE - 1))
