"""A final task once more: `TaskQueue.retry_task`, `AtlasClient.retry`; a job with other arguments."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from atlas.scheduler.client import AtlasClient
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.errors import (
    ArgumentsError,
    FunctionRefusedError,
    TaskFailedError,
    TaskUnfinishedError,
    UnknownTaskError,
)
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.status import StatusManager
from atlas.scheduler.store.audit import read_audit
from atlas.scheduler.task import TaskStatus
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BROKEN: set[str] = set()


def add(a: int, b: int = 0) -> int:
    if "add" in BROKEN:
        raise ValueError("boom")
    return a + b


async def forever() -> None:
    await asyncio.sleep(3600)


@pytest.fixture
async def atlas(tmp_path: Path) -> AsyncIterator[tuple[TaskQueue, CronManager, StatusManager]]:
    BROKEN.clear()
    registry = Registry()
    registry.add("add", add)
    registry.add("forever", forever)
    status = StatusManager(tmp_path / "x.json")
    queue = TaskQueue(2, registry=registry)
    cron = CronManager(queue, status)
    await queue.start()
    await cron.start()
    yield queue, cron, status
    await cron.stop()
    await queue.stop(drain=False)
    status.close()


Parts = tuple[TaskQueue, CronManager, StatusManager]


async def test_a_failed_task_is_tried_once_more_as_a_new_one(atlas: Parts) -> None:
    queue, _cron, status = atlas
    BROKEN.add("add")
    first = await queue.submit("add", 2, kwargs={"b": 3}, priority="high", max_retries=0)
    with pytest.raises(TaskFailedError):
        await queue.get_task_result(first, timeout=LIMIT_S)
    BROKEN.clear()
    second = await queue.retry_task(first, by="web")
    assert await queue.get_task_result(second, timeout=LIMIT_S) == 5
    old, new = status.get_task(first), status.get_task(second)
    assert old.status is TaskStatus.FAILED
    assert (new.arguments, new.priority, new.policy, new.origin) == (
        old.arguments,
        old.priority,
        old.policy,
        old.origin,
    )
    assert new.reason == f"retry of {first}"
    (entry,) = status.store.read(read_audit)
    assert (entry.actor, entry.action, entry.subject, entry.after) == ("web", "retry", first, {"task": second})


async def test_an_unfinished_an_unknown_and_a_manual_task_are_refused(atlas: Parts) -> None:
    queue, _cron, status = atlas
    running = await queue.submit("forever")
    with pytest.raises(TaskUnfinishedError, match="only a final task"):
        await queue.retry_task(running)
    with pytest.raises(UnknownTaskError):
        await queue.retry_task("nothing")
    status.create_task("by_hand", "Hand")
    status.cancel_task("by_hand")
    with pytest.raises(FunctionRefusedError, match="by hand"):
        await queue.retry_task("by_hand")
    queue.cancel_task(running)


async def test_a_closure_is_not_found_again(atlas: Parts) -> None:
    queue, _cron, _status = atlas
    task_id = await queue.submit(lambda: 1)
    await queue.get_task_result(task_id, timeout=LIMIT_S)
    with pytest.raises(FunctionRefusedError, match="lived in the process"):
        await queue.retry_task(task_id)


async def test_a_task_of_a_volatile_job_finds_the_function_of_the_job(atlas: Parts) -> None:
    queue, cron, _status = atlas
    await cron.add_job("closure", "@yearly", lambda: "mine")
    first = await cron.run_job_now("closure")
    assert await queue.get_task_result(first, timeout=LIMIT_S) == "mine"
    assert await queue.get_task_result(await queue.retry_task(first), timeout=LIMIT_S) == "mine"


async def test_a_client_retries_and_the_scheduler_runs_it(atlas: Parts) -> None:
    queue, _cron, status = atlas
    first = await queue.submit("add", 1)
    assert await queue.get_task_result(first, timeout=LIMIT_S) == 1
    assert status.store.path is not None
    async with AtlasClient(status.store.path) as client:
        second = await client.retry(first, by="cli:me")
        task = await client.wait(second, timeout=LIMIT_S)
    assert task.value == 1
    assert [entry.action for entry in status.store.read(read_audit)] == ["retry"]


async def test_a_job_runs_with_other_arguments_and_keeps_its_own(atlas: Parts) -> None:
    queue, cron, status = atlas
    await cron.add_job("sum", "@yearly", "add", args=[1], kwargs={"b": 1})
    other = await cron.run_job_now("sum", args=[20], kwargs={"b": 22}, by="api")
    assert await queue.get_task_result(other, timeout=LIMIT_S) == 42
    assert await queue.get_task_result(await cron.run_job_now("sum"), timeout=LIMIT_S) == 2
    with pytest.raises(ArgumentsError, match="does not accept"):
        await cron.run_job_now("sum", kwargs={"nonsense": 1})
    with pytest.raises(ArgumentsError, match="JSON"):
        await cron.run_job_now("sum", args=[object()])
    told = status.store.read(lambda connection: read_audit(connection, action="run"))
    assert told[-1].after == {"task": other, "arguments": {"args": [20], "kwargs": {"b": 22}}}


async def test_a_client_runs_a_job_with_other_arguments(atlas: Parts) -> None:
    _queue, cron, status = atlas
    await cron.add_job("sum", "@yearly", "add", args=[1])
    assert status.store.path is not None
    async with AtlasClient(status.store.path) as client:
        task = await client.wait(await client.run_job("sum", args=[40], kwargs={"b": 2}), timeout=LIMIT_S)
    assert task.value == 42
