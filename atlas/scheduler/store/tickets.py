"""Tickets: how a thread or a coroutine waits for its place in a commit."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from loguru import logger

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence


class Ticket:
    """A place in a commit, waited for by a thread or a coroutine.

    Attributes:
        expires_s: Monotonic time after which it is withdrawn unless a commit holds it; None waits for ever.
        undo: Called once if it ends with an error, before anybody wakes, also when nobody waits any more.
        before_wait: Called before a thread waits, with the ticket and the seconds; returns the seconds that are left.
            A store without a thread brings about there what is waited for.
    """

    __slots__ = (
        "_done",
        "_error",
        "_future",
        "_latch",
        "_loop",
        "_value",
        "before_wait",
        "expires_s",
        "undo",
        "waited_s",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None = None, *, waited_s: float = 0.0, expires_s: float | None = None
    ) -> None:
        """A ticket for ``loop``, or for a thread when it is None."""
        self._loop = loop
        self._future: asyncio.Future[Any] | None = None if loop is None else loop.create_future()
        # Held until the outcome is there: an Event is three objects, and takes ten times as long.
        self._latch: threading.Lock | None = threading.Lock() if loop is None else None
        if self._latch is not None:
            self._latch.acquire()
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self.waited_s, self.expires_s = waited_s, expires_s
        self.undo: Callable[[], None] | None = None
        self.before_wait: Callable[[Ticket, float | None], float | None] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that waits, None for a thread."""
        return self._loop

    @property
    def done(self) -> bool:
        """True once it has a value or an error."""
        return self._done

    def settle(self, value: Any, error: BaseException | None = None) -> None:
        """Give the outcome; a thread wakes now, a coroutine when `wake` runs on its loop."""
        if self._done:
            return
        if error is not None and self.undo is not None:
            self.undo()
        self._value, self._error, self._done = value, error, True
        if self._latch is not None:
            with suppress(RuntimeError):  # somebody else settled it at the same moment
                self._latch.release()

    def wake(self) -> None:
        """Wake the coroutine; runs on its loop."""
        if self._future is not None and not self._future.done():
            if self._error is not None:
                self._future.set_exception(self._error)
            else:
                self._future.set_result(self._value)

    def wait(self, timeout_s: float | None = None) -> Any:
        """Block a thread until the outcome is there; returns the value or raises the error.

        Raises:
            TimeoutError: ``timeout_s`` passed first; the ticket stays valid.
        """
        if self._latch is None:
            raise RuntimeError("this ticket belongs to a loop; await it")
        if self.before_wait is not None:
            timeout_s = self.before_wait(self, timeout_s)
        # A lock refuses to wait longer, and `math.inf`.
        limit_s = -1 if timeout_s is None else min(max(0.0, timeout_s), threading.TIMEOUT_MAX)
        if not self._latch.acquire(timeout=limit_s):
            raise TimeoutError
        self._latch.release()  # for the next one who waits
        if self._error is not None:
            raise self._error
        return self._value

    def future(self) -> asyncio.Future[Any]:
        """The future a coroutine awaits."""
        if self._future is None:
            raise RuntimeError("this ticket belongs to a thread; call wait()")
        return self._future


def wake_all(tickets: Iterable[Ticket]) -> None:
    """Wake settled tickets with one call per loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Ticket]] = {}
    for ticket in tickets:
        if ticket.loop is not None:
            by_loop.setdefault(ticket.loop, []).append(ticket)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(_wake, mine)
        except RuntimeError:
            logger.debug("a loop closed before its waiters were woken")


def _wake(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.wake()
