"""The interpreter's switch interval: the longest turn of a thread that computes while others wait.

Python's usual turn is 5 ms. Where four threads compute, any other one, the application's event loop too, waits 20 ms
whenever it wants to go on; a task passes through half a dozen threads until it starts. With shorter turns that is a few
milliseconds. Where nothing computes they would only cost: short functions get a third less done in turns of 1 ms.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_S: Final = 0.0005
"""The turn while a page is made."""
FUNCTION_S: Final = 0.001
"""The turn while functions of tasks compute in threads."""
_lock: Final = threading.Lock()
_wanted_s: Final[list[float]] = []
_usual_s: Final[list[float]] = []
"""The interval to go back to, while any other is wanted."""


def shorten(turn_s: float) -> None:
    """Let turns (`sys.setswitchinterval`) be no longer than this, until `restore` is called with the same figure.

    It may be wanted any number of times, by any threads; the shortest one holds.
    """
    with _lock:
        if not _wanted_s:
            _usual_s[:] = [sys.getswitchinterval()]
        _wanted_s.append(turn_s)
        sys.setswitchinterval(min([*_wanted_s, *_usual_s]))


def restore(turn_s: float) -> None:
    """Undo one `shorten` with this figure."""
    with _lock:
        _wanted_s.remove(turn_s)
        sys.setswitchinterval(min([*_wanted_s, *_usual_s]))


@contextmanager
def giving_way() -> Iterator[None]:
    """Let the block, which makes a page, delay nobody for long."""
    shorten(PAGE_S)
    try:
        yield
    finally:
        restore(PAGE_S)
