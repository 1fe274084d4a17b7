"""Submit: returned means committed. A hundred coroutines, a hundred threads, one at a time, and many in one call.

Atlas's slots are held meanwhile, so that submitting alone is measured. Checked: every task submitted is in the file, or
in the peer's queue.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

from scripts.bench.contenders import ATLAS, CELERY, GROUP_COMMIT, HUEY
from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

AT_ONCE = 100


def one_by_one(size: int) -> int:
    """How many are submitted one at a time: a tenth."""
    return max(1, size // 10)


def atlas(folder: Path, size: int) -> Figures:
    """Atlas as it comes."""
    from scripts.bench.sides.atlas_queue import Gates, running_queue
    from scripts.bench.sides.sqlite_file import rows

    figures: Figures = {}
    with running_queue(folder, {"nothing": int}) as there:
        gates = Gates()
        gates.close(there)

        async def one_awaiting() -> float:
            begun_s = time.perf_counter()
            for number in range(one_by_one(size)):
                await there.submit("nothing", number)
            return one_by_one(size) / (time.perf_counter() - begun_s)

        figures["coroutines_per_s"] = asyncio.run(_coroutines(size, lambda number: there.submit("nothing", number)))
        figures["threads_per_s"] = _threads(size, lambda number: there.sync.submit("nothing", number))
        figures["one_per_s"] = asyncio.run(one_awaiting())
        begun_s = time.perf_counter()
        there.sync.submit_many("nothing", [(number,) for number in range(size)])
        figures["many_per_s"] = size / (time.perf_counter() - begun_s)
        kept = rows(
            folder / "atlas.db",
            "SELECT CAST(json_extract(arguments, '$.args[0]') AS INT) AS number, count(*) FROM tasks "
            "WHERE function = 'nothing' GROUP BY 1 ORDER BY 1",
        )
        gates.open()
    sent = [(number, 4 if number < one_by_one(size) else 3) for number in range(size)]
    check(kept == sent, f"{sum(times for _, times in kept)} tasks are in the file, not those that were submitted")
    return figures


async def _coroutines(size: int, submit: Callable[[int], Awaitable[object]]) -> float:
    async def some(first: int) -> None:
        for number in range(first, size, AT_ONCE):
            await submit(number)

    begun_s = time.perf_counter()
    await asyncio.gather(*map(some, range(AT_ONCE)))
    return size / (time.perf_counter() - begun_s)


def _threads(size: int, submit: Callable[[int], object]) -> float:
    def some(first: int) -> None:
        ready.wait()
        for number in range(first, size, AT_ONCE):
            submit(number)

    ready = threading.Barrier(AT_ONCE + 1)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = [pool.submit(some, number) for number in range(AT_ONCE)]
        ready.wait()
        begun_s = time.perf_counter()
        for one in done:
            one.result()
        return size / (time.perf_counter() - begun_s)


class _Group:
    """The floor: one table in one SQLite file, WAL and FULL; whoever waits is in the next commit."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._waiting: list[tuple[int, Callable[[], object]]] = []
        self._changed, self._ends = threading.Condition(), False
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def put(self, number: int, committed: Callable[[], object]) -> None:
        """Have ``number`` written; ``committed`` is called behind its commit."""
        with self._changed:
            self._waiting.append((number, committed))
            self._changed.notify()

    def close(self) -> None:
        """Write the rest and end."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join()

    def _write(self) -> None:
        with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY, arguments TEXT NOT NULL)")
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._ends)
                    taken, self._waiting = self._waiting, []
                if not taken:
                    return
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "INSERT INTO tasks (arguments) VALUES (?)", [(f"[{number}]",) for number, _ in taken]
                )
                connection.execute("COMMIT")
                for _, committed in taken:
                    committed()


def floor(folder: Path, size: int) -> Figures:
    """Group commit and nothing else."""
    group = _Group(folder / "floor.db")

    async def awaited(number: int) -> None:
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        group.put(number, lambda: loop.call_soon_threadsafe(event.set))
        await event.wait()

    def waited(number: int) -> None:
        event = threading.Event()
        group.put(number, event.set)
        event.wait()

    figures = {
        "coroutines_per_s": asyncio.run(_coroutines(size, awaited)),
        "threads_per_s": _threads(size, waited),
        "one_per_s": _one_per_s(size, waited),
    }
    group.close()
    with closing(sqlite3.connect(folder / "floor.db")) as connection:
        kept = connection.execute("SELECT count(*) FROM tasks").fetchone()
    check(kept == (2 * size + one_by_one(size),), f"{kept} rows are in the file")
    return figures


def _one_per_s(size: int, submit: Callable[[int], object]) -> float:
    begun_s = time.perf_counter()
    for number in range(one_by_one(size)):
        submit(number)
    return one_by_one(size) / (time.perf_counter() - begun_s)


def huey(folder: Path, size: int) -> Figures:
    """One at a time: huey knows no other way."""
    from scripts.bench.sides import huey_queue

    there = huey_queue.opened(folder)

    @there.task()  # type: ignore[untyped-decorator]
    def nothing(number: int) -> int:
        return number

    figures = {"one_per_s": _one_per_s(size, nothing)}
    check(there.pending_count() == one_by_one(size), f"{there.pending_count()} tasks are there")
    return figures


def celery(_folder: Path, size: int) -> Figures:
    """One at a time, to Redis."""
    from scripts.bench.sides import celery_app

    with celery_app.keys() as keys:
        celery_app.nothing.delay(0)
        figures = {"one_per_s": _one_per_s(size, celery_app.nothing.delay)}
        check(keys.waiting() == one_by_one(size) + 1, f"{keys.waiting()} tasks are there")
    return figures


MEASURE = Measure(
    title="submit: returned means committed",
    sizes=(10_000,),
    quick=2_000,
    sides=(
        Side(who=ATLAS, run=atlas),
        Side(who=GROUP_COMMIT, run=floor),
        Side(who=HUEY, run=huey),
        Side(who=CELERY, run=celery),
    ),
    goals=(
        Goal(
            what="submit, 100 coroutines",
            figure="coroutines_per_s",
            to="group commit",
            must=1 / 2,
            reach=3 / 4,
            least=True,
            unit="/s",
        ),
        Goal(
            what="submit, 100 threads",
            figure="threads_per_s",
            to="group commit",
            must=1 / 4,
            reach=1 / 2,
            least=True,
            unit="/s",
        ),
        Goal(what="submit, one at a time", figure="one_per_s", to="Celery", must=1, reach=1.5, least=True, unit="/s"),
        Goal(
            what="`submit_many`",
            figure="many_per_s",
            to="Celery",
            to_figure="one_per_s",
            must=20,
            reach=30,
            least=True,
            unit="/s",
        ),
    ),
    shown={"one_per_s": ("submitted one at a time", "/s")},
)
