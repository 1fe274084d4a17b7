"""A built-in job once, as ``scripts/cron_job.py`` does it: here when no scheduler holds the store, else by that one."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from atlas.builtin.binding import ALIASES
from atlas.cli.exits import Exit, NoSchedulerError
from atlas.cli.installation import settings_of
from atlas.cli.results import failure_text, print_result, print_verdict
from atlas.cli.tables import note, print_json
from atlas.cli.wait import progress_bar, wait_for
from atlas.logs import configure_logging
from atlas.scheduler.client import AtlasClient
from atlas.scheduler.errors import ConfigError, JobBusyError, ResultNotReadyError, StoreHeldError, TaskError
from atlas.scheduler.job_view import task_json
from atlas.scheduler.task import TaskStatus
from atlas.service import AtlasScheduler
from atlas.settings import prepare_folders

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.task import Task
    from atlas.settings import Settings

LOOK_S: Final = 0.25
"""How often progress is shown."""
HANDOVERS: Final = 20
"""How often a store may change hands, or its new holder be found still starting, before that is an error."""


def once(args: argparse.Namespace) -> int:
    """Do ``args.task`` once; the exit code is its outcome, 1 as well for a health that is failing."""
    settings = settings_of(args)
    prepare_folders(settings)
    configure_logging(settings, console=args.verbose)
    kwargs = {"dry_run": True} if args.dry_run else {}
    task = _done_here_or_there(settings, args.task, kwargs)
    succeeded = task.status is TaskStatus.SUCCESS
    if args.json:
        print_json(task.value if succeeded else task_json(task))
    else:
        print_verdict(task, args.task)
        print_result(task.value, verbose=args.verbose)
    if not succeeded:
        note(failure_text(task))
        return Exit.FAILED
    failing = isinstance(task.value, dict) and task.value.get("status") == "failing"
    return Exit.FAILED if failing else Exit.OK


async def run_builtin(
    settings: Settings,
    function: str,
    kwargs: Mapping[str, Any],
    *,
    task_id: str | None = None,
    on_progress: Callable[[Task, float, float | None], None] = lambda *_: None,
) -> Task:
    """The final task of ``function``, run in this process by the job that names it, so with that job's policies.

    No clock runs: nothing else fires. Tasks that waited in the store are served meanwhile and released at the end. When
    this is cancelled, so is the task. With ``kwargs`` the task is its own and not one of the job's; ``task_id`` is one
    that is accepted already; ``on_progress`` is told a few times a second how far the task is: done, total.

    Raises:
        StoreHeldError: A scheduler serves the store: `submit_builtin` asks that one.
        StoreError: The database cannot be opened.
    """
    atlas, drain = AtlasScheduler(settings), True
    await atlas.start(clock=False)
    beginning = asyncio.create_task(_begin(atlas, function, kwargs, task_id))
    try:
        task_id = await asyncio.shield(beginning)
        while True:
            try:
                await atlas.queue.get_task_result(task_id, timeout=LOOK_S)
            except ResultNotReadyError:
                _tell_progress(atlas, task_id, on_progress)
            except TaskError:  # it failed, or its result was not kept: the row says all that
                return atlas.status.get_task(task_id)
            else:
                return atlas.status.get_task(task_id)
    except asyncio.CancelledError:
        drain = False
        task_id = await beginning  # what is accepted must not be left behind
        await asyncio.to_thread(atlas.queue.cancel_task, task_id)
        with suppress(TaskError):  # that it was cancelled, or takes too long about it
            await atlas.queue.get_task_result(task_id, timeout=settings.scheduler.stop_grace)
        raise
    finally:
        await atlas.stop(drain=drain)


def submit_builtin(client: SyncAtlasClient, function: str, kwargs: Mapping[str, Any]) -> str:
    """The id of a task of ``function`` that the scheduler holding the store serves, by the job that names it."""
    if not kwargs:
        for job in client.jobs():
            if client.job_status(job.name).get("function") in _names(function):
                try:
                    return client.run_job(job.name)
                except JobBusyError as busy:
                    note(f"a task of {job.name} is under way already; waiting for that one")
                    return busy.task_id
    return client.submit(function, kwargs=dict(kwargs))


async def _begin(atlas: AtlasScheduler, function: str, kwargs: Mapping[str, Any], task_id: str | None) -> str:
    """The id of the task to wait for."""
    if task_id is not None:
        return task_id
    await asyncio.to_thread(atlas.cron.sync.open)
    try:
        await asyncio.to_thread(atlas.reload, author="cron_job.py")
    except ConfigError as error:
        note("the jobs file is refused; what was accepted before holds")
        for problem in error.problems:
            note(str(problem))
    if not kwargs:
        for job in await atlas.cron.get_all_jobs():
            if (await atlas.cron.get_job_status(job.name)).get("function") in _names(function):
                try:
                    return await atlas.cron.run_job_now(job.name)
                except JobBusyError as busy:
                    note(f"a task of {job.name} was unfinished; that one is done now")
                    return busy.task_id
    return await atlas.queue.submit(function, kwargs=dict(kwargs))


def _done_here_or_there(settings: Settings, function: str, kwargs: Mapping[str, Any]) -> Task:
    task_id: str | None = None
    for _ in range(HANDOVERS):
        try:
            return asyncio.run(_here(settings, function, kwargs, task_id))
        except asyncio.CancelledError:  # SIGTERM
            raise KeyboardInterrupt from None
        except StoreHeldError as held:
            if task_id is None:
                note(f"{held.holder} serves this store; it does the job")
        with AtlasClient(settings.persistence.database).sync as client:
            task_id = task_id or submit_builtin(client, function, kwargs)
            try:
                return wait_for(client, task_id, label=function, limit_s=None, typical_s=None)
            except NoSchedulerError:  # it has just stopped, or does not stand yet
                time.sleep(LOOK_S)
    raise NoSchedulerError(f"the store changes hands all the time; task {task_id} waits for a scheduler")


async def _here(settings: Settings, function: str, kwargs: Mapping[str, Any], task_id: str | None) -> Task:
    mine = asyncio.current_task()
    assert mine is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, mine.cancel)
    with progress_bar(function, None) as bar:

        def show(task: Task, done: float, total: float | None) -> None:
            if bar is not None:
                since = task.started_at or task.created_at
                bar.show(task.status, max(0.0, time.time() - since.timestamp()), done, total)

        return await run_builtin(settings, function, kwargs, task_id=task_id, on_progress=show)


def _tell_progress(
    atlas: AtlasScheduler, task_id: str, on_progress: Callable[[Task, float, float | None], None]
) -> None:
    task = atlas.status.get_task(task_id)
    told = next((one for one in atlas.get_queue_status()["running"] if one["task_id"] == task_id), None)
    if told is None:
        on_progress(task, 0.0, None)
    else:
        task.status = TaskStatus.RUNNING  # the row follows a little later
        on_progress(task, told["done"], told["total"])


def _names(function: str) -> set[str]:
    return {function, ALIASES[function]}
