"""A scheduler that dies where it is told: ``python -m tests.dying DATABASE LEDGER POINT NTH``; "" and 0 live on.

It serves a job each second and tasks of every kind, says the id of each task that was accepted, and, unless it dies,
ends when all of its tasks have.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from atlas.scheduler.context import current_task
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.testing.crashes import crash_at, disarm

LEDGER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("ledger")
AT_START = ("lead", "recovery", "schema")
LIFE_S = 2.5


def note(*words: object) -> None:
    """Write a line that no death can take back."""
    handle = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{' '.join(map(str, words))}\n".encode())
    os.close(handle)


def work(kind: str) -> str:
    task = current_task()
    note("start", task.task_id, task.attempt)
    if kind == "slow":
        threading.Event().wait(0.3)
    if kind == "flaky" and task.attempt == 1:
        raise ConnectionError(kind)
    note("end", task.task_id, task.attempt)
    return kind


def submit(queue: TaskQueue) -> None:
    """Tasks of every kind; each is said once it is accepted."""
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("quick", {}),
        ("slow", {}),
        ("flaky", {"retry": RetryPolicy(delay_s=0.1, jitter=0)}),
        ("once", {"on_crash": "fail"}),
    )
    for kind, options in kinds:
        # One write: what is printed piece by piece may be out in part when the process dies.
        print(f"accepted {queue.sync.submit('work', kind, **options)} {kind}\n", end="", flush=True)


def main() -> None:
    database, point, nth = sys.argv[1], sys.argv[3], int(sys.argv[4])
    registry = Registry()
    registry.add("work", work)
    if point.startswith(AT_START):
        crash_at(point, nth=nth)
    queue = TaskQueue(4, store=database, registry=registry)
    queue.sync.start()
    cron = CronManager(queue).sync
    cron.start()
    if point:
        cron.add_job("tick", "* * * * * *", "work", args=["quick"], catchup="all", overlap="queue")
        if not point.startswith(AT_START):
            crash_at(point, nth=nth)
        ended = threading.Event()
        for _round in range(20):
            submit(queue)
            if ended.wait(LIFE_S / 20):
                break
    disarm_unless_stopping(point)
    if not point:
        cron.remove_job("tick")
        assert queue.serving.shutdown.wait_idle(40.0, waiting_too=True)
    cron.stop()
    queue.sync.stop()
    print("lived", flush=True)


def disarm_unless_stopping(point: str) -> None:
    if not point.startswith("stop"):
        disarm()


if __name__ == "__main__":
    main()
