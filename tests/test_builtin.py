"""The four built-in jobs: on a real store, against a real server, with a clock that can be set."""

from __future__ import annotations

import asyncio
import contextvars
import html.parser
import json
import random
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, func, insert, select

from atlas.builtin import collect as collect_module
from atlas.builtin import health as health_module
from atlas.builtin.binding import ALIASES, bind_builtins
from atlas.builtin.cleanup import Keep, cleanup
from atlas.builtin.collect import CollectError, Collection, MissingExtraError
from atlas.builtin.health import failing_jobs, health
from atlas.builtin.report.figures import last_line, share
from atlas.builtin.report.pages import sparkline
from atlas.builtin.report.words import WORDS, change, percent
from atlas.builtin.report.write import day_named, midnight, report
from atlas.scheduler.clock import SystemClock
from atlas.scheduler.context import TaskContext, enter_task
from atlas.scheduler.errors import ArgumentsError, StoreUnavailableError, TaskStopped
from atlas.scheduler.events import SchedulerEventKind
from atlas.scheduler.job_view import Job, JobState
from atlas.scheduler.loop_watch import Trouble
from atlas.scheduler.registry import Registry
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.store.audit import Action
from atlas.scheduler.store.batches import in_batches
from atlas.scheduler.store.retention import delete_final_tasks, delete_old_fires, enforce_task_limits
from atlas.scheduler.store.revisions import ask, keep_revision, latest_revision, open_requests
from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.tables import (
    articles,
    attempts,
    audit,
    config_requests,
    fires,
    jobs,
    revisions,
    sources,
    task_logs,
    tasks,
)
from atlas.scheduler.store.task_rows import full_row, insert_tasks
from atlas.scheduler.task import Task, TaskStatus
from atlas.settings import CollectSettings, Settings, Source
from tests.feed_server import CHINESE, RSS, SENTENCES, FeedServer, Handler, Item, document, page, rss

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from atlas.scheduler.store.store import Store

NOW = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = timedelta(days=1)
QUICK = RetryPolicy(max_retries=2, delay_s=0.01, max_delay_s=0.05)


