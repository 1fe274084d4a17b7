"""`cleanup`: what has stayed long enough goes, in short commits, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, insert, select

from atlas.builtin.cleanup import Keep, cleanup
from atlas.scheduler.context import TaskContext
from atlas.scheduler.definition import JobDefinition, JobPolicies, JobSource
from atlas.scheduler.definition_text import text_of
from atlas.scheduler.errors import TaskStopped
from atlas.scheduler.schedule import Schedule
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
    task_logs,
    tasks,
)
from atlas.scheduler.task import TaskStatus
from atlas.scheduler.testing.clocks import SetClock
from tests.builtin.rows import (
    DAY,
    NOW,
    add_articles,
    add_rows,
    add_tasks,
    collection,
    count,
    inside,
    per_job,
    task,
)
from tests.feed_server import FeedServer, Item, document, rss

if TYPE_CHECKING:
    from pathlib import Path

    from atlas.scheduler.store.store import Store


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
    store = open_store(None, clock=SetClock(NOW))
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
    """A job's row."""
    definition = JobDefinition(
        id=name,
        source=JobSource.FILE,
        title=name,
        schedule=Schedule(cron=("@daily",)),
        function="nothing",
        policies=JobPolicies(**limits),
    )
    add_rows(store, jobs, {"id": name, "job_state": text_of(definition).encode()})


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
    store = open_store(None, clock=SetClock(NOW))
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
    clock.instant = NOW - 60 * DAY
    collecting = collection(store, server, "/rss", "/rdf")
    await collecting.run()
    clock.instant = NOW
    server.routes["/rss"] = document(rss(Item("Rates stay", "https://news.example/rates", "n-1")))
    await collecting.run()
    keep = Keep(article_days=30)
    assert cleanup(store=store, keep=keep, clock=clock, collected=["rss", "rdf"])["articles"] == 1
    assert (await collecting.run())["new"] == 0  # what was removed does not come back, what is listed was not removed
    assert cleanup(store=store, keep=keep, clock=clock, collected=["rss"])["articles"] == 1  # rdf is collected no more
    titles = store.read(lambda connection: connection.execute(select(articles.c.title)).scalars().all())
    assert titles == ["Rates stay"]


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


def test_reports_stay_by_the_days_they_tell_of(store: Store, clock: SetClock, tmp_path: Path) -> None:
    folder, here = tmp_path / "reports", ZoneInfo("Pacific/Pago_Pago")
    folder.mkdir()
    today = clock.now().astimezone(here).date()
    assert today < clock.now().date()
    days = [str(today - timedelta(days=past)) for past in range(5)]
    for day in days:
        (folder / f"{day}.md").touch()
    keep = Keep(report_days=2)
    assert cleanup(store=store, keep=keep, clock=clock, collected=[], zone=here, reports=folder)["reports"] == 2
    assert sorted(file.stem for file in folder.iterdir()) == sorted(days[:3])


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
