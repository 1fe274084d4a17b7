"""A believable week of a news installation, written with the store's own rows: for the pages, their tests and pictures.

``python tests/seeded.py FOLDER`` makes an installation there and serves its pages until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert

from atlas.scheduler.context import current_task
from atlas.scheduler.cron.expression import parse_cron
from atlas.scheduler.metrics import Moves
from atlas.scheduler.registry import register
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.store import tables
from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.task_rows import attempt_row, full_row, insert_attempts, insert_tasks
from atlas.scheduler.task import Cause, Origin, Task, TaskIds, TaskPolicy, TaskPriority, TaskStatus
from atlas.service import AtlasScheduler
from atlas.settings import Settings, prepare_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

ZONE: Final = "Asia/Shanghai"


@dataclass(frozen=True, slots=True)
class Made:
    """One job of the made-up installation: its file entry and how its tasks go."""

    id: str
    title: str
    cron: str
    description: str
    typical_s: float
    function: str = "seeded"
    priority: str = "NORMAL"
    timeout: float = 300
    fails: float = 0.0
    retries: float = 0.0
    slow: float = 0.0
    enabled: bool = True

    def entry(self) -> dict[str, Any]:
        """The job as the config file names it."""
        return {
            "name": self.title,
            "cron_expression": self.cron,
            "description": self.description,
            "function": self.function,
            "priority": self.priority,
            "timeout": self.timeout,
            "max_retries": 3,
            "enabled": self.enabled,
            "tags": [self.id.split("_")[0]],
        }


JOBS: Final = (
    Made("data_collection", "数据采集", "@hourly", "定时数据采集任务", 161, "collect", "HIGH", 900, 0.004, 0.05),
    Made("system_cleanup", "系统清理", "0 2 * * *", "系统清理任务", 362, "cleanup", "LOW", 1800),
    Made("health_check", "健康检查", "*/30 * * * *", "系统健康检查任务", 0.41, "health", "URGENT", 60),
    Made("daily_report", "日报", "0 9 * * *", "每日报告生成任务", 9.4, "report"),
    Made(
        "llm_summarize",
        "llm_summarize",
        "*/10 * * * *",
        "Summarise new articles with the LLM",
        52,
        "seeded",
        "HIGH",
        180,
        0.02,
        0.04,
        0.01,
    ),
    Made(
        "collect_rss",
        "collect_rss",
        "*/5 * * * *",
        "Poll 214 RSS and Atom sources",
        11.8,
        "seeded",
        "HIGH",
        60,
        0.001,
        0.015,
    ),
    Made(
        "fetch_fulltext",
        "fetch_fulltext",
        "*/15 * * * *",
        "Download article bodies",
        38,
        "seeded",
        "NORMAL",
        300,
        0.006,
        0.01,
    ),
    Made(
        "dedupe_articles",
        "dedupe_articles",
        "5,35 * * * *",
        "MinHash near-duplicate merge",
        7.9,
        "seeded",
        "NORMAL",
        120,
    ),
    Made(
        "llm_embed",
        "llm_embed",
        "33 * * * *",
        "Embeddings for semantic search",
        192,
        "seeded",
        "NORMAL",
        900,
        0.0,
        0.02,
        0.006,
    ),
    Made("backup_db", "backup_db", "30 1 * * *", "pg_dump to object storage", 1322, "seeded", "NORMAL", 3600),
    Made(
        "reindex_search",
        "reindex_search",
        "0 2 * * 1-5",
        "Rebuild the full-text index",
        1082,
        "seeded",
        "LOW",
        2700,
        0.03,
    ),
    Made(
        "sync_sources",
        "sync_sources",
        "15 */4 * * *",
        "Import source list from the CMS",
        27,
        "seeded",
        "LOW",
        300,
        0.03,
    ),
    Made("score_articles", "score_articles", "*/20 * * * *", "Rank new articles by interest", 14.2, "seeded"),
    Made(
        "translate_titles", "标题翻译", "10 * * * *", "把外文标题翻译成中文", 33, "seeded", "NORMAL", 300, 0.005, 0.03
    ),
    Made("warm_cache", "warm_cache", "* * * * *", "Keep the front page warm", 0.22, "seeded", "LOW", 30),
    Made("newsletter", "newsletter", "0 7 * * 1-5", "Send the morning newsletter", 74, "seeded", "HIGH", 600),
    Made("old_import", "old_import", "0 5 * * *", "Replaced by sync_sources", 60, "seeded", enabled=False),
)
_ERRORS: Final = (
    (
        "/srv/news/llm/client.py",
        141,
        "raise RateLimitError(resp.status, resp.reason)",
        "news.llm.client.RateLimitError: 429 Too Many Requests (quota 60 requests/min exhausted)",
    ),
    (
        "/srv/news/collect/rss.py",
        57,
        "body = stream.read()",
        "ConnectionResetError: [Errno 104] Connection reset by peer",
    ),
    ("/srv/news/fulltext/store.py", 33, "file.write(body)", "OSError: [Errno 122] Disk quota exceeded"),
)


def _traceback(place: int) -> str:
    file, line, code, error = _ERRORS[place]
    return (
        "Traceback (most recent call last):\n"
        f'  File "/srv/news/tasks.py", line 88, in run\n    results = step(batch, model=model)\n'
        '  File "/usr/lib/python3.11/site-packages/httpx/_client.py", line 914, in send\n    response = self._send()\n'
        '  File "/usr/lib/python3.11/site-packages/httpx/_models.py", line 758, in raise_for_status\n    raise error\n'
        f'  File "{file}", line {line}, in step\n    {code}\n{error}'
    )


@register("seeded")
def seeded(batch: int = 40, model: str = "default") -> dict[str, int]:
    """Stand for real work: it returns at once."""
    return {"items": batch, "model_length": len(model)}


HOLD: Final = threading.Event()
"""Set it to let the tasks of `hold` go."""


def hold(seconds: float = 3600.0) -> str:
    """A task that runs until somebody cancels it, `HOLD` is set or the time is over."""
    task = current_task()
    for step in range(int(seconds * 20)):
        if HOLD.wait(0.05):
            break
        task.progress(step, seconds * 20)
    return "let go"


for _name in ("hold", "translate_batch", "import_opml", "rebuild_topics", "score_backlog", "fetch_archive"):
    register(_name)(hold)


@register("fails")
def fails() -> None:
    """A task that fails."""
    raise RuntimeError("it was asked to fail <script>alert(1)</script>")


class Week:
    """Makes the rows of a week."""

    def __init__(self, now: datetime, *, days: float = 7.0, seed: int = 8) -> None:
        """Begin ``days`` before ``now``; equal seeds make equal weeks."""
        self.now, self.begin = now, now - timedelta(days=days)
        self._chance, self._ids = random.Random(seed), TaskIds()
        self.tasks: list[Task] = []
        self.attempts: list[dict[str, Any]] = []
        self.fires: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.moves = Moves()

    def make(self) -> None:
        """Every task of every job, in the order of time."""
        due = sorted((at, number) for number, made in enumerate(JOBS) for at in self._fire_times(made))
        for at, number in due:
            self._fire(JOBS[number], at)

    def _fire_times(self, made: Made) -> Iterator[datetime]:
        expression = parse_cron(made.cron, ZONE)
        # A minutely job for a day only: its week would be ten thousand rows that nobody looks at.
        at = expression.next_after(
            max(self.begin, self.now - timedelta(days=1)) if made.id == "warm_cache" else self.begin
        )
        while at is not None and at < self.now - timedelta(seconds=40) and made.enabled:
            if made.id != "sync_sources" or at < self.now - timedelta(hours=20):
                yield at.astimezone(UTC)
            at = expression.next_after(at)

    def _fire(self, made: Made, at: datetime) -> None:
        chance = self._chance
        ago_h = (self.now - at).total_seconds() / 3600
        if made.id == "fetch_fulltext" and 30 < ago_h < 30.3:
            self._skip(made, at, "overlap")
            return
        bad = made.fails * (18 if made.id == "llm_summarize" and ago_h < 1.2 else 1)
        if made.id == "llm_summarize" and ago_h < 0.34:  # the last two: something needs attention
            bad = 1.0
        draw = chance.random()
        task = Task(
            id=self._ids.new(at),
            name=made.title,
            function=made.function,
            arguments=json.dumps({"args": [], "kwargs": {"batch": 40, "model": "default"}})
            if made.function == "seeded"
            else '{"args":[],"kwargs":{}}',
            job_id=made.id,
            fire_time=at,
            origin=Origin.FIRE,
            reason=f"due at {at.isoformat(timespec='minutes')}",
            priority=TaskPriority[made.priority],
            policy=TaskPolicy(timeout_s=made.timeout, retry=RetryPolicy(max_retries=3)),
            revision=42,
            created_at=at + timedelta(seconds=0.02),
            owner="atlas-01:41207:ab12",
        )
        place = 0 if made.id.startswith("llm") else 2 if made.id == "fetch_fulltext" else 1
        start = at + timedelta(
            seconds=chance.choice((0.05, 0.1, 0.12, 0.2, 0.3)) + (38 if chance.random() < 0.002 else 0)
        )
        failures = 3 if draw < bad else 1 if draw < bad + made.retries else 0
        # what began a moment ago was quick: every task has ended by now
        left_s = (self.now - start).total_seconds() - 1.5
        pace = min(1.0, left_s / (made.typical_s * (0.9 * failures + 1.6) + 14.0 * bool(failures)))
        self._log(task, start, "INFO", f"{40 + int(draw * 100)} articles waiting, batch 1 of 4")
        for number in range(1, failures + 1):
            took = made.typical_s * chance.uniform(0.2, 0.9) * pace
            self._attempt(task, number, start, took, place, 2.0**number * pace)
            start += timedelta(seconds=took + 2.0**number * pace)
        task.attempt, task.failures = failures + 1, failures
        took = max(0.05, made.typical_s * min(1.6, chance.lognormvariate(0, 0.22)) * pace)
        task.started_at = start
        if draw < bad:
            task.status, task.cause, task.error = TaskStatus.FAILED, Cause.ERROR, _traceback(place)
            task.failures = 4
            self._log(task, start + timedelta(seconds=took / 2), "ERROR", task.error.splitlines()[-1])
        elif bad <= draw - made.retries < bad + made.slow or (made.id == "llm_summarize" and 3 < ago_h < 3.3):
            task.status, task.cause = TaskStatus.TIMEOUT, Cause.TIMEOUT
            took = made.timeout
            task.error = f"the attempt ran longer than its limit of {made.timeout:g} s"
        elif made.id == "sync_sources" and 20 < ago_h < 25:
            task.status, task.cause = TaskStatus.CANCELLED, Cause.CANCELLED
        else:
            task.status, task.result = (
                TaskStatus.SUCCESS,
                json.dumps({"items": 20 + int(draw * 60), "new": int(draw * 30)}),
            )
        end = start + timedelta(seconds=took)
        task.finished_at = min(end, self.now - timedelta(seconds=1))
        self._log(task, task.finished_at, "INFO", f"{task.status.value} after {took:.1f} s")
        self.tasks.append(task)
        self.fires.append(
            {
                "job_id": made.id,
                "fire_time": at.timestamp(),
                "task_id": task.id,
                "decided_at": at.timestamp(),
                "revision": 42,
            }
        )
        self.moves.made(made.id)
        self.moves.moved(made.id, TaskStatus.PENDING, task.status, took)

    def _attempt(self, task: Task, number: int, start: datetime, took: float, place: int, wait_s: float) -> None:
        task.attempt, task.started_at = number, start
        end = start + timedelta(seconds=took)
        self.attempts.append(attempt_row(task, outcome="error", ended_at=end, wait_s=wait_s, error=_traceback(place)))
        self._log(task, end, "WARNING", _ERRORS[place][3])

    def _log(self, task: Task, at: datetime, level: str, message: str) -> None:
        if self.now - at < timedelta(hours=3):
            self.logs.append(
                {
                    "task_id": task.id,
                    "attempt": max(1, task.attempt),
                    "logged_at": at.timestamp(),
                    "level": level,
                    "message": message,
                }
            )

    def _skip(self, made: Made, at: datetime, reason: str) -> None:
        self.fires.append(
            {
                "job_id": made.id,
                "fire_time": at.timestamp(),
                "skip_reason": reason,
                "detail": "",
                "last": at.timestamp(),
                "count": 1,
                "decided_at": at.timestamp(),
                "revision": 42,
            }
        )


def bare(folder: Path, jobs: dict[str, Any], *, port: int = 0, read_only: bool = False) -> Settings:
    """An installation in ``folder`` with these jobs and no past; returns its settings."""
    given = {
        "scheduler": {"timezone": ZONE, "max_workers": 5},
        "web": {"token_file": None, "port": port, "read_only": read_only},
    }
    settings = Settings.model_validate(given).anchored(folder)
    prepare_folders(settings)
    file = settings.persistence.cron_config
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"cron_jobs": jobs}, ensure_ascii=False, indent=2), encoding="utf-8")
    return settings


def seed(folder: Path, *, days: float = 7.0, port: int = 0) -> Settings:
    """An installation in ``folder`` with a config file and a week behind it; returns its settings."""
    settings = bare(folder, {made.id: made.entry() for made in JOBS}, port=port)
    now = datetime.now(UTC)
    week = Week(now, days=days)
    week.make()
    store = open_store(settings.persistence.database)
    try:
        store.write(lambda connection: _write(connection, week, now), wait_s=30.0)
    finally:
        store.close()
    return settings


def _write(connection: Any, week: Week, now: datetime) -> None:
    insert_tasks(connection, [full_row(task) for task in week.tasks])
    insert_attempts(connection, week.attempts)
    made = [row for row in week.fires if "task_id" in row]
    connection.execute(insert(tables.fires), made)
    connection.execute(insert(tables.fires), [row for row in week.fires if "task_id" not in row])
    connection.execute(insert(tables.task_logs), week.logs)
    week.moves.write(connection)
    connection.execute(
        insert(tables.job_state).values(
            job_id="sync_sources",
            paused_at=(now - timedelta(hours=20)).timestamp(),
            paused_by="lin",
            reason="CMS moves to the new host",
        )
    )


async def serve(folder: Path, port: int = 8788) -> None:
    """Serve the pages of a seeded installation until somebody interrupts."""
    from atlas.web.server import WebServer

    async with AtlasScheduler.from_settings(seed(folder, port=port)) as atlas:
        await busy(atlas)
        server = WebServer(atlas).start()
        print(server.address)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(server.stop)


async def busy(atlas: AtlasScheduler) -> None:
    """Let a few tasks run and wait, as on any weekday."""
    running = {
        "translate_batch": 40,
        "import_opml": 60,
        "rebuild_topics": 200,
        "score_backlog": 90,
        "fetch_archive": 600,
    }
    for name, seconds in running.items():
        await atlas.queue.submit(name, seconds, priority=TaskPriority.URGENT)
    for priority, name, count in (
        (TaskPriority.HIGH, "translate_batch", 3),
        (TaskPriority.NORMAL, "fetch_archive", 9),
        (TaskPriority.LOW, "score_backlog", 6),
    ):
        for _ in range(count):
            await atlas.queue.submit(name, 20, priority=priority)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), *(int(port) for port in sys.argv[2:3])))
