"""`StatusManager`: hand-moved tasks, figures, queries, cleanup, and the readable `.json` copy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, select, update

from atlas.scheduler import snapshot as snapshot_module
from atlas.scheduler.errors import (
    ArgumentsError,
    ConfigError,
    DuplicateTaskError,
    TransitionError,
    UnknownTaskError,
)
from atlas.scheduler.events import TaskEvent
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.snapshot import MAX_TASKS, write_private
from atlas.scheduler.status import StatusManager
from atlas.scheduler.store import task_queries
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.store.tables import counters, tasks
from atlas.scheduler.task import FINAL, MOVES, Origin, TaskStatus
from atlas.scheduler.testing.clocks import SetClock
from tests.clockwork import START
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Book:
    """A status manager on a set time, and its files."""

    def __init__(self, folder: Path) -> None:
        self.file, self.database = folder / "status.json", folder / "status.db"
        self.clock = SetClock(START)
        self.open()

    def open(self, **options: Any) -> None:
        self.store = open_store(self.database, clock=self.clock)
        self.status = StatusManager(self.file, store=self.store, **options)

    def close(self) -> None:
        self.status.close()
        self.store.close()

    def restart(self) -> None:
        self.close()
        self.open()

    def pass_by(self, seconds: float) -> None:
        self.clock.instant += timedelta(seconds=seconds)

    def run(self, task_id: str, seconds: float = 1.0, *, job: str | None = None, end: str = "complete_task") -> None:
        """One task from its creation to its end."""
        self.status.create_task(task_id, task_id, max_retries=0, job_id=job)
        self.status.start_task(task_id)
        self.pass_by(seconds)
        getattr(self.status, end)(task_id)

    def shown(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.file.read_text("utf-8"))
        return content


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path)
    yield made
    made.close()


@pytest.fixture
def status(book: Book) -> StatusManager:
    return book.status


# --- the documented example ------------------------------------------------------------------------------------------


def test_the_documented_example(tmp_path: Path) -> None:
    status_manager = StatusManager(tmp_path / "task_status.json")
    task = status_manager.create_task(
        task_id="collect_news", task_name="新闻采集任务", priority="normal", max_retries=3
    )
    assert (task.id, task.name, task.status, task.priority.name) == (
        "collect_news", "新闻采集任务", "PENDING", "NORMAL",
    )  # fmt: skip
    status_manager.start_task("collect_news")
    status_manager.complete_task("collect_news", {"items": 50})
    metrics = status_manager.get_metrics()
    assert (metrics.total_tasks, metrics.success_rate) == (1, 100.0)
    assert metrics.average_duration_s is not None
    status_manager.close()
    assert (tmp_path / "task_status.db").exists()
    shown = json.loads((tmp_path / "task_status.json").read_text("utf-8"))
    assert shown["tasks"][0]["result"] == {"items": 50}


def test_a_task_is_on_disk_when_each_call_returns(book: Book, status: StatusManager) -> None:
    status.create_task("t", "t")
    for call, expected in (("start_task", "RUNNING"), ("complete_task", "SUCCESS")):
        getattr(status, call)("t")
        found = book.store.read(lambda connection: connection.execute(select(tasks.c.status)).scalar_one())
        assert found == expected
        assert status.get_task("t").status == expected


# --- moves -----------------------------------------------------------------------------------------------------------

VERBS: dict[str, dict[TaskStatus, TaskStatus]] = {
    "start_task": {TaskStatus.PENDING: TaskStatus.RUNNING, TaskStatus.RETRYING: TaskStatus.RUNNING},
    "complete_task": {TaskStatus.RUNNING: TaskStatus.SUCCESS},
    "cancel_task": {
        TaskStatus.PENDING: TaskStatus.CANCELLED,
        TaskStatus.RUNNING: TaskStatus.CANCELLED,
        TaskStatus.RETRYING: TaskStatus.CANCELLED,
    },
    "timeout_task": {TaskStatus.RUNNING: TaskStatus.RETRYING},
    "fail_task": {TaskStatus.RUNNING: TaskStatus.RETRYING},
}
WAYS: dict[TaskStatus, list[tuple[str, dict[str, Any]]]] = {
    TaskStatus.PENDING: [],
    TaskStatus.RUNNING: [("start_task", {})],
    TaskStatus.SUCCESS: [("start_task", {}), ("complete_task", {})],
    TaskStatus.FAILED: [("start_task", {}), ("fail_task", {"retry": False})],
    TaskStatus.TIMEOUT: [("start_task", {}), ("timeout_task", {"retry": False})],
    TaskStatus.CANCELLED: [("cancel_task", {})],
    TaskStatus.RETRYING: [("start_task", {}), ("fail_task", {})],
}


def test_every_verb_goes_only_where_it_may_from_every_status(status: StatusManager) -> None:
    """The full product of 7 statuses and 5 verbs."""
    for start, way in WAYS.items():
        for verb, moves in VERBS.items():
            task_id = f"{start}-{verb}"
            status.create_task(task_id, "t")
            for step, options in way:
                getattr(status, step)(task_id, **options)
            assert status.get_task(task_id).status is start
            if start in moves:
                assert moves[start] in MOVES[start] or (start, moves[start]) == (
                    TaskStatus.RETRYING,
                    TaskStatus.RUNNING,
                )
                assert getattr(status, verb)(task_id).status is moves[start]
            else:
                with pytest.raises(TransitionError, match=f"cannot go from {start}"):
                    getattr(status, verb)(task_id)
                assert status.get_task(task_id).status is start


def test_failures_are_retried_until_max_retries_and_then_final(book: Book, status: StatusManager) -> None:
    status.create_task("t", "t", max_retries=2)
    seen = []
    for number in range(3):
        status.start_task("t")
        book.pass_by(2)
        seen.append(status.fail_task("t", ValueError(f"number {number}")).status)
    assert seen == ["RETRYING", "RETRYING", "FAILED"]
    task = status.get_task("t")
    assert (task.attempt, task.failures, task.error, task.cause) == (3, 3, "number 2", "error")
    kept = status.get_attempts("t")
    assert [(one["attempt"], one["outcome"], one["error"]) for one in kept] == [
        (1, "error", "number 0"),
        (2, "error", "number 1"),
    ]
    assert kept[0]["ended_at"] - kept[0]["started_at"] == timedelta(seconds=2)


@pytest.mark.parametrize(("end", "final"), [("fail_task", "FAILED"), ("timeout_task", "TIMEOUT")])
def test_a_failure_that_is_not_to_be_retried_is_final(status: StatusManager, end: str, final: str) -> None:
    status.create_task("t", "t", max_retries=9)
    status.start_task("t")
    assert getattr(status, end)("t", "broken", retry=False).status == final


@pytest.mark.parametrize(
    "call", ["start_task", "complete_task", "fail_task", "timeout_task", "cancel_task", "get_task"]
)
def test_an_unknown_task_is_an_error_that_names_it(status: StatusManager, call: str) -> None:
    with pytest.raises(UnknownTaskError, match="nobody") as caught:
        getattr(status, call)("nobody")
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        pytest.param({"新": [1, None]}, {"新": [1, None]}, id="JSON"),
        pytest.param(None, None, id="nothing"),
        pytest.param(object(), "omitted", id="an object"),
        pytest.param(float("nan"), "omitted", id="NaN"),
        pytest.param("x" * 70_000, "omitted", id="over 64 kB"),
    ],
)
def test_a_result_is_kept_if_it_is_json_of_at_most_64_kb(status: StatusManager, result: Any, kept: Any) -> None:
    status.create_task("t", "t")
    status.start_task("t")
    status.complete_task("t", result)
    task = status.get_task("t")
    assert (task.result_omitted, task.value) == ((True, None) if kept == "omitted" else (False, kept))


def test_an_error_text_is_cut_and_made_fit_for_a_row(status: StatusManager) -> None:
    status.create_task("t", "t")
    status.start_task("t")
    status.fail_task("t", "\0\ud800" + "长" * 9000)
    error = status.get_task("t").error
    assert error is not None
    assert len(error.encode()) <= 8192
    assert "\0" not in error


@pytest.mark.parametrize("task_id", ["", "a\nb", "a\0b", "a\ud800", "x" * 192, 5], ids=ascii)
def test_an_id_that_no_row_can_hold_is_refused(status: StatusManager, task_id: Any) -> None:
    with pytest.raises(ArgumentsError, match=r"task_id .* is not 1 to 191 printable characters"):
        status.create_task(task_id, "t")
    with pytest.raises(ArgumentsError, match="job_id" if task_id else "task_id"):
        status.create_task("t" if task_id else "", "t", job_id=task_id)
    with pytest.raises(UnknownTaskError):
        status.get_task(task_id)


def test_a_name_may_be_any_text(status: StatusManager) -> None:
    status.create_task("t", "两行\n\0\ud800")
    assert status.get_task("t").name.startswith("两行\n")
    nothing: Any = None
    with pytest.raises(ArgumentsError, match="task_name None is no text"):
        status.create_task("u", nothing)


def test_another_priority_is_refused(status: StatusManager) -> None:
    assert status.create_task("t", "t", priority="uRgEnT").priority == 0
    with pytest.raises(ArgumentsError, match="URGENT, HIGH, NORMAL, LOW"):
        status.create_task("u", "u", priority="soon")


def test_every_move_is_told_behind_its_commit(book: Book, status: StatusManager) -> None:
    told: list[Any] = []
    book.store.events.subscribe(told.append)
    book.run("t", 3.0, job="news")
    assert book.store.events.drain()
    assert [(one.status, one.attempt) for one in told] == [("PENDING", 0), ("RUNNING", 1), ("SUCCESS", 1)]
    assert isinstance(told[-1], TaskEvent)
    assert (told[-1].duration_s, told[-1].job_id, told[-1].at) == (3.0, "news", book.clock.instant)


def test_a_move_is_told_with_its_time_and_where_it_came_from(book: Book, status: StatusManager) -> None:
    told: list[Any] = []
    book.store.events.subscribe(told.append)
    status.create_task("t", "t", max_retries=1)
    moves: list[Callable[[str], object]] = [status.start_task, status.fail_task, status.start_task, status.cancel_task]
    for move in moves:
        book.pass_by(2.0)
        move("t")
    assert book.store.events.drain()
    assert [(one.was, one.status, (one.at - START).total_seconds(), one.duration_s) for one in told] == [
        ("PENDING", "PENDING", 0.0, None),
        ("PENDING", "RUNNING", 2.0, None),
        ("RUNNING", "RETRYING", 4.0, 2.0),
        ("RETRYING", "RUNNING", 6.0, None),
        ("RUNNING", "CANCELLED", 8.0, 2.0),
    ]


def test_many_threads_may_move_their_tasks_at_once(book: Book, status: StatusManager) -> None:
    def work(number: int) -> None:
        book.run(f"t{number}", 0.0)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(80)))
    assert status.get_metrics().by_status[TaskStatus.SUCCESS] == 80


def test_one_of_many_threads_wins_a_move(status: StatusManager) -> None:
    status.create_task("t", "t")

    def start(_number: int) -> bool:
        try:
            status.start_task("t")
        except TransitionError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(8))) == 1
    assert status.get_task("t").attempt == 1


# --- a second task of the same id ------------------------------------------------------------------------------------


def test_a_final_task_is_replaced_and_its_outcome_still_counts(book: Book, status: StatusManager) -> None:
    book.run("t", 1.0)
    book.run("t", 3.0, end="fail_task")
    assert status.create_task("t", "third").attempt == 0
    assert len(status.get_tasks()) == 1
    assert status.get_attempts("t") == []
    metrics = status.get_metrics()
    assert (metrics.total_tasks, metrics.success_rate) == (3, 50.0)
    assert (metrics.min_duration_s, metrics.max_duration_s, metrics.average_duration_s) == (1.0, 3.0, 2.0)
    book.restart()
    assert book.status.get_metrics() == metrics


def test_an_unfinished_task_of_a_living_owner_is_in_the_way(status: StatusManager) -> None:
    status.create_task("t", "t")
    with pytest.raises(DuplicateTaskError, match=r"its process lives.*cancel_task\('t'\) ends it"):
        status.create_task("t", "t")
    status.cancel_task("t")
    status.create_task("t", "t")


def own_by(store: Store, owner: str | None) -> None:
    store.write(lambda connection: connection.execute(update(tasks).values(owner=owner)))


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def host_of(owner: str) -> str:
    return owner.rsplit(":", 2)[0]


def began(pid: int) -> str:
    if not Path("/proc/self/stat").exists():
        pytest.skip("the system does not tell when a process began")
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


OWNERS: dict[str, tuple[Callable[[str], str | None], bool]] = {
    "this process": (lambda mine: mine, True),
    "a living process of this host": (lambda mine: f"{host_of(mine)}:{os.getppid()}:0a", True),
    "a process of another host": (lambda _mine: "elsewhere:1:0a", True),
    "a process that began when it did": (lambda mine: f"{host_of(mine)}:{os.getppid()}:0a-{began(os.getppid())}", True),
    "one whose id another has by now": (
        lambda mine: f"{host_of(mine)}:{os.getppid()}:0a-1{began(os.getppid())}",
        False,
    ),
    "a dead process of this host": (lambda mine: f"{host_of(mine)}:{dead_pid()}:0a", False),
    "an earlier process with this id": (lambda mine: f"{host_of(mine)}:{os.getpid()}:0a", False),
    "nobody": (lambda _mine: None, False),
}


@pytest.mark.parametrize(("owner", "lives"), OWNERS.values(), ids=OWNERS)
def test_an_unfinished_task_is_lost_when_its_owner_is_dead(
    book: Book, status: StatusManager, owner: Callable[[str], str | None], lives: bool
) -> None:
    status.create_task("t", "old", job_id="news")
    status.start_task("t")
    own_by(book.store, owner(book.store.owner))
    if lives:
        with pytest.raises(DuplicateTaskError):
            status.create_task("t", "new")
        return
    told: list[Any] = []
    assert book.store.events.drain()  # what is told late of the old one is not meant
    book.store.events.subscribe(told.append)
    assert status.create_task("t", "new").status is TaskStatus.PENDING
    assert book.store.events.drain()
    assert [(one.status, one.cause) for one in told] == [("FAILED", "lost"), ("PENDING", None)]
    assert status.get_metrics("news").failed_tasks == 1
    assert status.get_metrics().total_tasks == 2
    before = status.get_metrics()
    book.restart()
    assert book.status.get_metrics() == before


def test_a_task_of_the_queue_is_not_moved_by_hand(tmp_path: Path) -> None:
    with StatusManager(tmp_path / "status.json") as status:
        queue = TaskQueue(store=status.store)
        with queue.sync as running:
            task_id = running.submit(lambda: 1)
            running.get_task_result(task_id, timeout=LIMIT_S)
            with pytest.raises(DuplicateTaskError, match="the queue moves this task"):
                status.start_task(task_id)
            with pytest.raises(DuplicateTaskError, match="a task of the queue has this id"):
                status.create_task(task_id, "mine")


def test_hand_moved_tasks_are_left_alone_by_queue_and_recovery(tmp_path: Path) -> None:
    with StatusManager(tmp_path / "status.json") as status:
        for name in ("waits", "runs"):
            status.create_task(name, name)
        status.start_task("runs")
        own_by(status.store, "elsewhere:1:0a")
        with TaskQueue(store=status.store).sync as queue:
            assert queue.cancel_task("waits") is False
            assert queue.get_queue_status()["queue_size"] == 0
        assert [(one.id, one.status, one.origin) for one in status.get_tasks()] == [
            ("runs", "RUNNING", Origin.MANUAL),
            ("waits", "PENDING", Origin.MANUAL),
        ]


# --- figures ---------------------------------------------------------------------------------------------------------


def test_figures_count_every_status_overall_and_per_job(book: Book, status: StatusManager) -> None:
    book.run("a", 1.0, job="news")
    book.run("b", 5.0, job="news", end="fail_task")
    book.run("c", 3.0, job="other", end="timeout_task")
    book.run("d", 7.0, end="cancel_task")
    status.create_task("e", "e", job_id="news")
    metrics = status.get_metrics()
    assert metrics.total_tasks == 5
    assert {one: count for one, count in metrics.by_status.items() if count} == {
        "SUCCESS": 1, "FAILED": 1, "TIMEOUT": 1, "CANCELLED": 1, "PENDING": 1,
    }  # fmt: skip
    assert set(metrics.by_status) == set(TaskStatus)
    assert metrics.success_rate == pytest.approx(100 / 3)
    assert (metrics.min_duration_s, metrics.max_duration_s, metrics.average_duration_s) == (1.0, 7.0, 4.0)
    news = status.get_metrics("news")
    assert (news.total_tasks, news.success_rate, news.average_duration_s) == (3, 50.0, 3.0)
    assert status.get_metrics("unheard of").total_tasks == 0


def test_without_a_final_task_there_is_no_rate_and_no_duration(status: StatusManager) -> None:
    status.create_task("t", "t")
    metrics = status.get_metrics()
    assert (metrics.success_rate, metrics.average_duration_s, metrics.min_duration_s) == (0.0, None, None)


def test_figures_survive_a_restart_and_agree_with_the_rows(book: Book) -> None:
    for number in range(10):
        book.run(f"t{number}", float(number), job="news" if number % 2 else None)
    book.status.create_task("open", "open")
    before, per_job = book.status.get_metrics(), book.status.get_metrics("news")
    book.restart()
    assert book.status.get_metrics() == before
    assert book.status.get_metrics("news") == per_job
    counted = book.store.read(lambda connection: list(connection.execute(select(counters.c.tasks)).scalars()))
    assert sum(counted) == 10


def test_a_clock_that_is_set_back_gives_no_negative_duration(book: Book, status: StatusManager) -> None:
    book.run("t", -3600.0)
    assert status.get_metrics().min_duration_s == 0.0
    assert status.get_task("t").duration_s == 0.0


def test_figures_cost_the_same_whatever_the_number_of_tasks(book: Book, status: StatusManager) -> None:
    book.run("t")
    asked: list[str] = []

    def execute(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    event.listen(book.store.engine, "before_cursor_execute", execute)
    status.get_metrics()
    status.get_metrics("news")
    event.remove(book.store.engine, "before_cursor_execute", execute)
    assert [one for one in asked if "PRAGMA" not in one] == []


def test_no_call_rewrites_more_than_its_task(book: Book, status: StatusManager) -> None:
    for number in range(50):
        status.create_task(f"t{number}", "t")
    changed: list[int] = []

    def execute(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if any(text in statement for text in ("UPDATE tasks", "INSERT INTO tasks", "DELETE FROM tasks")):
            changed.append(cursor.connection.execute("SELECT changes()").fetchone()[0])

    event.listen(book.store.engine, "after_cursor_execute", execute)
    status.start_task("t7")
    event.remove(book.store.engine, "after_cursor_execute", execute)
    assert changed == [1]


# --- queries ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def library(book: Book) -> StatusManager:
    for number in range(6):
        end = "fail_task" if number % 3 == 0 else "complete_task"
        book.run(f"t{number}", 60.0, job="even" if number % 2 == 0 else "odd", end=end)
    return book.status


MINUTE = timedelta(minutes=1)
QUERIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "everything": ({}, ["t5", "t4", "t3", "t2", "t1", "t0"]),
    "a status": ({"status": TaskStatus.FAILED}, ["t3", "t0"]),
    "a status by name": ({"status": "failed"}, ["t3", "t0"]),
    "a job": ({"job": "odd"}, ["t5", "t3", "t1"]),
    "a job's status": ({"job": "odd", "status": "SUCCESS"}, ["t5", "t1"]),
    "from an instant on": ({"since": START + 3 * MINUTE}, ["t5", "t4", "t3"]),
    "before an instant": ({"until": START + 2 * MINUTE}, ["t1", "t0"]),
    "a text": ({"text": "t4"}, ["t4"]),
    "a text with a wildcard": ({"text": "%"}, []),
    "the newest two": ({"limit": 2}, ["t5", "t4"]),
    "none of them": ({"job": "nobody"}, []),
    "a text no row can hold": ({"text": "\0"}, []),
    "half a letter": ({"text": "\ud800"}, []),
    "a job no row can hold": ({"job": "\0"}, []),
    "none at all": ({"limit": 0}, []),
    "more than there can be": ({"text": "t4", "limit": 10**30}, ["t4"]),
}


@pytest.mark.parametrize(("wanted", "found"), QUERIES.values(), ids=QUERIES)
def test_tasks_are_found(library: StatusManager, wanted: dict[str, Any], found: list[str]) -> None:
    assert [task.id for task in library.get_tasks(**wanted)] == found


def test_a_question_without_meaning_is_refused(library: StatusManager) -> None:
    with pytest.raises(ArgumentsError, match="status 'done' is not one of PENDING"):
        library.get_tasks(status="done")
    with pytest.raises(ArgumentsError, match="limit -1 is not a whole number of at least 0"):
        library.get_tasks(limit=-1)
    wrong: dict[str, Any] = {"job": 5, "text": 5, "before": 5, "status": 5, "since": "2026-03-02", "until": 5}
    for name, value in wrong.items():
        with pytest.raises(ArgumentsError, match=f"{name} {value!r} is no"):
            library.get_tasks(**{name: value})
    for name in ("since", "until"):
        with pytest.raises(ArgumentsError, match=f"{name} 2026-03-02T12:00:00 has no offset"):
            library.get_tasks(**{name: datetime(2026, 3, 2, 12)})  # type: ignore[arg-type]  # noqa: DTZ001


# --- cleanup ---------------------------------------------------------------------------------------------------------


def test_old_final_tasks_go_and_unfinished_ones_stay(book: Book, status: StatusManager) -> None:
    status.create_task("waits", "t")
    status.create_task("runs", "t")
    status.start_task("runs")
    book.run("old")
    book.pass_by(40 * 86_400)
    book.run("new")
    before = status.get_metrics()
    assert status.cleanup() == 1
    assert {task.id for task in status.get_tasks()} == {"waits", "runs", "new"}
    assert status.get_metrics() == before
    book.restart()
    assert book.status.get_metrics() == before


def test_too_many_final_tasks_go_oldest_first(book: Book, status: StatusManager) -> None:
    for number in range(6):
        book.run(f"t{number}")
    assert status.cleanup(keep_tasks=2) == 4
    assert [task.id for task in status.get_tasks()] == ["t5", "t4"]
    assert status.cleanup(keep_tasks=2) == 0
    assert status.cleanup(keep_tasks=0) == 2


def test_attempts_go_with_their_task(book: Book, status: StatusManager) -> None:
    status.create_task("t", "t")
    status.start_task("t")
    status.fail_task("t", "once")
    status.start_task("t")
    status.complete_task("t")
    assert len(status.get_attempts("t")) == 1
    status.cleanup(keep_tasks=0)
    assert status.get_attempts("t") == []


def test_cleanup_goes_in_small_commits(tmp_path: Path) -> None:
    made = {"tasks": [{"id": f"t{n:05}", "status": "SUCCESS", "created_at": START.isoformat()} for n in range(2500)]}
    (tmp_path / "status.json").write_text(json.dumps(made))
    with StatusManager(tmp_path / "status.json", keep_days=None) as status:
        deleted: list[int] = []

        def execute(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
            if statement.startswith("DELETE FROM tasks"):
                deleted.append(1)

        event.listen(status.store.engine, "after_cursor_execute", execute)
        before = status.store.writer.commits
        assert status.cleanup(keep_tasks=10) == 2490
        event.remove(status.store.engine, "after_cursor_execute", execute)
        assert len(deleted) == 3
        assert status.store.writer.commits - before >= 3


@pytest.mark.parametrize("limits", [{"keep_days": -1}, {"keep_tasks": -1}, {"keep_days": float("nan")}], ids=str)
def test_a_negative_limit_is_refused_and_removes_nothing(book: Book, limits: dict[str, Any]) -> None:
    book.run("t")
    with pytest.raises(ArgumentsError, match="would remove everything"):
        book.status.cleanup(**limits)
    with pytest.raises(ArgumentsError, match="would remove everything"):
        StatusManager(None, store=book.store, **limits)
    assert len(book.status.get_tasks()) == 1


def test_a_limit_beyond_all_calendars_keeps_everything(book: Book, status: StatusManager) -> None:
    book.run("t")
    assert status.cleanup(keep_days=1e12) == 0


def test_cleanup_runs_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.scheduler.status.CLEAN_FIRST_S", 0.01)
    cleaned = threading.Event()

    def cleanup(_self: StatusManager) -> int:
        cleaned.set()
        return 0

    monkeypatch.setattr(StatusManager, "cleanup", cleanup)
    with StatusManager(tmp_path / "status.json"):
        assert cleaned.wait(LIMIT_S)


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_file_shows_the_newest_tasks_and_the_figures(book: Book) -> None:
    book.run("a", job="news")
    book.run("b", end="fail_task")
    book.status.close()
    shown = book.shown()
    assert [one["id"] for one in shown["tasks"]] == ["b", "a"]
    assert shown["tasks"][1]["status"] == "SUCCESS"
    assert shown["metrics"]["total_tasks"] == 2
    assert shown["metrics"]["by_status"]["FAILED"] == 1
    assert shown["written_at"] == book.clock.instant.isoformat()


def test_the_file_holds_at_most_a_thousand_tasks(tmp_path: Path) -> None:
    many = [{"id": f"t{n:05}", "status": "SUCCESS", "created_at": START.isoformat()} for n in range(1500)]
    file = tmp_path / "status.json"
    file.write_text(json.dumps({"tasks": many}))
    with StatusManager(file) as status:
        assert status.get_metrics().total_tasks == 1500
    shown = json.loads(file.read_text("utf-8"))
    assert len(shown["tasks"]) == MAX_TASKS == 1000
    assert shown["tasks"][0]["id"] == "t01499"
    assert shown["metrics"]["total_tasks"] == 1500


class Writes:
    """Every writing of the file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = threading.Semaphore(0)
        self.count = 0
        real = snapshot_module.write_private

        def write(path: Path, text: str) -> None:
            real(path, text)
            self.count += 1
            self.done.release()

        monkeypatch.setattr(snapshot_module, "write_private", write)


