"""While pages are made, other threads need not wait long for the interpreter.

A thread that computes keeps the interpreter for 5 ms after another one asks for it. A task passes through half a dozen
threads until it starts, so a busy page would delay it by 30 ms; with a shorter turn it is a few.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

TURN_S: Final = 0.0005
_lock: Final = threading.Lock()
_usual_s: list[float] = []
"""The interval to go back to, once for each thread within `giving_way`."""


@contextmanager
def giving_way() -> Iterator[None]:
    """Shorten the turns of all threads (`sys.setswitchinterval`) while the block runs, on any number of threads."""
    with _lock:
        _usual_s.append(_usual_s[0] if _usual_s else sys.getswitchinterval())
        sys.setswitchinterval(min(TURN_S, _usual_s[0]))
    try:
        yield
    finally:
        with _lock:
            usual_s = _usual_s.pop()
            if not _usual_s:
                sys.setswitchinterval(usual_s)
