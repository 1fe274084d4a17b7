"""A store with 10,000 jobs and 1,000,000 tasks of the last week, written past the engine and kept between runs."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import time
import zlib
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.tables import metadata, tasks
from atlas.scheduler.task import TaskPolicy
from atlas.settings import Settings, prepare_folders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ZONE: Final = "Asia/Shanghai"
WEEK_S: Final = 7 * 86_400
SLOTS: Final = 8
AGES_S: Final = 6 * 3600
"""A store that is kept is used for so long: pages look at the last 24 hours."""
_CHUNK: Final = 20_000
_ERRORS: Final = (
    ("/srv/news/llm/client.py", 141, "RateLimitError: 429 Too Many Requests, retry-after 30"),
    ("/srv/news/collect/rss.py", 57, "ConnectionResetError: [Errno 104] Connection reset by peer"),
    ("/srv/news/fulltext/store.py", 33, "OSError: [Errno 122] Disk quota exceeded"),
)


def settings_in(folder: Path) -> Settings:
    """The settings of the installation in ``folder``; its pages listen on any free port and ask for no token."""
    given = {
        "scheduler": {"timezone": ZONE, "max_workers": SLOTS},
        "web": {"token_file": None, "port": 0},
        "persistence": {"keep_tasks": None},  # by default 100,000 tasks are kept
        "logging": {"level": "WARNING"},
    }
    return Settings.model_validate(given).anchored(folder)


def job_id(number: int) -> str:
    """The id of the job with this number."""
    return f"source_{number:05d}"


def jobs_file(jobs: int) -> str:
    """The config file: one job in twenty each ten minutes, one in four each hour, the others once a day."""
    entries = {}
    for number in range(jobs):
        minute, hour = number % 60, number // 60 % 24
        cron = f"{minute} {hour} * * *"
        if number % 20 == 0:
            cron = f"{minute % 10}-59/10 * * * *"
        elif number % 4 == 0:
            cron = f"{minute} * * * *"
        entries[job_id(number)] = {
            "name": f"Source {number:05d} 新闻",
            "cron_expression": cron,
            "function": "nothing",
            "description": f"Collects what source {number} has published since the last time",
            "tags": [f"group{number % 7}"],
        }
    return json.dumps({"cron_jobs": entries}, ensure_ascii=False, indent=1)


def installation(kept: Path, jobs: int, count: int, seed: int) -> Path:
    """The folder with the config file and the store that holds ``count`` tasks; made anew when it is hours old."""
    folder = kept / f"{jobs}-{count}-{seed}-{_schema()}"
    done = folder / "done"
    if done.exists() and time.time() - done.stat().st_mtime < AGES_S:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    settings = settings_in(folder)
    prepare_folders(settings)
    config = settings.persistence.cron_config
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(jobs_file(jobs), encoding="utf-8")
    open_store(settings.persistence.database).close()
    database = settings.persistence.database
    _fill(sqlite3.connect(str(database)), jobs, count, random.Random(seed))  # noqa: S311 - nothing secret
    done.touch()
    return folder


def _schema() -> str:
    """What the tables look like, in short: a store with other tables is not used again."""
    named = ",".join(f"{table.name}.{column.name}" for table in metadata.sorted_tables for column in table.columns)
    indexes = ",".join(sorted(str(index.name) for table in metadata.sorted_tables for index in table.indexes))
    return f"{zlib.crc32((named + indexes).encode()):08x}"


def _fill(connection: sqlite3.Connection, jobs: int, count: int, chance: random.Random) -> None:
    connection.execute("PRAGMA synchronous = OFF")
    indexes = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    of_tasks = [(name, sql) for name, sql in indexes if " ON tasks " in sql]
    with connection:
        for name, _sql in of_tasks:  # made once at the end: a fifth of the time
            connection.execute(f'DROP INDEX "{name}"')
    columns = [column.name for column in tasks.columns]
    insert = f"INSERT INTO tasks ({','.join(columns)}) VALUES ({','.join('?' * len(columns))})"  # noqa: S608 - our names
    totals: Counter[tuple[str, str]] = Counter()
    seconds: Counter[tuple[str, str]] = Counter()
    batch: list[tuple[Any, ...]] = []
    fires: list[tuple[Any, ...]] = []
    again: list[tuple[Any, ...]] = []
    for row in _tasks(jobs, count, chance):
        key = row["job_id"], row["status"]
        totals[key] += 1
        seconds[key] += row["finished_at"] - row["started_at"]
        batch.append(tuple(row[name] for name in columns))
        fires.append((row["job_id"], row["fire_time"], row["id"], row["fire_time"], 1))
        if row["failures"]:
            again.append((row["id"], 1, "error", row["created_at"], row["created_at"] + 1.0, 2.0, _error(chance)))
        if len(batch) >= _CHUNK:
            _write(connection, insert, batch, fires, again)
    _write(connection, insert, batch, fires, again)
    with connection:
        connection.executemany(
            "INSERT INTO counters (job_id, status, tasks, timed, duration_s, min_s, max_s) VALUES (?,?,?,?,?,0.05,60)",
            [(job, status, n, n, seconds[job, status]) for (job, status), n in totals.items()],
        )
        for _name, sql in of_tasks:
            connection.execute(sql)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _write(connection: sqlite3.Connection, insert: str, batch: list[Any], fires: list[Any], again: list[Any]) -> None:
    with connection:
        connection.executemany(insert, batch)
        connection.executemany(
            "INSERT OR IGNORE INTO fires (job_id, fire_time, task_id, decided_at, revision) VALUES (?,?,?,?,?)", fires
        )
        connection.executemany(
            "INSERT INTO attempts (task_id, attempt, outcome, started_at, ended_at, wait_s, error)"
            " VALUES (?,?,?,?,?,?,?)",
            again,
        )
    batch.clear()
    fires.clear()
    again.clear()


def _error(chance: random.Random) -> str:
    file, line, error = chance.choice(_ERRORS)
    return (
        f'Traceback (most recent call last):\n  File "/usr/lib/python3.11/site-packages/httpx/_client.py", line 914, '
        f'in send\n    response = self._send()\n  File "{file}", line {line}, in step\n    fetch()\n{error}'
    )


def _tasks(jobs: int, count: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Tasks in the order of time: one job in twenty has a third of them, as in `jobs_file`."""
    now_s = datetime.now(UTC).timestamp() - 60.0
    busy, hourly = range(0, jobs, 20), range(0, jobs, 4)
    policy, step = TaskPolicy().to_json(), WEEK_S / count
    for number in range(count):
        at = now_s - WEEK_S + number * step
        draw = chance.random()
        of = busy if draw < 0.4 else hourly if draw < 0.75 else range(jobs)
        job = job_id(of[number % len(of)])
        took, late, luck = chance.expovariate(1 / 2.0), chance.expovariate(20.0), chance.random()
        status = "FAILED" if luck < 0.008 else "TIMEOUT" if luck < 0.01 else "CANCELLED" if luck < 0.012 else "SUCCESS"
        failures = 4 if status in {"FAILED", "TIMEOUT"} else 1 if luck > 0.98 else 0
        started_at = at + late + (3.0 if failures else 0.0)
        yield {
            "id": f"{int(at * 1000):012x}{number:010x}",
            "name": f"Source {job[-5:]} 新闻",
            "function": "nothing",
            "arguments": '{"args":[],"kwargs":{}}',
            "job_id": job,
            "fire_time": at - 0.02,
            "origin": "fire",
            "reason": f"due at {datetime.fromtimestamp(at, UTC).isoformat(timespec='minutes')}",
            "priority": chance.choice((1, 2, 2, 2, 3)),
            "policy": policy,
            "revision": 1,
            "volatile": 0,
            "created_at": at,
            "status": status,
            "attempt": failures + (status == "SUCCESS"),
            "failures": failures,
            "crashes": 0,
            "due_at": None,
            "started_at": started_at,
            "finished_at": started_at + took,
            "result": '{"items": 12, "new": 3}' if status == "SUCCESS" else None,
            "result_omitted": 0,
            "error": _error(chance) if status in {"FAILED", "TIMEOUT"} else None,
            "cause": {"FAILED": "error", "TIMEOUT": "timeout", "CANCELLED": "cancelled"}.get(status),
            "owner": "atlas-01:41207:ab12",
            "cancel_requested": 0,
        }


def copy_of(folder: Path, to: Path) -> Settings:
    """The installation in ``folder``, copied: a run leaves the one that is kept as it is."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    return settings_in(to)


def newest_task(settings: Settings, status: str) -> str:
    """The id of the newest task with this status."""
    connection = sqlite3.connect(f"file:{settings.persistence.database}?mode=ro", uri=True)
    try:
        row = connection.execute(
            "SELECT id FROM tasks WHERE status = ? ORDER BY created_at DESC LIMIT 1", (status,)
        ).fetchone()
    finally:
        connection.close()
    return str(row[0])
