"""`serve`: the scheduler as a program of its own, from the wait for its database to the signal that ends it."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from contextlib import ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Final

from loguru import logger

from atlas.builtin.binding import ALIASES
from atlas.heap import keep_heap_small
from atlas.pauses import collect_rarely, shorten_pauses
from atlas.scheduler.durations import format_duration
from atlas.scheduler.errors import AtlasError, ConfigError, JobBusyError, StoreUnavailableError
from atlas.scheduler.message import Message
from atlas.service import AtlasScheduler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from atlas.settings import Settings

FIRST_COLLECTION: Final = frozenset({"collect", ALIASES["collect"]})
"""The functions whose jobs run at once on an empty database, so that a newcomer sees something."""
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0
"""Between two questions to a database that does not answer yet; the pause doubles."""
TWICE_S: Final = 0.5
"""Nobody asks twice within this time: ``timeout`` and other wrappers send a signal to the process and to its group."""


def serve(
    settings: Settings,
    *,
    on_ready: Callable[[AtlasScheduler], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    beside: Callable[[AtlasScheduler], AbstractContextManager[object]] | None = None,
) -> int:
    """Run the scheduler until a signal; returns the exit code.

    SIGTERM and SIGINT drain: nothing more is taken, running tasks get ``drain_timeout`` seconds, are then asked to
    stop, and what is left is released. A second one ends the process at once, unless it comes with the first
    (`TWICE_S`). SIGHUP reloads the config file, once it runs.

    ``on_ready`` is called once it runs, on a thread of its own; ``on_note`` with what a person at a terminal should
    know. ``beside`` runs while the scheduler does, such as the web server; it is entered and left on a thread.

    Raises:
        AtlasError: It did not start.
    """
    keep_heap_small()
    collect_rarely()
    return asyncio.run(_serve(settings, on_ready, on_note or (lambda _text: None), beside or nullcontext))


async def _serve(
    settings: Settings,
    on_ready: Callable[[AtlasScheduler], None] | None,
    note: Callable[[str], None],
    beside: Callable[[AtlasScheduler], AbstractContextManager[object]],
) -> int:
    loop = asyncio.get_running_loop()
    atlas, started, stopping = AtlasScheduler(settings), asyncio.Event(), asyncio.Event()
    forced_from_s = math.inf

    def end(number: int) -> None:
        nonlocal forced_from_s
        if loop.time() >= forced_from_s:
            note("second signal: ending at once; what was running runs again at the next start")
            os._exit(128 + number)
        if not stopping.is_set():
            forced_from_s = loop.time() + TWICE_S
            stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    reloads: set[asyncio.Task[None]] = set()

    def hang_up() -> None:
        task = loop.create_task(_reload(atlas, started, stopping))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, hang_up)  # from now on: it would end a process that starts
    companion, around = ExitStack(), beside(atlas)

    async def accompany() -> None:
        await asyncio.to_thread(companion.enter_context, around)

    try:
        if not await _start(atlas, stopping, note, accompany):
            return 0
        _Roles(atlas, note)
        shorten_pauses(atlas)
        started.set()
        if atlas.is_first_start and not atlas.stands_by:
            await _collect_at_once(atlas)
        if on_ready is not None:
            await asyncio.to_thread(on_ready, atlas)
        await stopping.wait()
        running = atlas.get_queue_status()["running_tasks"]
        limit_s = settings.scheduler.drain_timeout
        note(
            f"draining: {running} running, at most {limit_s:g} s; press Ctrl-C again to end at once"
            if running
            else "stopping"
        )
    finally:
        await asyncio.to_thread(companion.close)
        await atlas.stop()
    return 0


async def _start(
    atlas: AtlasScheduler,
    stopping: asyncio.Event,
    note: Callable[[str], None],
    accompany: Callable[[], Awaitable[None]],
) -> bool:
    """Start ``atlas``, and once it is accompany it; False if a signal came first.

    A database that does not answer yet, such as a server that starts with this machine, is asked again for
    ``persistence.start_wait`` seconds; health and pages, which ``accompany`` brings, then say so from the beginning.
    """
    loop, limit_s, pause_s = asyncio.get_running_loop(), atlas.settings.persistence.start_wait, FIRST_PAUSE_S
    until_s, told = loop.time() + limit_s, ""
    while not stopping.is_set():
        try:
            await atlas.start()
        except StoreUnavailableError as error:
            left_s = until_s - loop.time()
            if not error.may_pass or left_s <= 0:
                raise
            if not atlas.waits_for:
                note(f"waiting for the database, at most {format_duration(limit_s)}: {' '.join(str(error).split())}")
                atlas.waits_for = Message("the database does not answer yet")
                await accompany()
            if told != str(error):
                told = str(error)
                logger.warning("the database does not answer yet; it is asked again: {}", " ".join(told.split()))
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause_s, left_s)):
                    await stopping.wait()
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            continue
        waited, atlas.waits_for = atlas.waits_for, None
        if waited:
            logger.info("the database answers")
        else:
            await accompany()
        return True
    return False


class _Roles:
    """Tells whoever sits at the terminal which process leads."""

    def __init__(self, atlas: AtlasScheduler, note: Callable[[str], None]) -> None:
        self._note = note
        atlas.queue.on_role(self)
        if atlas.stands_by:
            leader = atlas.leader()
            who = "another process" if leader is None else leader.words
            note(f"standing by: {who} schedules on this database; this process takes over when that one ends")

    def lead(self) -> None:
        self._note("this process schedules from now on")

    def step_down(self) -> None:
        self._note("another process took over while this one was silent; standing by")


async def _reload(atlas: AtlasScheduler, started: asyncio.Event, stopping: asyncio.Event) -> None:
    await started.wait()
    if stopping.is_set():
        return
    try:
        await asyncio.to_thread(atlas.reload)
    except ConfigError:
        pass  # its reason is told with the refusal
    except AtlasError as error:  # a database that does not answer
        logger.error("the config file was not applied; nothing changed: {}", " ".join(str(error).split()))


async def _collect_at_once(atlas: AtlasScheduler) -> None:
    for record in list(atlas.cron.sync.running.jobs.records()):
        if record.next_run is not None and record.known.function in FIRST_COLLECTION:
            try:
                await atlas.cron.run_job_now(record.id)
            except JobBusyError:
                logger.debug("the first collection is under way already")