class SetClock(SystemClock):
    """A clock that says what it was told."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[Store]:
    opened = open_store(tmp_path / "atlas.db", durability="normal", clock=clock)
    yield opened
    opened.close()


def count(store: Store, table: Any, *where: Any) -> int:
    return store.read(
        lambda connection: connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
    )


def add_tasks(store: Store, *made: Task) -> None:
    store.write(lambda connection: insert_tasks(connection, [full_row(task) for task in made]))


def add_rows(store: Store, table: Any, *rows: dict[str, Any]) -> None:
    def add(connection: Connection) -> None:
        connection.execute(insert(table), list(rows))

    store.write(add)


def inside(task: TaskContext) -> contextvars.Context:
    """A context in which ``task`` is the current one."""
    context = contextvars.copy_context()
    context.run(enter_task, task)
    return context


def per_job(store: Store, table: Any) -> dict[str, int]:
    """Rows of each job."""
    counted = select(table.c.job_id, func.count()).group_by(table.c.job_id)
    return store.read(lambda connection: dict(connection.execute(counted).all()))


_numbers = iter(range(10**9))


def task(
    status: TaskStatus = TaskStatus.SUCCESS,
    *,
    ended: datetime = NOW,
    job: str | None = "job",
    took_s: float = 1.0,
    waited_s: float = 0.5,
    failures: int = 0,
    error: str | None = None,
    **more: Any,
) -> Task:
    """A task as it lies in the store."""
    started = ended - timedelta(seconds=took_s)
    return Task(
        id=f"t{next(_numbers):09d}",
        name=more.pop("name", job or "by hand"),
        function="f",
        job_id=job,
        status=status,
        attempt=failures + 1,
        failures=failures,
        created_at=started - timedelta(seconds=waited_s),
        started_at=started,
        finished_at=ended if status.is_final else None,
        error=error,
        **more,
    )


# --- collect ---------------------------------------------------------------------------------------------------------


def collection(store: Store, server: FeedServer, *paths: str, **options: Any) -> Collection:
    """A collection of the sources behind ``paths``, each named like its path."""
    listed = [Source(name=path.strip("/"), url=server.base + path) for path in paths]
    given = {"sources": (*listed, *options.pop("more", ())), "allow_hosts": ("127.0.0.1",), "timeout": 2.0, **options}
    return Collection(
        store=store, settings=CollectSettings(**given), clock=store.clock, draw=random.random, retry=QUICK
    )  # fmt: skip


async def test_every_source_is_collected_and_a_second_time_stores_nothing_twice(
    store: Store, server: FeedServer
) -> None:
    collecting = collection(store, server, "/rss", "/atom", "/rdf", "/broken", "/gbk", "/big5", "/empty-feed")
    first = await collecting.run()
    assert (first["sources"], first["fetched"], first["new"], first["failed"]) == (7, 8, 8, 0)
    assert first["by_source"]["rss"] == {"status": "ok", "fetched": 2, "new": 2}
    second = await collecting.run()
    assert (second["fetched"], second["new"]) == (8, 0)
    assert count(store, articles) == 8


async def test_the_stored_text_is_right(store: Store, server: FeedServer) -> None:
    await collection(store, server, "/lies").run()
    row = store.read(lambda connection: connection.execute(select(articles)).one())
    assert (row.title, row.content, row.source) == (CHINESE.title, "今天上午，央行宣布维持利率不变。", "lies")
    assert row.published_at == datetime(2026, 11, 23, 0, 30, tzinfo=UTC).timestamp()
    assert row.fetched_at == row.seen_at == NOW.timestamp()


async def test_one_broken_source_fails_alone_and_is_named(store: Store, server: FeedServer) -> None:
    result = await collection(store, server, "/nowhere", "/rss", "/page", "/slow", timeout=0.5).run()
    assert (result["new"], result["failed"]) == (2, 3)
    assert result["by_source"]["nowhere"] == {
        "status": "failed",
        "reason": "the server answers 404: there is nothing at this address",
    }
    assert "no complete answer within 0.5 s" in result["by_source"]["slow"]["reason"]
    remembered = store.read(lambda connection: connection.execute(select(sources.c.name, sources.c.failures)).all())
    assert dict(remembered) == {"nowhere": 1, "page": 1, "slow": 1, "rss": 0}


async def test_an_unchanged_source_is_asked_with_what_it_gave(store: Store, server: FeedServer) -> None:
    collecting = collection(store, server, "/conditional")
    await collecting.run()
    result = await collecting.run()
    assert (result["unchanged"], result["by_source"]) == (
        1,
        {"conditional": {"status": "unchanged", "fetched": 0, "new": 0}},
    )
    assert server.requests[-1][1]["If-None-Match"] == '"v1"'


async def test_a_source_that_fails_for_now_is_asked_again(store: Store, server: FeedServer) -> None:
    answers = iter([503, 503])

    def recovering(handler: Handler) -> None:
        if status := next(answers, None):
            handler.send(b"", status=status)
        else:
            handler.send(RSS.encode())

    server.routes["/recovering"] = recovering
    result = await collection(store, server, "/recovering").run()
    assert result["new"] == 2
    assert len(server.requests) == 3


async def test_a_source_that_asks_for_a_long_wait_is_left_for_the_next_time(store: Store, server: FeedServer) -> None:
    server.routes["/later"] = lambda handler: handler.send(b"", status=503, Retry_After="3600")
    await collection(store, server, "/later", "/rss").run()
    assert server.paths().count("/later") == 1


async def test_a_source_that_is_gone_is_not_asked_again(store: Store, server: FeedServer) -> None:
    await collection(store, server, "/gone", "/rss").run()
    assert server.paths().count("/gone") == 1


async def test_when_every_source_fails_the_task_fails_and_names_each(store: Store, server: FeedServer) -> None:
    with pytest.raises(CollectError, match="all 2 sources failed") as failed:
        await collection(store, server, "/gone", "/page").run()
    for words in (r"(?m)^gone: .*404", r"(?m)^page: a web page came"):
        assert re.search(words, str(failed.value)), "in the order in which they failed"
    assert set(failed.value.reasons) == {"gone", "page"}


async def test_an_error_nobody_thought_of_stays_with_its_source(
    store: Store, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atlas.collectors import rss as rss_module

    real = rss_module.read_feed

    def breaking(fetched: Any, **more: Any) -> Any:
        if fetched.address.endswith("/atom"):
            raise RecursionError("too deep")
        return real(fetched, **more)

    monkeypatch.setattr(rss_module, "read_feed", breaking)
    result = await collection(store, server, "/atom", "/rss").run()
    assert result["by_source"]["atom"]["reason"] == "unexpected RecursionError: too deep"
    assert result["new"] == 2


async def test_without_sources_the_result_says_where_to_name_some(store: Store, server: FeedServer) -> None:
    result = await collection(store, server).run()
    assert (result["sources"], result["new"]) == (0, 0)
    assert "collect.sources" in result["note"]


async def test_only_names_sources_and_types(store: Store, server: FeedServer) -> None:
    server.routes["/page"] = document(page("A story", SENTENCES * 10), kind="text/html")
    web = Source(name="pages", url=server.base + "/page", type="web")
    off = Source(name="off", url=server.base + "/atom", enabled=False)
    collecting = collection(store, server, "/rss", "/rdf", more=(web, off))
    assert set((await collecting.run())["by_source"]) == {"rss", "rdf", "pages"}
    assert set((await collecting.run(["rdf"]))["by_source"]) == {"rdf"}
    named_off = await collecting.run(["off", "web"])
    assert named_off["skipped"] == 1
    assert named_off["by_source"]["off"] == {"status": "skipped", "reason": "enabled: false in the settings"}
    assert named_off["by_source"]["pages"] == {"status": "ok", "fetched": 1, "new": 0}
    assert "/atom" not in server.paths()


async def test_a_source_nobody_has_is_an_error_with_a_proposal(store: Store, server: FeedServer) -> None:
    with pytest.raises(ArgumentsError, match=r"'atmo' is no source .* did you mean 'atom'"):
        await collection(store, server, "/atom").run(["atmo"])


async def test_no_more_sources_are_read_at_once_than_allowed_in_all_and_per_host(
    store: Store, server: FeedServer
) -> None:
    import threading

    lock, now, most = threading.Lock(), 0, 0

    def busy(handler: Handler) -> None:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        server.stopping.wait(0.05)
        with lock:
            now -= 1
        handler.send(RSS.encode())

    server.routes |= {f"/busy{number}": busy for number in range(8)}
    paths = [f"/busy{number}" for number in range(8)]
    await collection(store, server, *paths, concurrency=8, per_host=2).run()
    assert most == 2
    most = 0
    await collection(store, server, *paths, concurrency=3, per_host=8).run()
    assert most == 3


async def test_a_task_sees_how_far_the_collection_is(store: Store, server: FeedServer) -> None:
    steps: list[tuple[float, float | None]] = []
    task = inside(TaskContext(task_id="t", attempt=1, on_progress=lambda done, total: steps.append((done, total))))
    await asyncio.create_task(collection(store, server, "/rss", "/atom", "/gone").run(), context=task)
    assert steps == [(1, 3), (2, 3), (3, 3)]


async def test_a_task_that_is_asked_to_stop_stops_collecting(store: Store, server: FeedServer) -> None:
    context = TaskContext(task_id="t", attempt=1, on_progress=lambda *_: context.ask_to_stop("cancelled"))
    with pytest.raises(TaskStopped):
        await asyncio.create_task(
            collection(store, server, "/rss", "/slow", timeout=30.0).run(), context=inside(context)
        )


async def test_a_store_that_does_not_answer_fails_the_task(
    store: Store, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_args: Any, **_more: Any) -> None:
        raise StoreUnavailableError("locked", waited_s=5.0)

    monkeypatch.setattr(store, "write_async", silent)
    with pytest.raises(StoreUnavailableError):
        await collection(store, server, "/rss").run()


async def test_the_result_of_a_thousand_sources_is_still_short_enough_to_be_kept() -> None:
    reports = [collect_module._Report(name=f"source {n}" * 5, status="ok", fetched=9, new=n % 2) for n in range(999)]
    reports.append(collect_module._Report(name="bad", status="failed", reason="x" * 300))
    result = collect_module._result(reports)
    assert len(json.dumps(result)) < 64_000
    assert (result["sources"], result["failed"], len(result["by_source"]) + result["left_out"]) == (1000, 1, 1000)
    assert "bad" in result["by_source"]


async def test_without_the_extra_the_error_says_what_to_install(
    store: Store, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "atlas.collectors.fetch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'atlas-scheduler\[collect\]'"):
        await collection(store, server, "/rss").run()


def test_the_libraries_of_the_extra_are_not_loaded_before_they_are_needed() -> None:
    code = "import sys, atlas.builtin.binding; print({'httpx', 'feedparser'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout.strip() == "set()"


async def test_late_in_a_collection_nothing_is_asked_again(
    store: Store, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect_module, "RETRY_FOR_S", 0.0)
    await collection(store, server, "/busy", "/rss").run()
    assert server.paths().count("/busy") == 1


# --- cleanup ---------------------------------------------------------------------------------------------------------


def test_old_final_tasks_go_with_their_attempts_and_logs(store: Store) -> None:
    old, new = task(ended=NOW - 31 * DAY), task(ended=NOW - 29 * DAY)
    add_tasks(store, old, new)

    def details(connection: Connection) -> None:
        for one in (old, new):
            connection.execute(insert(attempts).values(task_id=one.id, attempt=1, outcome="FAILED", ended_at=0.0))
            connection.execute(
                insert(task_logs).values(task_id=one.id, attempt=1, logged_at=0.0, level="INFO", message="m")
            )

    store.write(details)
    assert delete_final_tasks(store, before=NOW - 30 * DAY, keep=None) == 1
    assert [count(store, table) for table in (tasks, attempts, task_logs)] == [1, 1, 1]
    assert count(store, tasks, tasks.c.id == new.id) == 1


@pytest.mark.parametrize("status", [status for status in TaskStatus if not status.is_final])
def test_an_unfinished_task_is_never_removed(store: Store, status: TaskStatus) -> None:
    add_tasks(store, task(status, ended=NOW - 999 * DAY))
    assert delete_final_tasks(store, before=NOW, keep=0) == 0
    assert delete_final_tasks(store, before=NOW, keep=0, job_id="job") == 0
    assert count(store, tasks) == 1


@pytest.mark.parametrize("status", [status for status in TaskStatus if status.is_final])
def test_every_final_status_is_removed(store: Store, status: TaskStatus) -> None:
    add_tasks(store, task(status, ended=NOW - 2 * DAY))
    assert delete_final_tasks(store, before=NOW - DAY, keep=None) == 1


def test_the_newest_stay_when_only_so_many_may(store: Store) -> None:
    made = [task(ended=NOW - n * DAY) for n in range(10)]
    add_tasks(store, *made)
    assert delete_final_tasks(store, before=None, keep=3) == 7
    left = store.read(lambda connection: set(connection.execute(select(tasks.c.id)).scalars()))
    assert left == {one.id for one in made[:3]}


@settings(max_examples=40)
@given(
    ages=st.lists(st.integers(0, 40), max_size=12),
    days=st.none() | st.integers(0, 40),
    keep=st.none() | st.integers(0, 12),
    by_job=st.booleans(),
    batch=st.integers(1, 4),
)
def test_what_is_removed_is_what_is_too_old_or_too_many(
    ages: list[int], days: int | None, keep: int | None, by_job: bool, batch: int
) -> None:
    store = open_store(None, clock=SetClock())
    try:
        made = [task(ended=NOW - age * DAY, job="a") for age in ages]
        add_tasks(
            store, *made, task(TaskStatus.RUNNING, job="a"), task(ended=NOW - 99 * DAY, job="b") if by_job else task()
        )
        rest = count(store, tasks) - len(made)
        if not by_job:
            made.append(task(ended=NOW))  # stands for the one of "job" above: the newest of all
        newest = sorted(made, key=lambda one: (one.finished_at, one.id), reverse=True)
        gone = {
            one.id
            for place, one in enumerate(newest)
            if (days is not None and one.finished_at is not None and one.finished_at < NOW - days * DAY)
            or (keep is not None and place >= keep)
        }
        rule: dict[str, Any] = {
            "before": None if days is None else NOW - days * DAY,
            "keep": keep,
            "job_id": "a" if by_job else None,
            "batch": batch,
        }
        before = count(store, tasks)
        assert delete_final_tasks(store, dry_run=True, **rule) == len(gone)
        assert count(store, tasks) == before
        assert delete_final_tasks(store, **rule) == len(gone)
        assert count(store, tasks) == before - len(gone)
        assert rest >= 1
        assert delete_final_tasks(store, **rule) == 0
    finally:
        store.close()


def define_job(store: Store, name: str, **limits: Any) -> None:
    """A job's row with nothing but what retention reads of it."""
    state = json.dumps({"keep_days": None, "keep_tasks": None, "catchup_window_s": 3600.0, **limits}).encode()
    add_rows(store, jobs, {"id": name, "job_state": state})


