"""Threads for what takes its time and cannot be stopped: name servers and parsers.

Those of the loop stay free: an application waits on them for its own work and for the store. Eight sources behind a
name server that does not answer held all of them for as long as it was asked.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_POOL: Final = ThreadPoolExecutor(max_workers=32, thread_name_prefix="atlas-collect")


async def in_thread(function: Callable[..., T], *args: object, **kwargs: object) -> T:
    """What ``function`` returns; who is cancelled meanwhile leaves it behind."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, partial(function, *args, **kwargs))
