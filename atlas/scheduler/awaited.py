"""A class for code with an event loop and without: methods awaited, refused on a loop, undone if cancelled; its end."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


class HasSync(Protocol[S_co]):
    """What has a synchronous twin."""

    @property
    def sync(self) -> S_co:
        """The twin."""


def awaited(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[HasSync[S], P], Coroutine[Any, Any, R]]:
    """``method`` of the twin as a coroutine method; it runs in a thread, so that the loop goes on.

    Name, documentation and arguments are the twin's.
    """

    @functools.wraps(method)
    async def call(self: HasSync[S], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, self.sync, *args, **kwargs)

    return call


def refuse_on_loop(instead: str = "await the method of the same name without '.sync'") -> None:
    """Raise when called on a running event loop, which a blocking call would stop; ``instead`` says what to do there.

    Raises:
        RuntimeError: There is one; the message says what to do.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"this call blocks and there is a running event loop: {instead}")


def end_dropped(dropped: object, what: str, end: Callable[[], None]) -> None:
    """For ``__del__``: warn that ``what`` holds, and run ``end`` on a thread that the program waits for at its end.

    Not here: what is collected is collected on any thread, in the middle of anything.
    """
    if not sys.is_finalizing():  # then nothing can be ended any more
        with suppress(RuntimeError):  # no thread is to be had
            threading.Thread(target=end, name="atlas-end", daemon=False).start()
    warnings.warn(what, ResourceWarning, source=dropped, stacklevel=3)


async def done_or_undone(do: Callable[[], bool], undo: Callable[[], None]) -> None:
    """Run ``do`` in a thread; where that is cancelled, ``undo`` behind it: a thread cannot be stopped half-way.

    ``do`` returns False if there is nothing to undo.
    """
    turn, is_cancelled, is_done = threading.Lock(), False, False

    def work() -> None:
        nonlocal is_done
        done = do()
        with turn:
            is_done = done
            too_late = is_cancelled
        if done and too_late:
            undo()

    loop = asyncio.get_running_loop()
    thread = loop.run_in_executor(None, contextvars.copy_context().run, work)
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        with turn:
            is_cancelled = True
            came_first = is_done
        if came_first:
            thread = loop.run_in_executor(None, undo)
        with suppress(asyncio.CancelledError):  # once more: then it is not waited for
            await asyncio.wait([thread])
        raise
