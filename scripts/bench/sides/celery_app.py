"""The Celery side: an app on Redis below a prefix of its own, and its worker.

The prefix is the bench's process id, so that two benches on one Redis, or whatever else lives there, never meet.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery import Celery
from redis import Redis

from scripts.bench.contenders import REDIS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = os.environ.setdefault("BENCH_PREFIX", f"atlas-bench-{os.getpid()}:")
"""Of every key; the worker inherits it."""

app = Celery("scripts.bench.sides.celery_app", broker=REDIS, backend=REDIS)
app.conf.update(
    task_ignore_result=False,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"global_keyprefix": PREFIX},
    result_backend_transport_options={"global_keyprefix": PREFIX},
)


@app.task  # type: ignore[untyped-decorator]
def nothing(number: int) -> int:
    """Do nothing."""
    return number


@app.task  # type: ignore[untyped-decorator]
def started(number: int) -> tuple[int, float]:
    """Tell when it started."""
    return number, time.monotonic()


class Keys:
    """What this bench has in Redis."""

    def __init__(self) -> None:
        """Connect."""
        self._redis: Any = Redis.from_url(REDIS)

    def waiting(self) -> int:
        """Tasks that no worker has taken yet."""
        return int(self._redis.llen(f"{PREFIX}celery"))

    def results(self) -> int:
        """Results that are there; looks at every key, so not to be asked often."""
        return sum(1 for _ in self._redis.scan_iter(f"{PREFIX}*celery-task-meta-*", count=5000))

    def clear(self) -> None:
        """Leave nothing behind."""
        for key in self._redis.scan_iter(f"{PREFIX}*", count=5000):
            self._redis.delete(key)


@contextmanager
def keys() -> Iterator[Keys]:
    """What is put into Redis meanwhile; left, it is gone."""
    found = Keys()
    try:
        yield found
    finally:
        found.clear()


@contextmanager
def worker(folder: Path, slots: int) -> Iterator[Keys]:
    """A worker with threads, in a process of its own; left, it has stopped and Redis holds nothing of it."""
    command = [sys.executable, "-m", "celery", "-A", "scripts.bench.sides.celery_app", "worker"]
    with keys() as found, (folder / "celery.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the command is fixed above
            [*command, "-P", "threads", "-c", str(slots), "-l", "WARNING", "--without-gossip", "--without-mingle"],
            stdout=log,
            stderr=log,
        )
        try:
            yield found
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
