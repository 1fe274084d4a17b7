"""A lock without a convoy: who finds it taken lets others run, and comes back for it; who runs may take it meanwhile.

::

    free ─► taken          taken ─► PAUSE_S later ─► taken ─► … PATIENCE_S later ─► in line for it, as for an RLock
                                         └─ free ─► taken it is

A lock of Python goes to a waiting thread before that one has the interpreter. Whoever released it comes back for it
a few µs later, finds it taken, and gives the interpreter up as well: from then on each section costs two switches of
threads (a lock convoy: Blasgen, Gray, Mitoma, Price, "The convoy phenomenon", 1979). Four slots that serve short
functions lost a quarter of their CPU to it. Later CPythons have an RLock like this one (Python/lock.c).
"""

from __future__ import annotations

import threading
from _thread import RLock
from time import monotonic, sleep
from typing import Final

PAUSE_S: Final = 0.000_05
"""Who has the lock needs the interpreter to give it back: so long nobody who waits for the lock asks for that."""
PATIENCE_S: Final = 0.001
"""Who has come back for it for so long stands in line for it. Python/lock.c is as patient with barging."""

_take: Final = RLock.acquire


class BargingLock(RLock):  # type: ignore[misc]  # CPython lets it be a base
    """A `threading.RLock` for sections of a few µs that threads enter over and over again.

    It is taken and given back by the RLock's own methods, of which each is one step of the interpreter: neither Ctrl-C
    nor a signal's handler nor a finalizer comes in between. All that is done here is how it is waited for.
    """

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - as RLock has it
        """Take it, or take it once more; False if another thread has it and the call should not wait (longer)."""
        try:
            if _take(self, False):  # by name it takes longer, five times a task
                return True
            return self._wait() if blocking and timeout < 0 else _take(self, blocking, timeout)
        except RecursionError:
            raise  # of the call, which took nothing
        except BaseException:  # Ctrl-C behind the call that took it, or while it waits
            if self._is_owned():  # type: ignore[attr-defined]  # has it for conditions
                self.release()
            raise

    __enter__ = acquire

    def _wait(self) -> bool:
        until_s = monotonic() + PATIENCE_S
        while monotonic() < until_s:
            sleep(PAUSE_S)
            if _take(self, blocking=False):
                return True
        return _take(self)

    def condition(self) -> threading.Condition:
        """A condition of which this is the lock."""
        return threading.Condition(self)
