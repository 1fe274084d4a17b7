"""The async face of a class: its synchronous methods, awaited."""

from __future__ import annotations

import asyncio
import functools
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
