"""The job store: JSON rows, parked rows, one commit a pass, and a clock that a database cannot stop."""

from __future__ import annotations

import json
import pickle
import random
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from apscheduler.jobstores.base import JobLookupError
from sqlalchemy import event, insert, select, update

from atlas.scheduler.bridge import SkipReason
from atlas.scheduler.definition import JobDefinition, JobSource
from atlas.scheduler.definition_text import UnreadDefinition, text_of
from atlas.scheduler.errors import ArgumentsError, StoreUnavailableError
from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.job_store import changes, door
from atlas.scheduler.job_store import job_store as job_store_module
from atlas.scheduler.job_store import passes as passes_module
from atlas.scheduler.job_store.due import DueJobs
from atlas.scheduler.job_store.job_store import MAX_SLEEP_S, PASS_JOBS, SERVE, served_by_the_bridge
from atlas.scheduler.job_store.records import JobChange, JobRecord, make_record
from atlas.scheduler.job_store.rows import restore
from atlas.scheduler.job_view import JobState
from atlas.scheduler.schedule import Schedule
from atlas.scheduler.store.tables import fires, jobs
from tests.clockwork import DAY, Clockwork, locked, until, utc
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Clockwork]]:
    """Start a scheduler on the test's database; what still runs in the end is closed."""
    running: list[Clockwork] = []

    def starter(**options: Any) -> Clockwork:
        for old in running:
            old.close()
        running[:] = [Clockwork(tmp_path / "atlas.db", monkeypatch, **options)]
        return running[0]

    yield starter
    for old in running:
        old.close()


@pytest.fixture
def clockwork(start: Callable[..., Clockwork]) -> Clockwork:
    return start()


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clockwork]:
    """A scheduler on each kind of database."""
    where = tmp_path / "atlas.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with Clockwork(where, monkeypatch) as clockwork:
        yield clockwork