def test_a_job_that_keeps_longer_is_spared_and_one_that_keeps_shorter_is_not(store: Store) -> None:
    define_job(store, "long", keep_days=365)
    define_job(store, "short", keep_days=1)
    define_job(store, "few", keep_tasks=1)
    define_job(store, "plain")
    for name in ("long", "short", "few", "plain"):
        add_tasks(store, *(task(ended=NOW - age * DAY, job=name) for age in (0, 10, 40, 400)))
    assert delete_final_tasks(store, before=NOW - 30 * DAY, keep=None) == 2 * 3  # not those of "long"
    assert enforce_task_limits(store, now=NOW, keep_days=30, keep_tasks=None) == 1 + 1 + 1
    assert per_job(store, tasks) == {"long": 3, "short": 1, "few": 1, "plain": 2}


@settings(max_examples=40)
@given(
    ages=st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 40)), max_size=15),
    general=st.tuples(st.none() | st.integers(0, 40), st.none() | st.integers(0, 10)),
    own=st.tuples(st.none() | st.integers(0, 40), st.none() | st.integers(0, 10)),
)
def test_a_dry_run_counts_what_is_then_removed(
    ages: list[tuple[str | None, int]], general: tuple[int | None, int | None], own: tuple[int | None, int | None]
) -> None:
    store = open_store(None, clock=SetClock())
    try:
        define_job(store, "a", keep_days=own[0], keep_tasks=own[1])
        add_tasks(store, task(), *(task(ended=NOW - age * DAY, job=job) for job, age in ages))
        limits: dict[str, Any] = {"now": NOW, "keep_days": general[0], "keep_tasks": general[1]}
        told = enforce_task_limits(store, dry_run=True, **limits)
        before = count(store, tasks)
        assert enforce_task_limits(store, **limits) == told == before - count(store, tasks)
        days = general[0] if own[0] is None else own[0]
        kept = count(store, tasks, tasks.c.job_id == "a")
        assert own[1] is None or kept <= own[1]
        if days is not None:
            assert not count(store, tasks, tasks.c.job_id == "a", tasks.c.finished_at < (NOW - days * DAY).timestamp())
    finally:
        store.close()


