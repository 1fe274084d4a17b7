"""A served scheduler shares one heap among its threads, and obeys who says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

HEAPS_OF_TEN_THREADS = """
import ctypes, threading
from atlas.heap import keep_heap_small

keep_heap_small()
libc, ready = ctypes.CDLL(None), threading.Barrier(11)
libc.malloc.restype = ctypes.c_void_p

def take():
    libc.malloc(1000)
    ready.wait()
    ready.wait()

threads = [threading.Thread(target=take) for _ in range(10)]
for thread in threads:
    thread.start()
ready.wait()
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
ready.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no heaps of threads")
@pytest.mark.parametrize(("said", "heaps"), [({}, 1), ({"MALLOC_ARENA_MAX": "5"}, 5)], ids=["by itself", "as told"])
def test_ten_threads_share_one_heap_unless_somebody_says_otherwise(said: dict[str, str], heaps: int) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", HEAPS_OF_TEN_THREADS], env=plain | said, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("<heap nr=") == heaps
