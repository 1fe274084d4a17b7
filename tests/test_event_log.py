"""What a queue logs of its tasks where nobody has set up the log: enough to see what failed, and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger

from atlas.scheduler.errors import ArgumentsError, TaskFailedError
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.retry import RetryPolicy
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def breaks() -> None:
    raise ValueError("no such feed")


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.add("breaks", breaks)
    made.add("works", int)
    return made


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What an app's own handler shows, which knows nothing of fields."""
    lines: list[str] = []
    handler = logger.add(lines.append, format="{level} {message}", level="DEBUG", filter="atlas.scheduler.event_log")
    yield lines
    logger.remove(handler)


def run(registry: Registry, **options: Any) -> str:
    """Let a task succeed and another one fail at its second attempt; returns the id of that."""
    with TaskQueue(2, registry=registry, **options).sync as queue:
        queue.get_task_result(queue.submit("works"), timeout=LIMIT_S)
        task_id = queue.submit("breaks", retry=RetryPolicy(max_retries=1, delay_s=0.01, jitter=0.0))
        with pytest.raises(TaskFailedError):
            queue.get_task_result(task_id, timeout=LIMIT_S)
    return task_id


@pytest.mark.parametrize("has_store", [False, True], ids=["in memory", "on disk"])
def test_a_task_that_nobody_waits_for_does_not_fail_in_silence(
    registry: Registry, log: list[str], tmp_path: Path, has_store: bool
) -> None:
    task_id = run(registry, store=tmp_path / "atlas.db" if has_store else None)
    begun, failed = log
    assert begun.startswith(f"WARNING task will be retried | task_id={task_id} name=breaks attempt=1 ")
    assert failed.startswith(f"ERROR task failed | task_id={task_id} name=breaks attempt=2 ")
    assert 'error="ValueError: no such feed"' in failed


def test_how_much_is_logged_is_the_callers_choice(registry: Registry, log: list[str]) -> None:
    run(registry, log_level=None)
    assert log == []
    run(registry, log_level="ERROR")
    assert [line.split(" | ")[0] for line in log] == ["ERROR task failed"]
    log.clear()
    run(registry, log_level="DEBUG")
    told = [line.split(" | ")[0].partition(" ")[2] for line in log]
    first, second = ["task accepted", "task started", "task succeeded"], ["task will be retried", "task started"]
    assert told == [*first, "task accepted", "task started", *second, "task failed"]
    for wrong in ("LOUD", 7.5, object()):
        with pytest.raises(ArgumentsError, match="is no level of the log, such as DEBUG"):
            TaskQueue(log_level=wrong)  # type: ignore[arg-type]


def test_an_apps_handler_for_json_has_the_fields_one_by_one(registry: Registry) -> None:
    lines: list[str] = []
    handler = logger.add(lines.append, serialize=True, level="ERROR", filter="atlas.scheduler.event_log")
    task_id = run(registry)
    logger.remove(handler)
    (record,) = (json.loads(line)["record"] for line in lines)
    assert record["extra"]["task_id"] == task_id
    assert record["extra"]["error"] == "ValueError: no such feed"


def test_a_queue_on_a_store_of_its_callers_logs_until_its_stop(
    registry: Registry, log: list[str], tmp_path: Path
) -> None:
    from atlas.scheduler.store.store import open_store

    store = open_store(tmp_path / "atlas.db")
    try:
        for _ in range(2):
            run(registry, store=store)
        assert len(log) == 4, "each line once"
    finally:
        store.close()
