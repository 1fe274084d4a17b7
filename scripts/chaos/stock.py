"""Stock APScheduler 3.11 under the same driver: what a team would have without Atlas.

As its users run it: a `BackgroundScheduler` with the SQLAlchemy job store, and a second, paused one on the same store
in the process that submits. Retries, timeouts and cancels do not exist there, so only plain work is asked of it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.exc import DBAPIError

from scripts.chaos import ledger
from scripts.chaos.checks import Check, named

if TYPE_CHECKING:
    from scripts.chaos.verdict import Evidence

SLOW_S: Final = 0.3


def work(task: str, seconds: float, job: str | None = None) -> None:
    """What every job calls."""
    ledger.write(ledger.WORK, what="start", task=task, job=job, fire=None, pid=os.getpid())
    time.sleep(seconds)
    ledger.write(ledger.WORK, what="end", task=task, job=job, fire=None, pid=os.getpid())


def _scheduler(database: str) -> BackgroundScheduler:
    return BackgroundScheduler(
        timezone=UTC, jobstores={"default": SQLAlchemyJobStore(database)}, executors={"default": {"type": "threadpool"}}
    )


def serve(database: str) -> None:
    """Run until SIGTERM or SIGINT."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    scheduler = _scheduler(database)
    scheduler.start()
    every = {"args": ["", 0.0, "each_second"], "id": "each_second", "replace_existing": True}
    scheduler.add_job(work, "cron", second="*", **every)
    over.wait()
    scheduler.shutdown()


def produce(database: str, rate: float, seed: int) -> None:
    """Add one-off jobs until SIGTERM."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    scheduler = _scheduler(database)
    scheduler.start(paused=True)
    draw = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
    while not over.wait(1 / rate):
        task = uuid4().hex
        seconds = SLOW_S * (draw.random() < 0.2)
        try:
            scheduler.add_job(work, "date", run_date=datetime.now(UTC), args=[task, seconds], id=task)
        except DBAPIError as error:
            ledger.write(ledger.ACCEPTED, what="refused", error=str(error.orig))
        else:
            ledger.write(ledger.ACCEPTED, what="accepted", task=task, kind="stock", retries=0)


def judge(found: Evidence) -> list[Check]:
    """The promises that make sense for it."""
    ran = {task: len(starts) for task, starts in found.starts.items() if task}
    lost = [task for task in found.accepted if task not in found.ended]
    twice = [task for task, count in ran.items() if count > 1]
    seconds = Counter(int(start["at"]) for start in found.starts.get("", ()))
    first, last = (min(seconds), max(seconds)) if seconds else (0, -1)
    none = [at for at in range(first, last + 1) if at not in seconds]
    doubled = [at for at, count in seconds.items() if count > 1]
    words = f"{last - first + 1} seconds; without a start {len(none)}, with two {len(doubled)}"
    return [
        Check(
            "every acknowledged task ran to its end", f"{len(found.accepted)} acknowledged, not {named(lost)}", not lost
        ),
        Check("none ran twice", named(twice), not twice),
        Check("each_second: one start a second, or a stored skip", words, bool(seconds) and not (none or doubled)),
        Check("no scheduler ends by itself", f"{found.died} ended", not found.died),
    ]


def main() -> None:
    """Serve or produce."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["serve", "produce"])
    parser.add_argument("database")
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    sys.modules["scripts.chaos.stock"] = sys.modules["__main__"]  # jobs name their function by its module
    work.__module__ = "scripts.chaos.stock"
    if args.what == "serve":
        serve(args.database)
    else:
        produce(args.database, args.rate, args.seed)


if __name__ == "__main__":
    main()
