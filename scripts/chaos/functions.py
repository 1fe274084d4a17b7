"""What the tasks of a run do: each writes its start and, if it returns, its end into the ledger."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from atlas.scheduler.context import current_task
from scripts.chaos import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def noted() -> Iterator[int]:
    """The number of this attempt; start and end are written down."""
    task = current_task()
    facts = {
        "task": task.task_id,
        "attempt": task.attempt,
        "job": task.job_id,
        "fire": None if task.fire_time is None else task.fire_time.timestamp(),
        "pid": os.getpid(),
    }
    ledger.write(ledger.WORK, what="start", **facts)
    yield task.attempt
    ledger.write(ledger.WORK, what="end", **facts)


def instant() -> str:
    """Return at once."""
    with noted():
        return "done"


async def instant_async() -> str:
    """Return at once, on the loop."""
    with noted():
        return "done"


def slow(seconds: float) -> float:
    """Take a moment, and ask now and then whether to go on."""
    with noted():
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            current_task().check()
            time.sleep(0.02)
        return seconds


async def slow_async(seconds: float) -> float:
    """Take a moment, on the loop."""
    with noted():
        await asyncio.sleep(seconds)
        return seconds


def flaky() -> int:
    """Raise until the third attempt."""
    with noted() as attempt:
        if attempt < 3:
            msg = f"attempt {attempt} fails, the third will not"
            raise ValueError(msg)
        return attempt


def burn() -> None:
    """Never end and never ask: only killing the process helps."""
    with noted():
        while True:
            time.sleep(0.2)


def kill_worker() -> None:
    """Kill the process that runs this."""
    with noted():
        os.kill(os.getpid(), signal.SIGKILL)


def stubborn(seconds: float) -> float:
    """Take a moment and hear nothing."""
    with noted():
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(0.05, left))
        return seconds