def test_the_file_is_written_soon_after_a_move_and_once_for_many(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = Writes(monkeypatch)
    monkeypatch.setattr(snapshot_module, "EVERY_S", 0.2)
    begun_s = time.monotonic()
    for number in range(30):
        book.run(f"t{number}")
    assert writes.done.acquire(timeout=LIMIT_S)
    assert writes.count <= (time.monotonic() - begun_s) / 0.2 + 1
    book.status.create_task("later", "later")
    assert writes.done.acquire(timeout=LIMIT_S)
    assert snapshot_module.EVERY_S <= 1.0


@pytest.mark.parametrize(("took_s", "every_s"), [(0.001, 1.0), (0.05, 5.0), (3.0, 10.0)])
def test_a_file_that_takes_long_is_written_more_rarely(
    book: Book, monkeypatch: pytest.MonkeyPatch, took_s: float, every_s: float
) -> None:
    snapshot, waits, times = book.status._snapshot, list[float](), iter([100.0, 100.0 + took_s])

    class Timer(threading.Timer):
        def __init__(self, interval: float, function: Callable[[], None]) -> None:
            waits.append(interval)
            super().__init__(LIMIT_S, function)

    assert snapshot is not None
    monkeypatch.setattr(snapshot_module, "perf_counter", lambda: next(times))
    snapshot.write()
    monkeypatch.setattr(snapshot_module, "Timer", Timer)
    book.status.create_task("t", "t")
    assert book.store.events.drain(LIMIT_S)
    assert waits == [pytest.approx(every_s)]


def test_every_task_is_a_line_of_the_file(book: Book) -> None:
    for number in range(3):
        book.run(f"t{number}")
    book.status.close()
    found = [line.strip().rstrip(",") for line in book.file.read_text("utf-8").splitlines() if '"id"' in line]
    assert [json.loads(line) for line in found] == book.shown()["tasks"]
    assert len(found) == 3


def test_reading_the_file_never_finds_it_half_written(tmp_path: Path) -> None:
    file, stop = tmp_path / "status.json", threading.Event()
    texts = [json.dumps({"tasks": [letter * 200_000]}) for letter in "ab"]
    write_private(file, texts[:1])

    def write() -> None:
        while not stop.is_set():
            for text in texts:
                write_private(file, [text])

    writer = threading.Thread(target=write)
    writer.start()
    found = {file.read_text() for _ in range(200)}
    stop.set()
    writer.join(LIMIT_S)
    assert found <= set(texts)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["status.json"]


def test_an_older_writing_never_comes_after_a_newer_one(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer's writing has read the tasks and is slow; closing must not be overtaken by it."""
    snapshot = book.status._snapshot
    assert snapshot is not None
    reading, go = threading.Event(), threading.Event()
    real = task_queries.find_tasks

    def slow(*args: Any) -> Any:
        found = real(*args)
        if threading.current_thread() is timer:
            reading.set()
            assert go.wait(LIMIT_S)
        return found

    monkeypatch.setattr(snapshot_module, "find_tasks", slow)
    timer = threading.Thread(target=snapshot._on_timer)
    timer.start()
    assert reading.wait(LIMIT_S)
    book.status.create_task("new", "new")
    closer = threading.Thread(target=book.status.close)
    closer.start()
    go.set()
    timer.join(LIMIT_S)
    closer.join(LIMIT_S)
    assert [one["id"] for one in book.shown()["tasks"]] == ["new"]


def test_a_file_that_cannot_be_written_stops_nothing(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot_module, "write_private", refuse)
    book.run("t")
    book.status.close()
    assert not book.file.exists()


def test_closing_twice_does_nothing(tmp_path: Path) -> None:
    status = StatusManager(tmp_path / "status.json")
    status.close()
    status.close()


AT_EXIT = """
from pathlib import Path
from atlas.scheduler import StatusManager
status = StatusManager(Path("status.json"))
status.create_task("t", "t")
status.start_task("t")
status.complete_task("t", {"items": 50})
"""


def run_script(text: str, folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", text], cwd=folder, env=environment, check=True, timeout=30)


def test_the_file_is_written_when_the_interpreter_exits(tmp_path: Path) -> None:
    run_script(AT_EXIT, tmp_path)
    shown = json.loads((tmp_path / "status.json").read_text("utf-8"))
    assert shown["tasks"][0]["result"] == {"items": 50}
    run_script(AT_EXIT, tmp_path)
    assert json.loads((tmp_path / "status.json").read_text("utf-8"))["metrics"]["total_tasks"] == 2


def test_a_file_without_database_is_imported_once(book: Book) -> None:
    book.run("done", 2.0, job="news")
    book.status.create_task("open", "open")
    book.status.start_task("open")
    book.close()
    for one in book.database.parent.glob("status.db*"):
        one.unlink()
    with StatusManager(book.file) as status:
        tasks_found = {task.id: task for task in status.get_tasks()}
        assert (tasks_found["done"].status, tasks_found["done"].job_id) == ("SUCCESS", "news")
        assert tasks_found["done"].duration_s == 2.0
        assert (tasks_found["open"].status, tasks_found["open"].cause) == ("FAILED", "lost")
        assert status.get_metrics().total_tasks == 2
        status.cleanup(keep_tasks=0)
    with StatusManager(book.file) as again:
        assert again.get_tasks() == []
        assert again.get_metrics().total_tasks == 2
    book.open()


def test_a_task_that_stands_in_the_file_twice_counts_once(tmp_path: Path) -> None:
    one = {"id": "t", "status": "SUCCESS", "created_at": "2026-01-01T00:00:00"}
    (tmp_path / "status.json").write_text(json.dumps({"tasks": [one, one]}))
    with StatusManager(tmp_path / "status.json") as status:
        assert status.get_metrics().total_tasks == len(status.get_tasks()) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tasks": [{}]}', '{"tasks": 5}', "\xff"], ids=ascii)
def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "status.json"
    file.write_text(text, "latin-1")
    with pytest.raises(ConfigError, match="is no status file of Atlas"):
        StatusManager(file)
    assert file.read_text("latin-1") == text
    assert [one.name for one in tmp_path.iterdir()] == ["status.json"]


def test_a_status_file_that_is_the_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentsError, match="is the database itself"):
        StatusManager(tmp_path / "status.db")
    assert list(tmp_path.iterdir()) == []
    store = open_store(tmp_path / "atlas.db")
    with pytest.raises(ArgumentsError, match="is the database itself"):
        StatusManager(tmp_path / "atlas.db", store=store)
    store.close()


def test_a_manager_needs_a_file_or_a_store() -> None:
    with pytest.raises(ArgumentsError, match="needs a status_file or a store"):
        StatusManager(None)


def test_two_managers_of_one_file_share_one_store(tmp_path: Path) -> None:
    with StatusManager(tmp_path / "status.json") as one, StatusManager(tmp_path / "status.json") as other:
        assert one.store is other.store
        one.create_task("t", "t")
        assert other.get_task("t").status is TaskStatus.PENDING
        assert other.get_metrics().total_tasks == 1


def test_every_final_status_is_one_the_figures_know() -> None:
    assert {TaskStatus(name) for name in ("SUCCESS", "FAILED", "CANCELLED", "TIMEOUT")} == FINAL