def test_a_job_whose_row_cannot_be_read_has_the_general_limits(store: Store) -> None:
    add_rows(store, jobs, {"id": "x", "job_state": b"\x80garbage"})
    add_tasks(store, task(ended=NOW - 40 * DAY, job="x"))
    assert enforce_task_limits(store, now=NOW, keep_days=30, keep_tasks=None) == 1


def test_tasks_are_removed_a_batch_a_commit_and_one_may_stop_in_between(store: Store) -> None:
    add_tasks(store, *(task(ended=NOW - 40 * DAY) for _ in range(25)))
    commits = store.writer.commits
    calls = 0

    def stop_after_two() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise TaskStopped("cancelled")

    with pytest.raises(TaskStopped):
        delete_final_tasks(store, before=NOW, keep=None, batch=10, between=stop_after_two)
    assert count(store, tasks) == 5
    assert store.writer.commits == commits + 2


def test_the_questions_of_retention_are_answered_by_indexes(store: Store) -> None:
    define_job(store, "spared", keep_days=999, keep_tasks=9)
    asked: list[tuple[str, Any]] = []
    event.listen(store.engine, "before_cursor_execute", lambda *call: asked.append((call[2], call[3])))
    add_tasks(store, *(task(ended=NOW - 40 * DAY) for _ in range(3)))
    asked.clear()
    for job_id in (None, "job"):
        delete_final_tasks(store, before=NOW, keep=1, job_id=job_id, batch=1)
    add_tasks(store, *(task(ended=NOW - 40 * DAY) for _ in range(3)))
    delete_final_tasks(store, before=NOW, keep=None, batch=2)
    plans = []
    for statement, values in [one for one in asked if one[0].startswith(("SELECT tasks", "DELETE"))]:
        explain = partial(Connection.exec_driver_sql, statement=f"EXPLAIN QUERY PLAN {statement}", parameters=values)
        plans += store.read(lambda connection: [row[3] for row in explain(connection)])  # noqa: B023 - called at once
    assert any("tasks_final_by_end" in plan for plan in plans)
    assert any("tasks_by_job" in plan for plan in plans)
    tables = ("tasks", "attempts", "task_logs")
    assert not [
        plan for plan in plans if plan.startswith(tuple(f"SCAN {name}" for name in tables)) and "INDEX" not in plan
    ]


def test_old_fire_times_go_but_never_what_could_still_be_caught_up(store: Store) -> None:
    define_job(store, "patient", catchup_window_s=60 * 86_400.0)
    rows = [
        {"job_id": name, "fire_time": (NOW - age * DAY).timestamp(), "decided_at": NOW.timestamp(), "last": last}
        for name in ("a", "b", "patient")
        for age, last in ((1, None), (40, None), (50, (NOW - DAY).timestamp()), (99, None))
    ]
    add_rows(store, fires, *rows)
    assert delete_old_fires(store, now=NOW, keep_days=30, dry_run=True) == 5
    assert delete_old_fires(store, now=NOW, keep_days=30, batch=1) == 5
    assert per_job(store, fires) == {"a": 2, "b": 2, "patient": 3}


async def test_an_article_that_still_stands_in_its_source_is_not_removed(
    store: Store, server: FeedServer, clock: SetClock
) -> None:
    clock.at = NOW - 60 * DAY
    collecting = collection(store, server, "/rss", "/rdf")
    await collecting.run()
    clock.at = NOW
    server.routes["/rss"] = document(rss(Item("Rates stay", "https://news.example/rates", "n-1")))
    await collecting.run()
    keep = Keep(article_days=30)
    assert cleanup(store=store, keep=keep, clock=clock, collected=["rss", "rdf"])["articles"] == 1
    assert (await collecting.run())["new"] == 0  # what was removed does not come back, what is listed was not removed
    assert cleanup(store=store, keep=keep, clock=clock, collected=["rss"])["articles"] == 1  # rdf is collected no more
    titles = store.read(lambda connection: connection.execute(select(articles.c.title)).scalars().all())
    assert titles == ["Rates stay"]


