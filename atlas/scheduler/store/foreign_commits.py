"""Waiting for what other processes commit."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atlas.scheduler.store.store import Store

LOOK_S: Final = 0.5
"""How often somebody who waits looks for himself."""
TOLD_LOOK_S: Final = 5.0
"""The same where the database tells of commits (PostgreSQL)."""


N = TypeVar("N", "ForeignCommits", "LoopForeignCommits")


class ForeignCommits:
    """Waits for a commit of another process."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._changed = threading.Condition()
        self._told = False

    def tell(self) -> None:
        """Somebody committed."""
        with self._changed:
            self._told = True
            self._changed.notify()

    def seen(self) -> None:
        """What was told so far is about to be looked at."""
        with self._changed:
            self._told = False

    def wait(self, timeout_s: float) -> None:
        """Wait until somebody committed, or it is time to look all the same."""
        with self._changed:
            if not self._told:
                self.store.clock.wait(self._changed, min(_look_s(self.store), timeout_s))


class LoopForeignCommits:
    """`ForeignCommits` for a coroutine of the running loop."""

    def __init__(self, store: Store) -> None:
        self.store, self._loop = store, asyncio.get_running_loop()
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Somebody committed; from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._told.set)

    def seen(self) -> None:
        """See `ForeignCommits.seen`."""
        self._told.clear()

    async def wait(self, timeout_s: float) -> None:
        """See `ForeignCommits.wait`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_look_s(self.store), timeout_s)):
                await self._told.wait()


def _look_s(store: Store) -> float:
    return TOLD_LOOK_S if store.hears else LOOK_S


@contextmanager
def listening(foreign: N) -> Iterator[N]:
    """``foreign``, told of what other processes commit meanwhile."""
    foreign.store.on_foreign(foreign.tell)
    try:
        yield foreign
    finally:
        foreign.store.off_foreign(foreign.tell)