@contextmanager
def transactions(clockwork: Clockwork) -> Iterator[list[list[str]]]:
    """What each commit inside of the block did: ``["INSERT fires", "UPDATE apscheduler_jobs"]``."""
    found: list[list[str]] = []
    pending: dict[int, list[str]] = {}
    engine = clockwork.store.engine

    def execute(connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        text = statement[statement.index("UPDATE") :] if statement.startswith("WITH") else statement
        words = text.replace("INSERT INTO", "INSERT").replace("DELETE FROM", "DELETE").split()
        # A process renews its lease every five seconds, whatever is being watched.
        if words[0] in {"INSERT", "UPDATE", "DELETE"} and words[1] != "leases":
            done = pending.setdefault(id(connection.connection.dbapi_connection), [])
            if done[-1:] != [f"{words[0]} {words[1]}"]:  # rows go in groups, one statement each
                done.append(f"{words[0]} {words[1]}")

    def commit(connection: Connection) -> None:
        done = pending.pop(id(connection.connection.dbapi_connection), [])
        if done:
            found.append(done)

    event.listen(engine, "before_cursor_execute", execute)
    event.listen(engine, "commit", commit)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", execute)
        event.remove(engine, "commit", commit)


def door_opens(clockwork: Clockwork) -> None:
    """Wait until no pass waits for the database any more."""
    assert clockwork.jobs.door.lock.acquire(timeout=LIMIT_S), "the door stays shut: the clock is dead"
    clockwork.jobs.door.lock.release()


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_row_is_json_that_names_what_it_means(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "0 9 * * 1-5", "nothing", "工作日", timezone="Asia/Shanghai")
    row = clockwork.rows()["job"]
    raw = json.loads(row.job_state)
    assert raw["function"] == "nothing"
    assert raw["source"] == "code"
    assert raw["schedule"] == {"cron": ["0 9 * * 1-5"], "timezone": "Asia/Shanghai"}
    assert "工作日".encode() in row.job_state
    assert row.next_run_time == utc("2026-03-03 01:00").timestamp()


def test_nothing_is_ever_pickled_or_unpickled(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a pickle")

    for name in ("dumps", "loads", "dump", "load", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    clockwork.cron.add_job("job", "* * * * *", lambda: "volatile")
    clockwork.each("12:01", "12:02")
    clockwork.jobs.load()
    assert [task.volatile for task in clockwork.tasks()] == [True, True]


class Trap:
    """Unpickling it ends the process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return time.sleep, (1000,)


VALID = text_of(
    JobDefinition(
        id="bad", source=JobSource.FILE, title="bad", schedule=Schedule(cron=("* * * * *",)), function="nothing"
    )
)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\xff\xfe", id="no text"),
        pytest.param(pickle.dumps(Trap()), id="a pickle"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(VALID.encode()[:-20], id="cut off"),
        pytest.param(VALID.replace('"id":"bad"', '"id":"other"').encode(), id="another job's"),
        pytest.param(VALID.replace("* * * * *", "61 * * * *").encode(), id="minute 61"),
        pytest.param(VALID.replace('"UTC"', '"Mars/Olympus"').encode(), id="a zone on Mars"),
        pytest.param(b"[" * 100_000, id="too deep"),
    ],
)
def test_a_row_that_cannot_be_read_is_parked_and_never_deleted(start: Callable[..., Clockwork], garbage: bytes) -> None:
    first = start()
    first.cron.add_job("good", "* * * * *", "nothing")
    first.store.write(
        lambda connection: connection.execute(insert(jobs).values(id="bad", next_run_time=0.0, job_state=garbage))
    )
    second = start()
    second.at("12:01")
    assert [(job.id, job.state) for job in second.cron.get_all_jobs()] == [
        ("bad", JobState.PARKED),
        ("good", JobState.ACTIVE),
    ]
    assert second.job("bad").detail
    assert second.decisions("good") == ["12:01 task"]
    second.cron.add_job("another", "* * * * *", "nothing")
    third = start()
    assert third.rows()["bad"].job_state == garbage
    assert third.rows()["bad"].next_run_time == 0.0


def test_a_parked_row_is_replaced_when_code_adds_that_job_and_goes_when_code_removes_it(
    start: Callable[..., Clockwork],
) -> None:
    first = start()
    for name in ("one", "two"):
        row = insert(jobs).values(id=name, next_run_time=None, job_state=b"?")
        first.store.write(lambda connection, row=row: connection.execute(row))  # type: ignore[misc]
    second = start()
    assert second.cron.add_job("one", "* * * * *", "nothing").state is JobState.ACTIVE
    second.cron.remove_job("two")
    assert list(second.rows()) == ["one"]
    assert second.jobs.parked() == []


def test_a_function_that_is_gone_does_not_make_a_row_unreadable(start: Callable[..., Clockwork]) -> None:
    first = start()
    first.registry.add("renamed", print)
    first.cron.add_job("job", "* * * * *", "renamed")
    second = start()
    assert second.job().state is JobState.UNBOUND
    assert "renamed" in second.rows()["job"].job_state.decode()


def test_a_restart_reads_of_a_job_what_is_its_own_when_it_is_due(start: Callable[..., Clockwork]) -> None:
    first = start()
    first.cron.add_job("due", "* * * * *", "nothing")
    first.cron.add_job("later", "@yearly", "nothing")
    second = start()
    read = {record.id: not isinstance(record.known, UnreadDefinition) for record in second.jobs.records()}
    assert read == {"due": False, "later": False}
    second.at("12:01")
    read = {record.id: not isinstance(record.known, UnreadDefinition) for record in second.jobs.records()}
    assert read == {"due": True, "later": False}
    assert second.decisions("due") == ["12:01 task"]


def test_an_unchanged_restart_writes_no_job(start: Callable[..., Clockwork]) -> None:
    def add_all(clockwork: Clockwork) -> None:
        for number in range(20):
            clockwork.cron.add_job(f"job{number}", f"{number} * * * *", "nothing", spread="10m", priority="low")

    add_all(start())
    second = start()
    before = second.rows()
    with transactions(second) as commits:
        add_all(second)
    assert commits == []
    assert second.rows() == before


def test_a_restart_keeps_every_next_start(start: Callable[..., Clockwork]) -> None:
    first = start()
    first.cron.add_job("often", "* * * * *", "nothing")
    first.cron.add_job("spread", "@hourly", "nothing", spread="30m")
    first.each("12:01")
    starts = {job.id: job.next_run_at for job in first.cron.get_all_jobs()}
    second = start(now=utc(f"{DAY} 12:01:50"))
    assert {job.id: job.next_run_at for job in second.cron.get_all_jobs()} == starts


def test_one_function_and_shared_triggers_serve_every_job(clockwork: Clockwork) -> None:
    for number in range(3):
        clockwork.cron.add_job(f"job{number}", "@hourly", "nothing")
    made = clockwork.jobs.get_all_jobs()
    assert {job.func_ref for job in made} == {SERVE}
    assert len({id(job.trigger) for job in made}) == 1
    with pytest.raises(AssertionError, match="through its bridge"):
        served_by_the_bridge()


def test_ten_thousand_jobs_load_and_all_start_in_few_passes(start: Callable[..., Clockwork]) -> None:
    first = start()
    first.queue.serving.lifecycle.taking_starts = False  # what is counted here is the clock
    plain = {"source": JobSource.CODE, "title": "one of many", "function": "nothing"}
    made = [
        make_record(
            JobDefinition(id=f"job{n:05}", schedule=Schedule(cron=("* * * * *",)), **plain),  # type: ignore[arg-type]
            now=first.clock.now(),
        )
        for n in range(10_000)
    ]
    first.jobs.apply(JobChange(record, JobEventKind.ADDED) for record in made)
    begun = time.process_time()
    first.jobs.load()
    loaded = time.process_time()
    assert len(first.jobs.records()) == 10_000
    with transactions(first) as commits:
        for _ in range(10_000 // PASS_JOBS):
            assert first.at("12:01") is not None
            door_opens(first)
    ended = time.process_time()
    counted = first.store.read(
        lambda connection: connection.exec_driver_sql("SELECT count(*), count(DISTINCT job_id) FROM tasks").one()
    )
    assert tuple(counted) == (10_000, 10_000)
    assert len([tables for tables in commits if "INSERT fires" in tables]) == 10_000 // PASS_JOBS
    assert loaded - begun < 10  # seconds; a fifth of it here, and a row looked at twice would take minutes
    assert ended - loaded < 15


# --- a pass ----------------------------------------------------------------------------------------------------------


def test_a_pass_is_one_commit(anywhere: Clockwork) -> None:
    for number in range(4):
        anywhere.cron.add_job(f"job{number}", "* * * * *", "gate")
    anywhere.cron.add_job("once", None, "nothing", dates=[utc(f"{DAY} 12:01")])
    anywhere.cron.add_job("paused", "* * * * *", "nothing")
    anywhere.cron.pause_job("paused")
    with transactions(anywhere) as commits:
        anywhere.at("12:01")
        door_opens(anywhere)
    passes = [set(tables) for tables in commits if "UPDATE apscheduler_jobs" in tables or "INSERT fires" in tables]
    assert len(passes) == 1
    assert {"INSERT fires", "INSERT tasks", "UPDATE apscheduler_jobs"} <= passes[0]
    assert anywhere.job("once").state is JobState.ENDED


def test_tasks_are_released_only_behind_their_commit(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate")
    seen: list[int] = []
    real = passes_module.write_pass

    def watching(connection: Connection, decided: Any) -> Any:
        kept = real(connection, decided)
        seen.append(clockwork.gate.calls)
        return kept

    monkeypatch.setattr(door, "write_pass", watching)
    clockwork.at("12:01")
    clockwork.gate.wait_entered()
    assert seen == [0]


def test_a_tick_with_nothing_due_writes_nothing(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@hourly", "nothing")
    with transactions(clockwork) as commits:
        assert clockwork.at("12:10") == MAX_SLEEP_S
    assert commits == []


@pytest.mark.parametrize(
    ("cron", "sleeps_s"), [("* * * * *", 20.0), ("@daily", MAX_SLEEP_S), (None, MAX_SLEEP_S)], ids=str
)
def test_it_looks_again_at_the_next_start_and_in_half_a_minute_at_the_latest(
    clockwork: Clockwork, cron: str | None, sleeps_s: float
) -> None:
    if cron:
        clockwork.cron.add_job("job", cron, "nothing")
    assert clockwork.at("12:00:40") == sleeps_s


def test_every_look_is_a_tick_that_others_can_read(clockwork: Clockwork) -> None:
    assert clockwork.cron.last_tick_s() is None
    clockwork.at("12:01")
    last = clockwork.cron.last_tick_s()
    assert last is not None
    assert 0 <= last < 10.0


def test_a_job_with_no_further_fire_time_has_ended_and_keeps_its_row(start: Callable[..., Clockwork]) -> None:
    first = start()
    first.cron.add_job("job", None, "nothing", dates=[utc(f"{DAY} 12:01"), utc(f"{DAY} 12:03")])
    first.cron.add_job("bounded", "* * * * *", "nothing", end_at=utc(f"{DAY} 12:02"))
    first.each("12:01", "12:02", "12:03", "12:04")
    assert first.decisions() == ["12:01 task", "12:03 task"]
    assert first.decisions("bounded") == ["12:01 task", "12:02 task"]
    first.settle()
    ended = [one.job_id for one in first.events if isinstance(one, JobEvent) and one.kind is JobEventKind.ENDED]
    assert ended == ["bounded", "job"]
    second = start(now=utc(f"{DAY} 12:10"))
    assert {job.id: job.state for job in second.cron.get_all_jobs()} == {
        "job": JobState.ENDED,
        "bounded": JobState.ENDED,
    }
    assert second.rows()["job"].next_run_time is None
    dates = [utc(f"{DAY} 12:01"), utc(f"{DAY} 12:20")]
    assert second.cron.add_job("job", None, "nothing", dates=dates).next_fire_time == utc(f"{DAY} 12:20")


# --- a database that does not answer ---------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a commit is given up at once, so that these tests are short."""
    monkeypatch.setattr(job_store_module, "PASS_WAIT_S", 0.05)


@pytest.mark.usefixtures("impatient")
def test_each_fire_time_is_served_once_behind_a_lock(clockwork: Clockwork, tmp_path: Path) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing", catchup="all")
    with locked(tmp_path / "atlas.db"):
        for time_of_day in ("12:01", "12:02", "12:03"):
            waited = clockwork.at(time_of_day)
            assert waited is not None
            assert 0 < waited <= 1
        assert clockwork.decisions() == []
        assert clockwork.cron.last_tick_s() is not None
    door_opens(clockwork)
    assert clockwork.decisions() == ["12:01 task"]
    clockwork.settle()
    clockwork.at("12:04")
    assert clockwork.decisions() == ["12:01 task", "12:02 task", "12:03 task", "12:04 task"]
    clockwork.settle()
    assert len(clockwork.tasks()) == 4


@pytest.mark.usefixtures("impatient")
def test_a_change_to_a_job_waits_behind_a_pass(
    clockwork: Clockwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    order: list[str] = []
    real = passes_module.write_pass

    def add() -> None:
        clockwork.cron.add_job("late", "* * * * *", "nothing")
        order.append("change")

    def write(connection: Connection, decided: Any) -> Any:
        order.append("pass")
        return real(connection, decided)

    monkeypatch.setattr(door, "write_pass", write)
    adder = threading.Thread(target=add)
    with locked(tmp_path / "atlas.db"):
        clockwork.at("12:01")
        adder.start()
        assert not clockwork.jobs.door.lock.acquire(timeout=0.05)  # a moment for the other thread to stand there too
        assert clockwork.jobs.record("late") is None
    adder.join(LIMIT_S)
    assert order == ["pass", "change"]
    assert clockwork.decisions() == ["12:01 task"]


@pytest.mark.usefixtures("impatient")
def test_a_change_gives_up_when_the_pass_before_it_does_not_end(
    clockwork: Clockwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "CALL_S", 0.05)
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    with locked(tmp_path / "atlas.db"):
        clockwork.at("12:01")
        with pytest.raises(StoreUnavailableError, match="nothing was changed"):
            clockwork.cron.add_job("late", "* * * * *", lambda: None)
    door_opens(clockwork)
    assert list(clockwork.rows()) == ["job"]
    assert clockwork.jobs.record("late") is None
    assert clockwork.cron.running.states._bindings == {}


def test_a_change_the_database_does_not_take_leaves_memory_as_it_was(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    before = clockwork.job()

    def refuse(*_args: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(changes, "write_records", refuse)
    with pytest.raises(ValueError, match="no"):
        clockwork.cron.add_job("job", "@hourly", "nothing")
    with pytest.raises(ValueError, match="no"):
        clockwork.cron.remove_job("job")
    assert clockwork.job() == before
    clockwork.at("12:01")
    assert clockwork.decisions() == ["12:01 task"]


def test_a_pass_that_cannot_be_written_is_decided_again(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.add_job("paused", "* * * * *", "nothing")
    clockwork.cron.pause_job("paused")
    real = passes_module.write_pass

    def refuse(*_args: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(door, "write_pass", refuse)
    assert clockwork.at("12:01") == 1.0
    assert clockwork.decisions() == clockwork.decisions("paused") == []
    assert clockwork.queue.get_queue_status()["queue_size"] == 0
    monkeypatch.setattr(door, "write_pass", real)
    clockwork.at("12:01:01")
    assert clockwork.decisions() == ["12:01 task"]
    assert clockwork.decisions("paused") == ["12:01 skip paused"]
    clockwork.at("12:02", "12:03")
    assert clockwork.decisions("paused") == ["12:01-12:03 skip paused x3"]


def test_an_error_while_a_pass_opens_keeps_it_from_no_other_time(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """APScheduler logs it and asks again; with the door left shut it would do so for ever, and fire nothing."""
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    pop_due = clockwork.jobs._table.pop_due

    def breaks(*_args: object) -> None:
        monkeypatch.setattr(clockwork.jobs._table, "pop_due", pop_due)
        raise MemoryError

    monkeypatch.setattr(clockwork.jobs._table, "pop_due", breaks)
    assert clockwork.at("12:01") == pytest.approx(10.0)
    clockwork.at("12:01:10")
    assert clockwork.decisions() == ["12:01 task"]


def test_what_a_loop_takes_out_that_was_given_up_meanwhile_is_due_still(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    pop_due = clockwork.jobs._table.pop_due

    def late(now_s: float, limit: int) -> list[JobRecord]:
        monkeypatch.setattr(clockwork.jobs._table, "pop_due", pop_due)
        assert clockwork.jobs.door._looping is not None
        clockwork.jobs.door.give_up_pass()  # the watch, while this thread stood still
        return pop_due(now_s, limit)

    monkeypatch.setattr(clockwork.jobs._table, "pop_due", late)
    clockwork.at("12:01", "12:01:01")
    assert clockwork.decisions() == ["12:01 task"]


def test_what_is_told_of_a_job_that_is_set_apart_stops_no_other(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise ZeroDivisionError

    clockwork.cron.add_job("good", "* * * * *", "nothing")
    clockwork.cron.add_job("bad", "* * * * *", "nothing")
    following = passes_module.Pass.following

    def raises(self: passes_module.Pass, record: JobRecord) -> datetime | None:
        return 1 / 0 if record.id == "bad" else following(self, record)  # type: ignore[return-value]

    monkeypatch.setattr(passes_module.Pass, "following", raises)
    clockwork.cron.more_figures = fails  # type: ignore[assignment]
    clockwork.at("12:01")
    assert clockwork.decisions("good") == ["12:01 task"]


def test_a_pass_whose_commit_was_made_but_not_answered_keeps_its_tasks(
    anywhere: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    anywhere.cron.add_job("job", "* * * * *", "gate")
    anywhere.cron.add_job("paused", "* * * * *", "nothing")
    anywhere.cron.pause_job("paused")
    real = passes_module.write_pass

    def twice(connection: Connection, decided: Any) -> Any:
        real(connection, decided)
        return real(connection, decided)

    monkeypatch.setattr(door, "write_pass", twice)
    anywhere.at("12:01")
    anywhere.gate.wait_entered()
    anywhere.at("12:02", "12:03")
    assert anywhere.decisions() == ["12:01 task", "12:02 skip overlap", "12:03 skip overlap"]
    assert anywhere.decisions("paused") == ["12:01-12:03 skip paused x3"]
    anywhere.gate.open()
    anywhere.settle()
    assert [task.status for task in anywhere.tasks()] == ["SUCCESS"]
    assert anywhere.gate.calls == 1


def test_words_that_a_database_refuses_do_not_stop_the_clock(anywhere: Clockwork) -> None:
    anywhere.cron.add_job("job", "* * * * *", "nothing", "说明\n第二行", title="标题")
    anywhere.cron.pause_job("job", by="\0", reason="zero\0byte")
    anywhere.at("12:01")
    door_opens(anywhere)
    assert anywhere.decisions() == ["12:01 skip paused"]
    with pytest.raises(ArgumentsError, match=r"title .* has a zero byte"):
        anywhere.cron.add_job("bad", "* * * * *", "nothing", title="a\0b")


def test_a_closed_store_lets_the_clock_idle_and_not_spin(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.store.writer.close()
    for _ in range(2):
        assert clockwork.at("12:01") == 1.0
    assert not clockwork.jobs.door.lock.locked()


def test_a_store_that_closes_under_a_waiting_pass_frees_the_door(
    start: Callable[..., Clockwork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store_module, "PASS_WAIT_S", 0.05)
    monkeypatch.setattr("atlas.scheduler.store.writer.RETRY_MAX_S", 0.01)
    clockwork = start()
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    with locked(tmp_path / "atlas.db"):
        clockwork.at("12:01")
        assert clockwork.jobs.door.lock.locked()
        assert clockwork.store.writer.close()
    door_opens(clockwork)
    assert clockwork.queue.get_queue_status()["queue_size"] == 0


# --- what several threads see ----------------------------------------------------------------------------------------


def test_a_look_in_the_middle_of_a_change_takes_nothing_from_it(clockwork: Clockwork) -> None:
    """The clock looks while another thread serves what is due by a schedule that changes."""
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.clock.instant = utc(f"{DAY} 12:01:10")
    waited: list[float | None] = []
    record = make_record(
        restore(
            "job", VALID.replace('"id":"bad"', '"id":"job"').replace("* * * * *", "@hourly").encode(), None
        ).definition,
        now=clockwork.clock.now(),
    )

    def serve(job: Any, times: list[datetime]) -> None:
        looker = threading.Thread(target=lambda: waited.append(clockwork.tick()))
        looker.start()
        looker.join(LIMIT_S)
        clockwork.bridge.submit_job(job, times)

    clockwork.jobs.apply([JobChange(record, JobEventKind.CHANGED)], serve=serve)
    assert waited == [0.5]
    assert clockwork.decisions() == ["12:01 task"]
    assert clockwork.job().next_fire_time == utc(f"{DAY} 13:00")
    assert not clockwork.jobs.door.lock.locked()


def test_a_change_keeps_the_next_start_that_holds_when_it_is_written(clockwork: Clockwork) -> None:
    """A pass between the making of a record and its writing moves the job on; the change must not move it back."""
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    old = clockwork.jobs.record("job")
    assert old is not None
    record = make_record(old.definition, now=clockwork.clock.now())
    clockwork.at("12:01")
    clockwork.jobs.apply([JobChange(record, JobEventKind.CHANGED)])
    assert clockwork.job().next_fire_time == utc(f"{DAY} 12:02")
    assert clockwork.rows()["job"].next_run_time == utc(f"{DAY} 12:02").timestamp()


def test_what_falls_due_while_a_change_waits_is_served_by_the_old_schedule(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing", overlap="queue")
    served: list[list[datetime]] = []

    def serve(job: Any, times: list[datetime]) -> None:
        served.append(times)
        clockwork.bridge.submit_job(job, times)
        if len(served) == 1:  # the next minute comes before the change is written
            clockwork.clock.instant = utc(f"{DAY} 12:02")

    clockwork.clock.instant = utc(f"{DAY} 12:01")
    raw = VALID.replace('"id":"bad"', '"id":"job"').replace("* * * * *", "@daily").encode()
    record = make_record(restore("job", raw, None).definition, now=clockwork.clock.now())
    clockwork.jobs.apply([JobChange(record, JobEventKind.CHANGED)], serve=serve)
    assert served == [[utc(f"{DAY} 12:01")], [utc(f"{DAY} 12:02")]]
    assert clockwork.decisions() == ["12:01 task", "12:02 task"]


def test_serving_that_raises_leaves_the_door_open_and_the_job_as_it_was(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.clock.instant = utc(f"{DAY} 12:01")
    raw = VALID.replace('"id":"bad"', '"id":"job"').replace("* * * * *", "@daily").encode()
    record = make_record(restore("job", raw, None).definition, now=clockwork.clock.now())

    def refuse(_job: Any, _times: list[datetime]) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        clockwork.jobs.apply([JobChange(record, JobEventKind.CHANGED)], serve=refuse)
    clockwork.tick()
    assert clockwork.decisions() == ["12:01 task"]


def test_a_trigger_that_raises_stops_neither_the_clock_nor_other_jobs(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("bad", "* * * * *", "nothing", spread=0)
    clockwork.cron.add_job("good", "*/1 * * * *", "nothing")
    real, broken = Schedule.next_after, [True]

    def raising(self: Schedule, instant: datetime) -> datetime | None:
        if broken[0] and self.cron == ("* * * * *",):
            raise OSError("the zone file is gone")
        return real(self, instant)

    monkeypatch.setattr(Schedule, "next_after", raising)
    clockwork.each("12:01", "12:02")
    assert clockwork.decisions("good") == ["12:01 task", "12:02 task"]
    assert clockwork.decisions("bad") == []
    broken[0] = False
    clockwork.at("12:02:31")
    assert clockwork.decisions("bad") == ["12:01 skip coalesced", "12:02 task"]


def test_a_fire_time_served_by_somebody_else_is_not_served_twice(anywhere: Clockwork) -> None:
    anywhere.cron.add_job("job", "* * * * *", "gate")
    anywhere.cron.add_job("other", "* * * * *", "nothing")
    row = {"job_id": "job", "fire_time": utc(f"{DAY} 12:01").timestamp(), "task_id": "theirs", "decided_at": 0.0}
    anywhere.store.write(lambda connection: connection.execute(insert(fires).values(row)))
    anywhere.at("12:01")
    assert [one.task_id for one in anywhere.fires()] == ["theirs"]
    assert anywhere.tasks() == []
    assert anywhere.decisions("other") == ["12:01 task"]
    assert anywhere.cron.running.serving.view.unfinished_of("job") == []
    anywhere.at("12:02")
    assert anywhere.decisions() == ["12:01 task", "12:02 task"]
    anywhere.gate.wait_entered()


def test_no_skip_is_told_of_a_fire_time_that_has_its_task(anywhere: Clockwork) -> None:
    """A clock that was set back lets a fire time be decided on again, and its task is unfinished, or the job paused."""
    for name in ("job", "other"):
        anywhere.cron.add_job(name, "* * * * *", "gate", catchup="all")
    anywhere.at("12:01", "12:02")
    assert skips_told(anywhere) == [("job", "overlap", 1), ("other", "overlap", 1)]
    anywhere.clock.instant = utc(f"{DAY} 12:00:40")
    assert anywhere.cron.running.clock_came_back() == 2
    anywhere.cron.pause_job("other")
    anywhere.events.clear()
    anywhere.at("12:01", "12:03")
    assert anywhere.decisions() == ["12:01 task", "12:02 skip overlap", "12:03 skip overlap"]
    assert anywhere.decisions("other") == ["12:01 task", "12:02-12:03 skip paused x2"]
    assert skips_told(anywhere) == [("job", "overlap", 1), ("job", "overlap", 1), ("other", "paused", 2)]
    anywhere.gate.open()


def test_a_skip_of_many_fire_times_is_told_with_those_that_were_free(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    row = {"job_id": "job", "fire_time": utc(f"{DAY} 12:02").timestamp(), "task_id": "theirs", "decided_at": 0.0}
    clockwork.store.write(lambda connection: connection.execute(insert(fires).values(row)))
    row["fire_time"] = utc(f"{DAY} 12:01").timestamp()
    clockwork.store.write(lambda connection: connection.execute(insert(fires).values(row)))
    clockwork.at("12:06")
    assert clockwork.decisions() == ["12:01 task", "12:02 task", "12:03-12:05 skip coalesced x3", "12:06 task"]
    assert skips_told(clockwork) == [("job", "coalesced", 3)]


def skips_told(clockwork: Clockwork) -> list[tuple[str, str, int | None]]:
    """Job, reason and number of fire times of each skip that was told."""
    assert clockwork.store.events.drain()
    return [
        (one.job_id, one.detail["reason"], one.detail["fire_times"])
        for one in clockwork.events
        if isinstance(one, JobEvent) and one.kind is JobEventKind.SKIPPED
    ]


def test_a_task_that_was_refused_replaces_nothing(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate", overlap="replace")
    clockwork.at("12:01")
    clockwork.gate.wait_entered()
    row = {"job_id": "job", "fire_time": utc(f"{DAY} 12:02").timestamp(), "task_id": "theirs", "decided_at": 0.0}
    clockwork.store.write(lambda connection: connection.execute(insert(fires).values(row)))
    clockwork.at("12:02")
    clockwork.gate.open()
    clockwork.settle()
    assert [task.status for task in clockwork.tasks()] == ["SUCCESS"]


def test_what_is_due_comes_oldest_first_and_by_id_and_what_nobody_took_stays() -> None:
    due = DueJobs()
    for at_s, job_id in [(2.0, "c"), (1.0, "b"), (2.0, "a"), (3.0, "d"), (2.0, "b"), (1.0, "b")]:
        due.add(at_s, job_id)
    taken = due.pop(2.5)
    assert [next(taken) for _ in range(3)] == [(1.0, "b"), (1.0, "b"), (2.0, "a")]
    taken.close()
    assert due.next_s == 2.0
    due.add(2.0, "a")
    assert sorted(due) == [(2.0, "a"), (2.0, "b"), (2.0, "c"), (3.0, "d")]
    assert list(due.pop(2.0)) == [(2.0, "a"), (2.0, "b"), (2.0, "c")]
    assert list(due.pop(2.0)) == []
    assert list(due.pop(9.0)) == [(3.0, "d")]
    assert due.next_s is None


def test_memory_and_disk_never_drift_apart(clockwork: Clockwork) -> None:
    """Random changes and ticks; after each, what is due, the records and the rows tell the same next starts."""
    draw = random.Random(20261123)
    names = [f"job{number}" for number in range(5)]
    crons = ["* * * * *", "*/2 * * * *", "0 13 * * *", "1-20 12 * * *"]
    for _ in range(120):
        name = draw.choice(names)
        match draw.randrange(6):
            case 0 | 1:
                clockwork.cron.add_job(name, draw.choice(crons), "nothing", spread=draw.choice([0, 40]))
            case 2:
                if clockwork.jobs.record(name):
                    clockwork.cron.remove_job(name)
            case 3:
                if clockwork.jobs.record(name):
                    clockwork.cron.pause_job(name)
            case _:
                clockwork.pass_by(seconds=draw.randrange(1, 200))
        records = {record.id: record.next_run for record in clockwork.jobs.records()}
        assert sorted(clockwork.jobs._table._due) == sorted((at.timestamp(), one) for one, at in records.items() if at)
        assert {one: row.next_run_time for one, row in clockwork.rows().items()} == {
            one: None if at is None else at.timestamp() for one, at in records.items()
        }
    for name in names:
        assert {row.skip_reason for row in clockwork.fires(name)} <= {
            None,
            SkipReason.PAUSED,
            SkipReason.COALESCED,
            SkipReason.OVERLAP,
        }


# --- APScheduler's own calls -----------------------------------------------------------------------------------------


def test_apschedulers_add_job_is_refused(clockwork: Clockwork) -> None:
    scheduler = clockwork.cron.running.scheduler
    with pytest.raises(TypeError, match=r"CronManager\.add_job"):
        scheduler.add_job(print, "interval", seconds=1, id="foreign")
    assert clockwork.rows() == {}
    assert clockwork.jobs.records() == []


def test_apscheduler_can_look_and_move_and_remove(clockwork: Clockwork) -> None:
    scheduler = clockwork.cron.running.scheduler
    clockwork.cron.add_job("job", "@hourly", "nothing")
    clockwork.cron.add_job("daily", "@daily", "nothing")
    assert [job.id for job in scheduler.get_jobs()] == ["job", "daily"]
    assert scheduler.get_job("nobody") is None
    scheduler.modify_job("job", next_run_time=utc(f"{DAY} 12:30"))
    assert clockwork.rows()["job"].next_run_time == utc(f"{DAY} 12:30").timestamp()
    scheduler.pause_job("daily")
    assert clockwork.rows()["daily"].next_run_time is None
    scheduler.remove_job("job")
    assert list(clockwork.rows()) == ["daily"]
    with pytest.raises(JobLookupError):
        scheduler.remove_job("job")
    with pytest.raises(JobLookupError):
        scheduler.modify_job("job", next_run_time=utc(f"{DAY} 12:30"))
    scheduler.remove_all_jobs()
    assert clockwork.rows() == {}


def test_stopping_the_scheduler_leaves_the_shared_engine_alone(clockwork: Clockwork) -> None:
    clockwork.jobs.shutdown()
    assert clockwork.store.read(lambda connection: connection.execute(select(jobs)).all()) == []


def test_a_fire_is_told_behind_its_commit(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.at("12:01")
    until(lambda: any(getattr(one, "status", None) == "SUCCESS" for one in clockwork.events), clockwork.store)
    (task,) = clockwork.tasks()
    assert task.fire_time == utc(f"{DAY} 12:01")
    assert task.owner == clockwork.store.owner


def test_a_fired_task_is_not_taken_for_one_that_another_process_put_there(clockwork: Clockwork) -> None:
    """What another process commits makes the scheduler look for unowned tasks; its own must not be among them."""
    clockwork.cron.add_job("job", "* * * * *", "gate")
    clockwork.at("12:01")
    clockwork.gate.wait_entered()
    clockwork.queue.serving._look_for_requests()
    clockwork.store.write(lambda _connection: None)
    clockwork.gate.open()
    clockwork.settle()
    assert clockwork.gate.calls == 1
    assert [task.status for task in clockwork.tasks()] == ["SUCCESS"]


def test_a_row_another_process_moved_is_read_at_the_next_start_only(start: Callable[..., Clockwork]) -> None:
    first = start()
    first.cron.add_job("job", "@hourly", "nothing")
    later = (utc(f"{DAY} 12:00") + timedelta(hours=5)).timestamp()
    first.store.write(lambda connection: connection.execute(update(jobs).values(next_run_time=later)))
    assert first.job().next_run_at == utc(f"{DAY} 13:00")
    assert start().job().next_run_at == datetime.fromtimestamp(later, UTC)