def add_articles(store: Store, *ages: float) -> None:
    rows = [
        {
            "source": "s",
            "identity": f"i{next(_numbers)}",
            "title": f"{age} days old",
            "fetched_at": (NOW - age * DAY).timestamp(),
            "seen_at": (NOW - age * DAY).timestamp(),
            "content": "",
        }
        for age in ages
    ]
    add_rows(store, articles, *rows)


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (Keep(article_days=30), {0, 1, 29}),
        (Keep(articles=2), {0, 1}),
        (Keep(article_days=30, articles=4), {0, 1, 29}),
        (Keep(), {0, 1, 29, 31, 99}),
    ],
)
def test_articles_go_by_age_and_number(store: Store, clock: SetClock, keep: Keep, left: set[int]) -> None:
    add_articles(store, 0, 1, 29, 31, 99)
    first = cleanup(store=store, keep=keep, clock=clock, collected=[], dry_run=True)
    assert count(store, articles) == 5
    assert cleanup(store=store, keep=keep, clock=clock, collected=[])["articles"] == first["articles"] == 5 - len(left)
    titles = store.read(lambda connection: connection.execute(select(articles.c.title)).scalars().all())
    assert {int(title.split()[0]) for title in titles} == left


def test_two_thousand_articles_are_removed_in_three_commits(store: Store, clock: SetClock) -> None:
    add_articles(store, *(99 for _ in range(2500)))
    commits = store.writer.commits
    assert cleanup(store=store, keep=Keep(article_days=30), clock=clock, collected=[])["articles"] == 2500
    assert store.writer.commits - commits == 3 + 1  # and one look at the tasks


def test_old_reports_go_and_other_files_stay(store: Store, clock: SetClock, tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    names = ["2026-11-23.md", "2026-01-01.md", "2026-01-01.zh.html", "2026-99-99.md", "notes.md", "2026-01-01.md.bak"]
    for name in names:
        (folder / name).touch()
    keep = Keep(report_days=30)
    assert cleanup(store=store, keep=keep, clock=clock, collected=[], reports=folder, dry_run=True)["reports"] == 2
    assert cleanup(store=store, keep=keep, clock=clock, collected=[], reports=folder)["reports"] == 2
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        set(names) - {"2026-01-01.md", "2026-01-01.zh.html"}
    )


def test_a_cancelled_cleanup_stops_after_the_batch(store: Store, clock: SetClock) -> None:
    add_tasks(store, *(task(ended=NOW - 40 * DAY) for _ in range(1500)))
    context = TaskContext(task_id="t", attempt=1)
    context.ask_to_stop("cancelled")
    with pytest.raises(TaskStopped):
        inside(context).run(cleanup, store=store, keep=Keep(), clock=clock, collected=[])
    assert count(store, tasks) == 500


def test_a_step_that_ends_early_is_not_asked_again(store: Store) -> None:
    asked: list[int | None] = []

    def step(_connection: Connection, after: int | None) -> tuple[int, int | None]:
        asked.append(after)
        return 2, {None: 1, 1: 2}.get(after)

    assert in_batches(store, step) == 6
    assert asked == [None, 1, 2]


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        pytest.param(Keep(), 2500, id="no limit"),
        pytest.param(Keep(log_days=1), 1440, id="age"),
        pytest.param(Keep(logs=10), 10, id="number"),
        pytest.param(Keep(log_days=1, logs=2000), 1440, id="both"),
        pytest.param(Keep(log_days=0), 0, id="nothing"),
    ],
)
def test_log_lines_go_by_age_and_number(store: Store, clock: SetClock, keep: Keep, left: int) -> None:
    rows = [
        {
            "task_id": "t",
            "attempt": 1,
            "logged_at": NOW.timestamp() - 60 * (2499 - number) - 1,
            "level": "INFO",
            "message": "m",
        }
        for number in range(2500)  # one a minute, the last a second ago
    ]
    store.write(lambda connection: connection.execute(insert(task_logs), rows))
    for dry_run in (True, False):
        removed = cleanup(store=store, keep=keep, clock=clock, collected=[], dry_run=dry_run)
        assert removed["log_lines"] == 2500 - left
    assert count(store, task_logs) == left
    assert count(store, task_logs, task_logs.c.logged_at == rows[-1]["logged_at"]) == (left > 0)


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        pytest.param(Keep(), (9, 9, 9), id="no limit"),
        pytest.param(Keep(audit_days=3, revision_days=3), (3, 3, 3), id="age"),
        pytest.param(Keep(audit_lines=2, revisions=4), (2, 4, 9), id="number"),
        pytest.param(Keep(audit_days=0, revision_days=0), (0, 1, 1), id="nothing but what is in force or unanswered"),
    ],
)
def test_audit_revisions_and_answered_requests_go_by_age_and_number(
    store: Store, clock: SetClock, tmp_path: Path, keep: Keep, left: tuple[int, int, int]
) -> None:
    keep_one = partial(keep_revision, file=tmp_path / "jobs.json", summary="", text="{}")

    def write(connection: Connection) -> None:
        for age in range(8, -1, -1):
            at = NOW - age * DAY - timedelta(seconds=1)
            request = ask(connection, at=at, by="cli:me", action=Action.APPLY, digest=f"d{age}")
            asked = next(one for one in open_requests(connection) if one.id == request)
            if age:
                keep_one(connection, at=at, by="cli:me", digest=f"d{age}", asked=asked)
        keep_one(connection, at=NOW - timedelta(milliseconds=1), by="file", digest="new", asked=None)

    store.write(write)
    in_force = store.read(latest_revision)
    tables = (audit, revisions, config_requests)
    for dry_run in (True, False):
        removed = cleanup(store=store, keep=keep, clock=clock, collected=[], dry_run=dry_run)
        told = tuple(9 - removed[name] for name in ("audit_lines", "revisions", "requests"))
        assert told == left
        assert tuple(count(store, table) for table in tables) == ((9, 9, 9) if dry_run else left)
    assert store.read(latest_revision) == in_force
    assert len(store.read(open_requests)) == 1


