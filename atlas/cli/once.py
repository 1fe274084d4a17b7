"""A built-in job once, as ``scripts/cron_job.py`` does it: here when no scheduler holds the store, else by that one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from atlas.builtin.binding import ALIASES
from atlas.scheduler.client import AtlasClient
from atlas.scheduler.errors import ConfigError, JobBusyError, ResultNotReadyError
from atlas.scheduler.task import TaskStatus
from atlas.service import AtlasScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.task import Task
    from atlas.settings import Settings

LOOK_S: Final = 0.25
"""How often progress is shown."""


async def run_builtin(
    settings: Settings,
    function: str,
    kwargs: Mapping[str, Any],
    *,
    on_progress: Callable[[Task, float, float | None], None] = lambda *_: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Task:
    """The final task of ``function``, run in this process by the job that names it, so with that job's policies.

    No clock runs: nothing else fires. Tasks that waited in the store are served meanwhile and released at the end.

    Args:
        settings: The installation.
        function: ``collect``, ``cleanup``, ``health`` or ``report``.
        kwargs: Its arguments; with any, the task is its own and not one of the job's.
        on_progress: Called a few times a second with the task and how far it is: done, total.
        on_note: Called with what a person should know.

    Raises:
        StoreHeldError: A scheduler serves the store: `submit_builtin` asks that one.
        StoreError: The database cannot be opened.
    """
    atlas = AtlasScheduler(settings)
    await atlas.start(clock=False)
    try:
        task_id = await _begin(atlas, function, kwargs, on_note)
        while True:
            try:
                await atlas.queue.get_task_result(task_id, timeout=LOOK_S)
            except ResultNotReadyError:
                task, running = atlas.status.get_task(task_id), atlas.get_queue_status()["running"]
                told = next((one for one in running if one["task_id"] == task_id), None)
                if told is not None:
                    task.status = TaskStatus.RUNNING  # the row follows a little later
                on_progress(task, told["done"] if told else 0.0, told["total"] if told else None)
            except Exception:  # noqa: BLE001 - however it ended, the row says it
                return atlas.status.get_task(task_id)
            else:
                return atlas.status.get_task(task_id)
    finally:
        await atlas.stop()


async def _begin(
    atlas: AtlasScheduler, function: str, kwargs: Mapping[str, Any], on_note: Callable[[str], None]
) -> str:
    """The id of the task to wait for."""
    await asyncio.to_thread(atlas.cron.sync.open)
    try:
        await asyncio.to_thread(atlas.reload, author="cron_job.py")
    except ConfigError as error:
        on_note(f"the jobs file is refused, what was accepted before holds:\n{error}")
    if not kwargs:
        for job in await atlas.cron.get_all_jobs():
            if (await atlas.cron.get_job_status(job.name)).get("function") in _names(function):
                try:
                    return await atlas.cron.run_job_now(job.name)
                except JobBusyError as busy:
                    on_note(f"a task of {job.name} was unfinished; that one is served")
                    return busy.task_id
    return await atlas.queue.submit(function, kwargs=dict(kwargs), name=function)


def submit_builtin(
    client: SyncAtlasClient, function: str, kwargs: Mapping[str, Any], on_note: Callable[[str], None]
) -> str:
    """The id of a task of ``function`` that the scheduler holding the store serves, by the job that names it."""
    if not kwargs:
        for job in client.jobs():
            if client.job_status(job.name).get("function") in _names(function):
                try:
                    return client.run_job(job.name)
                except JobBusyError as busy:
                    on_note(f"a task of {job.name} is under way already; waiting for that one")
                    return busy.task_id
    return client.submit(function, kwargs=dict(kwargs))


def client_of(settings: Settings) -> SyncAtlasClient:
    """The store as a process that does not schedule sees it."""
    return AtlasClient(settings.persistence.database).sync


def _names(function: str) -> set[str]:
    return {function, ALIASES[function]}
