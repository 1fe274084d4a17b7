"""The Celery side: an app on a Redis database of the bench's own, and its worker."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from celery import Celery
from redis import Redis

if TYPE_CHECKING:
    from pathlib import Path

URL = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/13")
"""Flushed before and after; nothing else may live in this database."""

app = Celery("scripts.bench.celery_app", broker=URL, backend=URL)
app.conf.update(task_ignore_result=False, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)


@app.task  # type: ignore[untyped-decorator]
def nothing(number: int) -> int:
    """Do nothing."""
    return number


@app.task  # type: ignore[untyped-decorator]
def started(_number: int) -> float:
    """Tell when it started."""
    import time

    return time.time()


def redis() -> Any:
    """The database."""
    return Redis.from_url(URL)


def results(database: Any) -> int:
    """Results that are there: every key that is neither a queue nor a binding."""
    return sum(1 for _ in database.scan_iter("celery-task-meta-*", count=5000))


def start_worker(folder: Path, slots: int) -> subprocess.Popen[bytes]:
    """A worker with threads, in a process of its own."""
    command = [sys.executable, "-m", "celery", "-A", "scripts.bench.celery_app", "worker"]
    log = (folder / "celery.log").open("wb")
    return subprocess.Popen(  # noqa: S603 - the command is fixed above
        [*command, "-P", "threads", "-c", str(slots), "-l", "WARNING", "--without-gossip", "--without-mingle"],
        stdout=log,
        stderr=log,
    )


def stop_worker(worker: subprocess.Popen[bytes]) -> None:
    """End it."""
    worker.terminate()
    try:
        worker.wait(20)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