def test_only_the_newest_days_keep_their_reports(store: Store, clock: SetClock, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    for day in ("2026-11-20", "2026-11-21", "2026-11-22"):
        for end in (".md", ".html", ".zh.html"):
            (reports / f"{day}{end}").touch()
    (reports / "2026-11-19-notes.md").touch()
    removed = cleanup(store=store, keep=Keep(reports=1), clock=clock, collected=[], reports=reports)
    assert removed["reports"] == 6
    assert sorted(file.name for file in reports.iterdir()) == [
        "2026-11-19-notes.md", "2026-11-22.html", "2026-11-22.md", "2026-11-22.zh.html",
    ]  # fmt: skip


# --- health ----------------------------------------------------------------------------------------------------------


class Running:
    """A scheduler that says what a test wants."""

    def __init__(self) -> None:
        self.tick_s: float | None = 1.0
        self.config: str | None = None
        self.drift: str | None = None
        self.jobs: list[Job] = []
        self.befell: list[Trouble] = []
        self.figures: dict[str, Any] = {"state": "running", "queue_size": 0, "running_tasks": 0, "max_workers": 4}

    def get_queue_status(self) -> Mapping[str, Any]:
        return self.figures

    def last_tick_s(self) -> float | None:
        return self.tick_s

    def troubles(self) -> Sequence[Trouble]:
        return self.befell

    def config_error(self) -> str | None:
        return self.config

    def config_drift(self) -> str | None:
        return self.drift

    def get_jobs(self) -> Sequence[Job]:
        return self.jobs


def a_job(state: JobState = JobState.ACTIVE, name: str = "j", **more: Any) -> Job:
    return Job(name=name, title=name, state=state, **more)


def test_an_edit_that_waits_and_a_pause_are_told(store: Store, tmp_path: Path) -> None:
    running, clock = Running(), SetClock(NOW)
    running.drift = "the file differs from revision 3"
    running.jobs = [a_job(JobState.PAUSED, "sync", detail="by cli:lin until tomorrow: 搬家"), a_job()]
    found = looked_at(store, running, clock, tmp_path)
    assert (found["config"]["status"], found["config"]["detail"]) == ("degraded", "the file differs from revision 3")
    assert found["jobs"]["status"] == "ok"
    assert found["jobs"]["detail"] == "2 jobs, 1 active; 1 paused: sync (by cli:lin until tomorrow: 搬家)"


def stepped(**ago: float) -> Trouble:
    return Trouble(NOW - timedelta(**ago), SchedulerEventKind.CLOCK_STEPPED, "the wall clock was set back by 1h")


def looked_at(store: Store, running: Running, clock: SetClock, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The checks by name, and the whole under ``""``."""
    result = health(store=store, source=running, clock=clock, folder=tmp_path, collected=["s"])
    return {"": result, **{check["name"]: check for check in result["checks"]}}


@pytest.fixture(autouse=True)
def _roomy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "LOW_DISK", (0, 0))
    monkeypatch.setattr(health_module, "LOW_MEMORY", (0.0, 0.0))


def test_a_well_scheduler_is_ok_in_every_respect(store: Store, clock: SetClock, tmp_path: Path) -> None:
    checks = looked_at(store, Running(), clock, tmp_path)
    assert checks[""]["status"] == "ok"
    assert {name for name in checks if name} == {
        "store", "scheduler", "config", "queue", "threads", "jobs", "sources", "disk", "memory",
    }  # fmt: skip
    assert all(check["remedy"] == "" for name, check in checks.items() if name)
    assert re.fullmatch(r"read \d+\.\d ms, write \d+\.\d ms", checks["store"]["detail"])
    assert count(store, sources) == 0


@pytest.mark.parametrize(
    ("change", "name", "status", "detail"),
    [
        ({"tick_s": 90.0}, "scheduler", "degraded", "90.0 s ago"),
        ({"tick_s": 999.0}, "scheduler", "failing", "999.0 s ago"),
        ({"tick_s": None}, "scheduler", "ok", "no clock runs"),
        ({"befell": [stepped(minutes=5)]}, "scheduler", "degraded", "in the last hour: 2"),
        ({"befell": [stepped(minutes=61)]}, "scheduler", "ok", "last looked for due jobs 1.0 s ago"),
        ({"config": "cron_jobs.json:3:5: bad"}, "config", "degraded", "cron_jobs.json:3:5"),
        ({"abandoned_threads": 1}, "threads", "degraded", "1 threads were abandoned"),
        ({"abandoned_threads": 4}, "threads", "failing", "4 threads"),
        (
            {"oldest_wait_s": {"URGENT": 61.0}, "by_priority": {"URGENT": 7}},
            "queue", "degraded", "URGENT 7, oldest 61 s",
        ),
        ({"oldest_wait_s": {"LOW": 3500.0}}, "queue", "ok", "LOW 0, oldest 3500 s"),
        ({"store_fault": "disk full"}, "queue", "failing", "no work starts: disk full"),
        ({"state": "stopped"}, "queue", "failing", "not started"),
        ({"jobs": [a_job(JobState.UNBOUND, detail="no f")]}, "jobs", "degraded", "j (function missing: no f)"),
        ({"jobs": [a_job(JobState.PARKED)]}, "jobs", "degraded", "row cannot be read"),
        ({"jobs": [a_job(next_run_at=NOW - timedelta(minutes=9))]}, "jobs", "failing", "j (due 540 s ago)"),
        ({"jobs": [a_job(JobState.PAUSED, next_run_at=NOW - DAY)]}, "jobs", "ok", "1 jobs, 0 active"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_a_remedy(
    store: Store, clock: SetClock, tmp_path: Path, change: dict[str, Any], name: str, status: str, detail: str
) -> None:
    running = Running()
    for key, value in change.items():
        if hasattr(running, key):
            setattr(running, key, value)
        else:
            running.figures[key] = value
    checks = looked_at(store, running, clock, tmp_path)
    assert (checks[name]["status"], checks[""]["status"]) == (status, status)
    assert detail in checks[name]["detail"]
    assert bool(checks[name]["remedy"]) is (status != "ok")


def test_a_job_whose_last_three_tasks_failed_is_failing(store: Store, clock: SetClock, tmp_path: Path) -> None:
    ago = [NOW - timedelta(hours=hours) for hours in range(5)]
    add_tasks(
        store,
        *(task(TaskStatus.FAILED, ended=at, job="bad") for at in ago[:2]),
        task(TaskStatus.CANCELLED, ended=ago[2], job="bad"),
        task(TaskStatus.TIMEOUT, ended=ago[3], job="bad"),
        *(task(TaskStatus.FAILED, ended=at, job="recovered") for at in ago[1:]),
        task(ended=ago[0], job="recovered"),
        *(task(TaskStatus.FAILED, ended=at, job="rare") for at in ago[:2]),
    )
    assert store.read(lambda connection: failing_jobs(connection, (NOW - DAY).timestamp())) == ["bad"]
    running = Running()
    running.jobs = [a_job(name=name) for name in ("bad", "recovered", "rare")]
    checks = looked_at(store, running, clock, tmp_path)
    assert checks["jobs"]["detail"] == "1 failing: bad (its last 3 tasks did not succeed)"


def test_a_source_that_keeps_failing_is_named_while_it_is_collected(
    store: Store, clock: SetClock, tmp_path: Path
) -> None:
    rows = [{"name": name, "address": "", "failures": 3, "last_error": "404"} for name in ("s", "no longer collected")]
    add_rows(store, sources, *rows)
    checks = looked_at(store, Running(), clock, tmp_path)
    assert checks["sources"]["detail"] == "1 keep failing: s (3 times: 404)"


def test_a_check_that_cannot_look_hides_no_other(store: Store, clock: SetClock, tmp_path: Path) -> None:
    running = Running()
    running.figures = {}
    checks = looked_at(store, running, clock, tmp_path)
    assert checks["queue"]["status"] == "failing"
    assert "KeyError" in checks["queue"]["detail"]
    assert checks["store"]["status"] == "ok"


def test_a_full_disk_and_scarce_memory_are_seen(
    store: Store, clock: SetClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "LOW_DISK", (10**18, 0))
    monkeypatch.setattr(health_module, "LOW_MEMORY", (2.0, 1.5))
    checks = looked_at(store, Running(), clock, tmp_path)
    assert (checks["disk"]["status"], checks["memory"]["status"]) == ("degraded", "failing")


# --- report ----------------------------------------------------------------------------------------------------------


def written(store: Store, clock: SetClock, tmp_path: Path, **more: Any) -> tuple[dict[str, Any], str, str]:
    """The result, the Markdown and the HTML of yesterday in Shanghai (23 November)."""
    result = report(store=store, clock=clock, zone=SHANGHAI, folder=tmp_path / "reports", host="atlas-01", **more)
    markdown, page = ((tmp_path / "reports" / name.rsplit("/", 1)[1]).read_text() for name in result["files"])
    return result, markdown, page


@pytest.fixture
def busy_day(store: Store) -> None:
    """23 November in Shanghai: from 22 November 16:00 UTC on."""
    start = datetime(2026, 11, 22, 16, tzinfo=UTC)
    error = 'Traceback …\n  File "x.py"\nRateLimitError: 429 Too Many Requests, retry in {n} s\n'
    add_tasks(
        store,
        *(task(ended=start + timedelta(minutes=30 * n), job="collect", took_s=10.0 + n) for n in range(40)),
        *(task(ended=start + timedelta(hours=n), job="embed", failures=1) for n in range(3)),
        *(
            task(
                TaskStatus.FAILED,
                ended=start + timedelta(hours=14, minutes=n),
                job="llm",
                failures=4,
                error=error.format(n=n),
            )
            for n in range(5)
        ),
        task(TaskStatus.CANCELLED, ended=start, job="embed"),
        task(TaskStatus.FAILED, ended=start - timedelta(seconds=1), job="the day before", error="E: no"),
        task(TaskStatus.SUCCESS, ended=start + DAY, job="the day after"),
        task(TaskStatus.RUNNING, job="unfinished"),
    )
    add_articles(store, 0.5, 0.6, 9)


def test_a_report_tells_what_happened_and_what_to_look_into(
    store: Store, clock: SetClock, tmp_path: Path, busy_day: None
) -> None:
    result, markdown, page = written(store, clock, tmp_path)
    assert (result["day"], result["tasks"], result["success_rate"]) == ("2026-11-23", 49, 89.58)
    assert [name.rsplit("/", 1)[1] for name in result["files"]] == ["2026-11-23.md", "2026-11-23.html"]
    assert "# Daily report, Monday 23 November 2026" in markdown
    assert (
        "49 tasks ended, 5 did not succeed. **llm** caused 5 of them, all with the same error since 14:00." in markdown
    )
    assert "Everything else is normal." in markdown
    assert "1. **llm**: `RateLimitError: 429 Too Many Requests, retry in 0 s` 5 times, 14:00 to 14:04" in markdown
    assert "| collect | 40 |  |  | 100 % | 29.0 s | 47.0 s |" in markdown
    assert "| llm | 5 | 5 |  | 0 % |" in markdown
    assert "3 of 8" in markdown
    assert "the day" not in markdown + page
    assert "unfinished" not in markdown + page
    assert "tasks, +48" in page
    assert "| s | 2 |" in markdown


def test_the_page_is_whole_needs_nothing_else_and_escapes_what_it_shows(
    store: Store, clock: SetClock, tmp_path: Path
) -> None:
    at = datetime(2026, 11, 23, 1, tzinfo=UTC)
    add_tasks(store, task(TaskStatus.FAILED, ended=at, job="<img src=x onerror=alert(1)>|`*", error="E: <script>|`\n"))
    _result, markdown, page = written(store, clock, tmp_path)
    assert "<img" not in page
    assert "<script" not in page
    assert r"\<img src=x onerror=alert(1)\>\|\`\*" in markdown
    assert not re.search(r"url\(|@import|https?:", page)
    open_tags: list[str] = []

    class Balanced(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert not {name for name, _value in attrs} & {"src", "href", "onerror"}
            if tag != "meta":
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            """Closed at once."""

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Balanced().feed(page.removeprefix("<!doctype html>"))
    assert open_tags == []


def test_a_report_speaks_chinese(store: Store, clock: SetClock, tmp_path: Path, busy_day: None) -> None:
    result, markdown, page = written(store, clock, tmp_path, language="zh")
    assert [name.rsplit("/", 1)[1] for name in result["files"]] == ["2026-11-23.zh.md", "2026-11-23.zh.html"]
    assert "# 日报，2026年11月23日 星期一" in markdown
    assert (
        "结束了 49 个任务，其中 5 个未成功。其中 5 个来自 **llm**，自 14:00 起都是同一个错误。其余一切正常。"
        in markdown
    )
    assert '<html lang="zh">' in page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_day_on_which_nothing_happened_has_a_report(
    store: Store, clock: SetClock, tmp_path: Path, language: str
) -> None:
    result, markdown, page = written(store, clock, tmp_path, language=language)
    assert (result["tasks"], result["success_rate"]) == (0, 0.0)
    assert WORDS[language].nothing in markdown
    assert "<svg" not in page
    assert "–" in markdown


def test_a_report_is_private_and_replaces_the_older_one(store: Store, clock: SetClock, tmp_path: Path) -> None:
    for _ in range(2):
        written(store, clock, tmp_path, day="2026-11-20")
    files = sorted((tmp_path / "reports").iterdir())
    assert [file.name for file in files] == ["2026-11-20.html", "2026-11-20.md"]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        (None, date(2026, 11, 23)),
        ("yesterday", date(2026, 11, 23)),
        ("today", date(2026, 11, 24)),
        ("2026-01-02", date(2026, 1, 2)),
    ],
)
def test_a_day_has_a_name_or_a_date(text: str | None, day: date) -> None:
    assert day_named(text, date(2026, 11, 24)) == day


@pytest.mark.parametrize("bad", [{"day": "tomorrowish"}, {"day": "2026-02-30"}, {"day": 20261123}, {"language": "fr"}])
def test_what_is_no_day_or_language_is_refused(
    store: Store, clock: SetClock, tmp_path: Path, bad: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentsError):
        written(store, clock, tmp_path, **bad)


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        (date(2026, 3, 29), "Europe/Berlin", 23),
        (date(2026, 10, 25), "Europe/Berlin", 25),
        (date(2017, 10, 15), "America/Sao_Paulo", 23),  # its midnight does not exist
        (date(2026, 11, 23), "Asia/Shanghai", 24),
    ],
)
def test_a_day_is_as_long_as_its_zone_makes_it(day: date, zone: str, hours: int) -> None:
    place = ZoneInfo(zone)
    assert (midnight(day + DAY, place) - midnight(day, place)) == timedelta(hours=hours)
    assert midnight(day, place).astimezone(place).date() == day


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (100.0, "100 %"), (99.96, "99.9 %"), (98.25, "98.2 %"), (0.0, "0 %"), (89.583, "89.5 %")],
)
def test_a_rate_is_never_rounded_up_to_perfect(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(4, 0, "+4"), (-0.9, 1, "−0.9"), (0.04, 1, "±0"), (-1234, 0, "−1,234")]
)
def test_a_change_has_its_sign(value: float, digits: int, text: str) -> None:
    assert change(value, digits) == text


@pytest.mark.parametrize(
    ("seconds", "en", "zh"),
    [(None, "–", "–"), (0.31, "0.31 s", "0.31 秒"), (52.0, "52.0 s", "52.0 秒"), (59.96, "1m 00s", "1 分 00 秒"),
     (171.4, "2m 51s", "2 分 51 秒"), (3840.0, "1h 04m", "1 小时 04 分")],
)  # fmt: skip
def test_a_duration_is_said_in_two_units_at_most(seconds: float | None, en: str, zh: str) -> None:
    assert (WORDS["en"].duration(seconds), WORDS["zh"].duration(seconds)) == (en, zh)


@pytest.mark.parametrize(
    ("values", "part", "result"),
    [
        ([], 0.5, None),
        ([1.0], 0.95, 1.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([float(n) for n in range(100)], 0.95, 94.0),
    ],
)
def test_a_share_is_a_value_that_occurred(values: list[float], part: float, result: float | None) -> None:
    assert share(values, part) == result


def test_a_spark_line_shows_the_smallest_and_leaves_out_nothing_else() -> None:
    assert sparkline([0, 1, 50, 100]) == " ▁▄█"
    assert sparkline([0, 0]) == "  "


@pytest.mark.parametrize(
    ("error", "line"), [("a\nb\n\n", "b"), (None, ""), ("", ""), ("x\x1b[31m", "x [31m"), ("e" * 999, "e" * 159 + "…")]
)
def test_the_last_line_says_what_happened(error: str | None, line: str) -> None:
    assert last_line(error) == line


# --- the registry ----------------------------------------------------------------------------------------------------


async def test_the_built_in_functions_work_by_name_and_by_the_documented_job_ids(
    store: Store, server: FeedServer, clock: SetClock, tmp_path: Path
) -> None:
    source = Source(name="rss", url=server.base + "/rss")
    made = Settings(collect=CollectSettings(sources=(source,), allow_hosts=("127.0.0.1",))).anchored(tmp_path)
    registry = Registry()
    bind_builtins(registry, store=store, settings=made, health_source=Running(), clock=clock)
    assert set(registry.names()) == {*ALIASES, *ALIASES.values()}
    found = {name: registry.find(name) for name in registry.names()}
    for name, alias in ALIASES.items():
        assert found[alias].call is found[name].call
        assert registry.name_of(found[alias].call) == name
    assert (await found["data_collection"].call())["new"] == 2
    assert found["system_cleanup"].call(dry_run=True) == {
        "tasks": 0,
        "fires": 0,
        "log_lines": 0,
        "audit_lines": 0,
        "revisions": 0,
        "requests": 0,
        "articles": 0,
        "reports": 0,
        "dry_run": True,
    }
    assert found["health_check"].call()["status"] == "ok"
    assert found["daily_report"].call(day="today", language="zh")["files"][0].startswith(str(tmp_path / "reports"))
    assert found["collect"].is_async
    assert found["report"].refusal([], {"days": 1})
