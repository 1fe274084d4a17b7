"""The documented API, end to end and in one process: what its snippets promise, word for word."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from atlas.scheduler import (
    AtlasClient,
    CronExpression,
    CronManager,
    Registry,
    StatusManager,
    TaskPriority,
    TaskQueue,
    TaskStatus,
    current_task,
)
from atlas.scheduler.errors import (
    ArgumentsError,
    CronExpressionError,
    FunctionRefusedError,
    ResultOmittedError,
    TaskCancelledError,
    TaskFailedError,
    TaskTimeoutError,
    UnknownTaskError,
)
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from pathlib import Path


# --- StatusManager ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_status_snippet_counts_on_from_run_to_run(tmp_path: Path, times: int) -> None:
    for number in range(1, times + 1):
        status_manager = StatusManager(tmp_path / "task_status.json")
        task = status_manager.create_task(
            task_id="collect_news", task_name="新闻采集任务", priority="normal", max_retries=3
        )
        assert (task.status, task.policy.retry.max_retries) == (TaskStatus.PENDING, 3)
        status_manager.start_task("collect_news")
        status_manager.complete_task("collect_news", {"items": 50})
        metrics = status_manager.get_metrics()
        assert (metrics.total_tasks, metrics.success_rate) == (number, 100.0)
        assert metrics.min_duration_s is not None
        assert metrics.max_duration_s is not None
        assert metrics.average_duration_s is not None
        assert metrics.min_duration_s <= metrics.average_duration_s <= metrics.max_duration_s
        status_manager.close()
    shown = json.loads((tmp_path / "task_status.json").read_text("utf-8"))
    assert [one["id"] for one in shown["tasks"]] == ["collect_news"]


# --- TaskQueue -------------------------------------------------------------------------------------------------------


async def test_the_queue_snippet() -> None:
    source_config = {"name": "BBC"}

    async def collect_data(source: dict[str, str]) -> dict[str, Any]:
        return {"source": source["name"], "attempt": current_task().attempt}

    async with TaskQueue(max_workers=5) as queue:
        task_id = await queue.submit(
            collect_data, source_config, priority=TaskPriority.HIGH, timeout=300, max_retries=3
        )
        result = await queue.get_task_result(task_id)
        assert result == {"source": "BBC", "attempt": 1}
        queue_status = queue.get_queue_status()
        assert (queue_status["queue_size"], queue_status["running_tasks"]) == (0, 0)
        assert queue.cancel_task(task_id) is False


async def test_a_queued_and_a_running_task_are_cancelled() -> None:
    running, never = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        running.set()
        await never.wait()

    async with TaskQueue(max_workers=1) as queue:
        first = await queue.submit(hold)
        second = await queue.submit(hold)
        await asyncio.wait_for(running.wait(), LIMIT_S)
        assert queue.get_queue_status()["running_tasks"] == 1
        assert queue.get_queue_status()["queue_size"] == 1
        for task_id in (second, first):
            assert queue.cancel_task(task_id) is True
            with pytest.raises(TaskCancelledError):
                await queue.get_task_result(task_id, timeout=LIMIT_S)
            assert queue.cancel_task(task_id) is False
        with pytest.raises(UnknownTaskError):
            queue.cancel_task("nobody")


async def test_policies_are_keywords_with_the_defaults_of_jobs(tmp_path: Path) -> None:
    async with TaskQueue(store=tmp_path / "atlas.db") as queue:
        task_id = await queue.submit(sorted, [3, 1], kwargs={"reverse": True}, task_id="mine", name="sort")
        assert task_id == "mine"
        assert await queue.get_task_result(task_id) == [3, 1]
        assert queue.store is not None
        with StatusManager(None, store=queue.store) as status:
            task = status.get_task("mine")
            assert (task.name, task.policy.retry.max_retries, task.policy.timeout_s) == ("sort", 3, 600.0)
            assert task.priority is TaskPriority.NORMAL
        with pytest.raises(TypeError, match="prioritaet"):
            await queue.submit(print, prioritaet=1)  # type: ignore[call-arg]


async def test_failures_timeouts_and_refusals_are_typed(tmp_path: Path) -> None:
    def fails() -> None:
        raise OSError("disk on fire")

    async with TaskQueue(store=tmp_path / "atlas.db") as queue:
        failed = await queue.submit(fails, max_retries=0)
        with pytest.raises(TaskFailedError, match="disk on fire"):
            await queue.get_task_result(failed)
        late = await queue.submit(asyncio.sleep, 60, timeout=0.05, max_retries=0)
        with pytest.raises(TaskTimeoutError):
            await queue.get_task_result(late)
        with pytest.raises(FunctionRefusedError):
            await queue.submit(lambda: None, executor="process")
        with pytest.raises(ArgumentsError):
            await queue.submit(print, priority="soon")


async def test_results_are_json_values_for_durable_work_and_objects_for_volatile_work(tmp_path: Path) -> None:
    registry = Registry()
    registry.add("pair", lambda: (1, 2))
    registry.add("object", object)
    registry.add("long", lambda: "x" * 70_000)
    token = object()
    async with TaskQueue(store=tmp_path / "atlas.db", registry=registry) as queue:
        assert await queue.get_task_result(await queue.submit("pair")) == [1, 2]
        assert await queue.get_task_result(await queue.submit(lambda: token)) is token
        kept = [await queue.submit(name) for name in ("object", "long")]
        assert type(await queue.get_task_result(kept[0])) is object
    async with TaskQueue(store=tmp_path / "atlas.db", registry=registry) as queue:
        for task_id in kept:
            with pytest.raises(ResultOmittedError):
                await queue.get_task_result(task_id)


# --- CronManager -----------------------------------------------------------------------------------------------------


async def test_the_cron_snippet_runs_again_in_the_same_directory(tmp_path: Path) -> None:
    runs = []

    async def collect_all_sources() -> int:
        runs.append(threading.current_thread())
        return len(runs)

    for number in (1, 2):
        status_manager = StatusManager(tmp_path / "task_status.json")
        task_queue = TaskQueue(max_workers=5)
        cron_manager = CronManager(task_queue, status_manager)
        await task_queue.start()
        await cron_manager.start()
        await cron_manager.add_job(
            name="hourly_collection",
            cron_expression="@hourly",
            func=collect_all_sources,
            description="每小时数据采集",
        )
        task_id = await cron_manager.run_job_now("hourly_collection")
        assert await task_queue.get_task_result(task_id, timeout=LIMIT_S) == number
        await cron_manager.disable_job("hourly_collection")
        assert not (await cron_manager.get_job("hourly_collection")).enabled
        await cron_manager.enable_job("hourly_collection")
        (job,) = await cron_manager.get_all_jobs()
        assert (job.name, job.description, job.enabled) == ("hourly_collection", "每小时数据采集", True)
        assert job.next_fire_time is not None
        assert job.next_fire_time.minute == 0
        status = await cron_manager.get_job_status(job.name)
        assert (status["success_rate"], status["total_tasks"]) == (100.0, number)
        assert status_manager.get_metrics("hourly_collection").total_tasks == number
        await cron_manager.stop()
        await task_queue.stop()
        status_manager.close()
    assert set(runs) == {threading.current_thread()}  # a coroutine runs on the loop that called start()


async def test_manager_and_queue_are_context_managers_too(tmp_path: Path) -> None:
    async with TaskQueue(store=tmp_path / "atlas.db") as queue, CronManager(queue) as cron:
        await cron.add_job("job", "@daily", max, args=[[1, 2]])
        assert await queue.get_task_result(await cron.run_job_now("job"), timeout=LIMIT_S) == 2
        await cron.remove_job("job")
        assert await cron.get_all_jobs() == []


def test_the_sync_faces_need_no_loop(tmp_path: Path) -> None:
    queue = TaskQueue(store=tmp_path / "atlas.db")
    with queue.sync as running:
        cron = CronManager(queue).sync
        cron.start()
        cron.add_job("job", "@daily", max, args=[[1, 2]])
        assert running.get_task_result(cron.run_job_now("job"), timeout=LIMIT_S) == 2
        assert running.get_task_result(running.submit(asyncio.sleep, 0, "slept"), timeout=LIMIT_S) == "slept"
        cron.stop()


async def test_the_sync_faces_refuse_a_running_loop(tmp_path: Path) -> None:
    async with TaskQueue(store=tmp_path / "atlas.db") as queue, CronManager(queue) as cron:
        for call in (cron.sync.get_all_jobs, lambda: queue.sync.submit(print), AtlasClient(tmp_path / "x").sync.jobs):
            with pytest.raises(RuntimeError, match="running event loop"):
                call()


async def test_one_queue_serves_jobs_submits_and_a_client_by_one_priority_line(tmp_path: Path) -> None:
    order: list[str] = []
    gate = threading.Event()
    registry = Registry()
    registry.add("note", order.append)
    registry.add("hold", lambda: gate.wait(LIMIT_S))
    database = tmp_path / "atlas.db"
    async with TaskQueue(1, store=database, registry=registry) as queue, CronManager(queue) as cron:
        await queue.submit("hold")
        await cron.add_job("low", "@yearly", "note", args=["low"], priority="LOW")
        await cron.add_job("high", "@yearly", "note", args=["high"], priority="high")
        waiting = [await cron.run_job_now("low")]
        waiting.append(await queue.submit("note", "normal"))
        waiting.append(await cron.run_job_now("high"))
        async with AtlasClient(database) as client:
            heard: set[str] = set()
            changed, loop = asyncio.Event(), asyncio.get_running_loop()

            def hear(event: Any) -> None:
                heard.add(getattr(event, "task_id", ""))
                loop.call_soon_threadsafe(changed.set)

            assert queue.store is not None
            unsubscribe = queue.store.events.subscribe(hear)
            urgent = await client.submit("note", "urgent", priority=TaskPriority.URGENT)
            while urgent not in heard:
                await asyncio.wait_for(changed.wait(), LIMIT_S)
                changed.clear()
            unsubscribe()
            gate.set()
            for task_id in (*waiting, urgent):
                assert (await client.wait(task_id, LIMIT_S)).status is TaskStatus.SUCCESS
    assert order == ["urgent", "high", "normal", "low"]


# --- CronExpression --------------------------------------------------------------------------------------------------


def test_the_cron_expression_snippet() -> None:
    workdays = CronExpression("0 9 * * 1-5", timezone="Asia/Shanghai")
    friday = datetime(2026, 11, 27, 4, tzinfo=UTC)
    following = workdays.next_after(friday)
    assert following is not None
    assert following.isoformat() == "2026-11-30T09:00:00+08:00"
    assert workdays.matches(following)
    before = workdays.previous_before(following)
    assert before is not None
    assert before.isoformat() == "2026-11-27T09:00:00+08:00"
    assert "09:00" in workdays.describe("en")
    assert "周一" in workdays.describe("zh")
    with pytest.raises(CronExpressionError, match=r"minute 61 is above 59; minutes are 0–59") as caught:
        CronExpression("61 9 * * *")
    assert isinstance(caught.value, ValueError)
    assert (caught.value.field, caught.value.token) == ("minute", "61")


def test_the_composed_scheduler_is_imported_from_the_top() -> None:
    from atlas import AtlasScheduler

    assert AtlasScheduler.__module__ == "atlas.service"
