"""One poisonous job stops no other: it is set apart, told in words, and comes back without a restart."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from atlas.builtin.health.jobs import jobs_check
from atlas.scheduler import bridge as bridge_module
from atlas.scheduler.client import AtlasClient
from atlas.scheduler.errors import JobRefusedError
from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.job_store import passes as passes_module
from atlas.scheduler.job_store.apart import RETRY_FIRST_S, RETRY_MAX_S, Apart
from atlas.scheduler.job_view import JobState
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.leaders_jobs import LeadersJobs
from atlas.scheduler.reconcile.advice import advise
from atlas.scheduler.reconcile.file import Seen, content_digest
from atlas.scheduler.reconcile.reconciler import Reconciler
from atlas.scheduler.schedule import Schedule
from atlas.scheduler.store.refusals import MAX_LETTERS, cause_of
from atlas.scheduler.store.task_rows import new_row
from atlas.scheduler.why.answer import why
from atlas.service import AtlasScheduler
from atlas.web.words.speech import Speech
from tests.clockwork import DAY, Clockwork, locked, nothing, until, utc
from tests.test_chinese import english_in
from tests.test_chinese_pages import english_on
from tests.test_web_api import signed_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.scheduler.task import Task
    from atlas.settings import Settings


MINUTELY, EVEN = "* * * * *", "*/2 * * * *"


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clockwork]:
    """A scheduler on each kind of database."""
    where = tmp_path / "atlas.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with Clockwork(where, monkeypatch) as made:
        yield made


@pytest.fixture
def bad_times(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Cron texts whose next time cannot be computed."""
    raising: set[str] = set()
    real = Schedule.next_after

    def next_after(self: Schedule, instant: datetime) -> datetime | None:
        if raising.intersection(self.cron):
            raise OSError("the zone file is gone")
        return real(self, instant)

    monkeypatch.setattr(Schedule, "next_after", next_after)
    return raising


REFUSALS = {
    "sqlite": """
        CREATE TRIGGER poison BEFORE INSERT ON {table} WHEN NEW.job_id = 'bad'
        BEGIN SELECT RAISE(ABORT, 'poison'); END
    """,
    "postgresql": """
        CREATE FUNCTION poison() RETURNS trigger AS $$
        BEGIN IF NEW.job_id = 'bad' THEN RAISE EXCEPTION 'poison'; END IF; RETURN NEW; END $$ LANGUAGE plpgsql;
        CREATE TRIGGER poison BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION poison()
    """,
}
END = {"sqlite": "DROP TRIGGER poison", "postgresql": "DROP FUNCTION poison() CASCADE"}


def refuse(clockwork: Clockwork, table: str) -> None:
    """From now on the database takes no row of the job ``bad`` into ``table``."""
    statement = REFUSALS[clockwork.store.engine.dialect.name].format(table=table)
    clockwork.store.write(lambda connection: connection.execute(text(statement)))


def refuse_no_more(clockwork: Clockwork) -> None:
    statement = END[clockwork.store.engine.dialect.name]
    clockwork.store.write(lambda connection: connection.execute(text(statement)))


def told(clockwork: Clockwork, kind: JobEventKind, job: str = "bad") -> list[JobEvent]:
    """The events of a kind, of one job."""
    assert clockwork.store.events.drain()
    return [one for one in clockwork.events if isinstance(one, JobEvent) and (one.kind, one.job_id) == (kind, job)]


def poisoned(clockwork: Clockwork, table: str = "tasks", **options: Any) -> None:
    """Five good jobs, and a bad one in the midst of them."""
    for name in ("a", "b", "bad", "c", "d", "e"):
        clockwork.cron.add_job(name, "* * * * *", "nothing", **options)
    refuse(clockwork, table)


# --- the others go on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["tasks", "fires"])
def test_a_job_that_the_database_refuses_stops_no_other(anywhere: Clockwork, table: str) -> None:
    poisoned(anywhere, table)
    anywhere.each("12:01", "12:02")
    for good in "abcde":
        assert anywhere.decisions(good) == ["12:01 task", "12:02 task"]
        assert [task.status for task in anywhere.tasks(good)] == ["SUCCESS", "SUCCESS"]
    assert anywhere.decisions("bad") == []
    assert anywhere.cron.running.serving.view.unfinished_of("bad") == []
    assert anywhere.job("bad").state is JobState.PARKED
    assert [anywhere.job(good).state for good in "abcde"] == [JobState.ACTIVE] * 5
    assert anywhere.store.writer.fault is None
    refuse_no_more(anywhere)
    anywhere.each("12:03")  # by itself: it is tried every half minute at first
    assert anywhere.decisions("bad") == ["12:01-12:02 skip coalesced x2", "12:03 task"]
    assert anywhere.job("bad").state is JobState.ACTIVE
    assert len(told(anywhere, JobEventKind.PARKED)) == len(told(anywhere, JobEventKind.RESUMED)) == 1


def test_of_a_herd_the_bad_ones_are_found_in_the_same_pass(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"job007", "job031", "job032", "job079"}
    for number in range(80):
        clockwork.cron.add_job(f"job{number:03}", "* * * * *", "nothing")

    def raising(task: Task) -> Any:
        if task.job_id in bad:
            raise OverflowError("a hostile value")
        return new_row(task)

    monkeypatch.setattr("atlas.scheduler.job_store.passes.new_row", raising)
    clockwork.each("12:01")
    states = {job.name: job.state for job in clockwork.cron.get_all_jobs()}
    assert {name for name, state in states.items() if state is JobState.PARKED} == bad
    assert all(clockwork.decisions(name) == ["12:01 task"] for name in states.keys() - bad)


def test_a_job_that_was_refused_costs_the_others_no_second_try(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(clockwork)
    clockwork.each("12:01")
    real, parts = passes_module.write_pass, []

    def watching(connection: Connection, decided: Any) -> Any:
        parts.append(sorted(decided.job_ids))
        return real(connection, decided)

    monkeypatch.setattr("atlas.scheduler.job_store.door.write_pass", watching)
    clockwork.each("12:02")
    assert parts == [["a", "b", "c", "d", "e"], ["bad"], []]


def test_when_nothing_can_be_written_no_job_is_to_blame(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned(clockwork)

    def raising(*_args: object) -> None:
        raise ValueError("a bug in all of it")

    with monkeypatch.context() as patch:
        patch.setattr("atlas.scheduler.job_store.door.write_pass", raising)
        assert clockwork.at("12:01") == 1.0
        assert {job.state for job in clockwork.cron.get_all_jobs()} == {JobState.ACTIVE}
    clockwork.each("12:01:01")
    assert clockwork.decisions("a") == ["12:01 task"]


def test_a_database_that_is_unwell_sets_no_job_apart(
    clockwork: Clockwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.scheduler.job_store.job_store.PASS_WAIT_S", 0.05)
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    with locked(tmp_path / "atlas.db"):
        clockwork.at("12:01")
        assert clockwork.job().state is JobState.ACTIVE
    until(lambda: clockwork.decisions() == ["12:01 task"], clockwork.store)
    assert clockwork.job().state is JobState.ACTIVE


# --- it comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["by name", "all"])
def test_a_job_that_is_resumed_is_tried_at_once_and_caught_up(anywhere: Clockwork, which: str) -> None:
    poisoned(anywhere, catchup="all")
    anywhere.each("12:01", "12:02")
    refuse_no_more(anywhere)
    assert anywhere.cron.resume_jobs(None if which == "all" else ["bad"], by="mei") == ["bad"]
    anywhere.each("12:02:01")
    assert anywhere.decisions("bad") == ["12:01 task", "12:02 task"]
    assert [task.status for task in anywhere.tasks("bad")] == ["SUCCESS", "SUCCESS"]
    assert anywhere.job("bad").state is JobState.ACTIVE
    assert not anywhere.cron.resume_job("bad")
    with AtlasClient(anywhere.database).sync as client:
        assert [(one.actor, one.action) for one in client.audit(subject="bad", action="resume")] == [("mei", "resume")]


@pytest.mark.parametrize("which", ["by name", "all"])
def test_another_process_sees_why_and_resumes_it(anywhere: Clockwork, which: str) -> None:
    poisoned(anywhere)
    anywhere.each("12:01")
    anywhere.store.write(lambda _connection: None)  # behind the renewal of the lease
    with AtlasClient(anywhere.database).sync as client:
        client.store.clock = anywhere.clock
        seen = client.job("bad")
        assert (seen.state, seen.detail) == (JobState.PARKED, anywhere.job("bad").detail)
        leaders = LeadersJobs(client.store)
        assert leaders.shown.jobs.apart_words() == {"bad": seen.detail}
        leaders.close()
        refuse_no_more(anywhere)
        anywhere.clock.instant = utc(f"{DAY} 12:01:10")
        assert client.resume_jobs(None if which == "all" else ["bad"], by="cli:lin") == ["bad"]
        anywhere.cron.running._hear()
        anywhere.tick()
        anywhere.settle()
        assert anywhere.decisions("bad") == ["12:01 task"]
        assert client.job("bad").state is JobState.ACTIVE
        assert not client.resume_job("bad")


def test_an_edit_brings_it_back_at_once(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork.cron.add_job("bad", "* * * * *", "nothing", "poison")

    def raising(task: Task) -> Any:
        record = clockwork.jobs.record("bad")
        if record is not None and record.definition.description == "poison":
            raise ValueError("poison")
        return new_row(task)

    monkeypatch.setattr("atlas.scheduler.job_store.passes.new_row", raising)
    clockwork.each("12:01", "12:02")
    assert clockwork.job("bad").state is JobState.PARKED
    clockwork.cron.add_job("bad", "* * * * *", "nothing", "good")
    assert clockwork.job("bad").state is JobState.ACTIVE
    clockwork.each("12:02:05")
    assert clockwork.decisions("bad") == ["12:01 skip coalesced", "12:02 task"]


def test_another_schedule_for_it_comes_into_force_and_what_was_due_is_a_skip_with_its_reason(
    anywhere: Clockwork,
) -> None:
    poisoned(anywhere)
    anywhere.each("12:01", "12:02")
    anywhere.cron.add_job("bad", "@hourly", "nothing")
    assert anywhere.decisions("bad") == ["12:01-12:02 skip fault xNone"]
    assert "poison" in anywhere.fires("bad")[0].detail
    assert anywhere.job("bad").state is JobState.ACTIVE
    assert anywhere.job("bad").next_fire_time == utc(f"{DAY} 13:00")


def test_skips_of_a_pause_begin_anew_behind_those_of_a_schedule_that_was_replaced(
    clockwork: Clockwork, bad_times: set[str]
) -> None:
    clockwork.cron.add_job("bad", MINUTELY, "nothing")
    clockwork.cron.pause_job("bad")
    clockwork.each("12:01")
    bad_times.add(MINUTELY)
    clockwork.each("12:02", "12:03")
    clockwork.cron.add_job("bad", EVEN, "nothing")
    clockwork.each("12:04", "12:06")
    assert clockwork.decisions("bad") == [
        "12:01 skip paused",
        "12:02-12:03 skip fault xNone",
        "12:04-12:06 skip paused x2",
    ]


def test_another_schedule_comes_into_force_even_if_not_even_a_skip_is_taken(clockwork: Clockwork) -> None:
    poisoned(clockwork, "fires")
    clockwork.each("12:01")
    clockwork.cron.add_job("bad", "@hourly", "nothing")
    assert clockwork.decisions("bad") == []
    assert clockwork.job("bad").next_fire_time == utc(f"{DAY} 13:00")
    assert clockwork.decisions("a") == ["12:01 task"]


def test_a_schedule_whose_next_time_cannot_be_computed_is_replaced(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("bad", "* * * * *", "nothing")
    clockwork.cron.add_job("good", "*/1 * * * *", "nothing")
    real = Schedule.next_after

    def raising(self: Schedule, instant: datetime) -> datetime | None:
        if self.cron == ("* * * * *",):
            raise OSError("the zone file is gone")
        return real(self, instant)

    monkeypatch.setattr(Schedule, "next_after", raising)
    clockwork.each("12:01", "12:02")
    assert clockwork.decisions("good") == ["12:01 task", "12:02 task"]
    seen = clockwork.job("bad")
    assert (seen.state, "the zone file is gone" in seen.detail) == (JobState.PARKED, True)
    assert len(told(clockwork, JobEventKind.PARKED)) == 1  # however often it is tried
    assert clockwork.cron.running.clock_came_back() == 0  # which asks every job
    clockwork.cron.add_job("bad", "*/2 * * * *", "nothing")
    assert clockwork.decisions("bad") == ["12:01-12:02 skip fault xNone"]
    clockwork.each("12:04")
    assert clockwork.decisions("bad")[-1] == "12:04 task"
    assert clockwork.job("bad").state is JobState.ACTIVE


def test_the_next_scheduler_on_the_store_finds_out_for_itself_and_nothing_is_lost(clockwork: Clockwork) -> None:
    poisoned(clockwork, catchup="all")
    clockwork.each("12:01")
    clockwork.restart(utc(f"{DAY} 12:02"))
    assert clockwork.job("bad").state is JobState.ACTIVE
    clockwork.tick()
    assert clockwork.job("bad").state is JobState.PARKED
    refuse_no_more(clockwork)
    clockwork.restart(utc(f"{DAY} 12:03"))
    clockwork.each("12:03")
    assert clockwork.decisions("bad") == ["12:01 task", "12:02 task", "12:03 task"]
    assert [row.fire_time for row in clockwork.fires("bad")] == [
        task.fire_time.timestamp() for task in clockwork.tasks("bad") if task.fire_time
    ]


def test_a_removed_job_is_forgotten(clockwork: Clockwork) -> None:
    poisoned(clockwork)
    clockwork.each("12:01")
    clockwork.cron.remove_job("bad")
    assert clockwork.jobs.apart() == {}
    clockwork.each("12:02")
    assert clockwork.decisions("a") == ["12:01 task", "12:02 task"]


def test_a_job_whose_next_time_cannot_be_computed_can_be_edited_and_added_again_by_its_program(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("bad", "* * * * *", "nothing")
    with monkeypatch.context() as patch:

        def raising(*_args: object) -> None:
            raise OSError("the zone file is gone")

        patch.setattr(Schedule, "next_after", raising)
        clockwork.each("12:01")
        clockwork.cron.add_job("bad", "* * * * *", "nothing")
        clockwork.cron.add_job("bad", "* * * * *", "nothing", catchup="all")
        clockwork.each("12:02")
        assert clockwork.job("bad").state is JobState.PARKED
    clockwork.each("12:03")
    assert clockwork.decisions("bad") == ["12:01 task", "12:02 task", "12:03 task"]


def test_whoever_runs_it_now_is_told_and_the_others_run(anywhere: Clockwork) -> None:
    poisoned(anywhere)
    made = anywhere.cron.run_jobs_now(["a", "bad", "b"])
    assert str(made["bad"]).startswith("job bad: the database refuses its task: ")
    anywhere.settle()
    assert [[task.status for task in anywhere.tasks(good)] for good in "ab"] == [["SUCCESS"]] * 2
    with AtlasClient(anywhere.database).sync as client, pytest.raises(JobRefusedError, match="poison"):
        client.run_job("bad")
    assert anywhere.cron.running.serving.view.unfinished_of("bad") == []


# --- a schedule that is new, and cannot say its first start -----------------------------------------------------------


class Filed:
    """A scheduler's config file."""

    def __init__(self, clockwork: Clockwork, file: Path) -> None:
        self.file = file
        self.reconciler = Reconciler(clockwork.cron, file, PolicyDefaults())

    def write(self, **crons: str) -> str:
        jobs = {name: {"cron_expression": cron, "function": "nothing"} for name, cron in crons.items()}
        text = json.dumps({"cron_jobs": jobs})
        self.file.write_text(text, "utf-8")
        return text


@pytest.fixture
def filed(clockwork: Clockwork, tmp_path: Path) -> Filed:
    return Filed(clockwork, tmp_path / "cron_jobs.json")


def test_a_new_job_of_the_file_that_cannot_say_its_first_start_stops_no_other(
    clockwork: Clockwork, filed: Filed, bad_times: set[str]
) -> None:
    bad_times.add(MINUTELY)
    filed.write(bad=MINUTELY, good=EVEN)
    assert filed.reconciler.start() is not None  # a first start: there is no revision to go back to
    clockwork.each("12:01", "12:02")
    seen = clockwork.job("bad")
    assert (seen.state, seen.next_fire_time, seen.next_run_at) == (JobState.PARKED, None, None)
    assert "set apart since 2026-03-02T12:01:00+00:00" in seen.detail
    assert "OSError: the zone file is gone" in seen.detail
    assert clockwork.decisions("bad") == []
    assert clockwork.decisions("good") == ["12:02 task"]
    assert len(told(clockwork, JobEventKind.PARKED)) == 1
    bad_times.clear()
    clockwork.each("12:03")
    assert clockwork.decisions("bad") == ["12:01-12:02 skip coalesced x2", "12:03 task"]
    assert clockwork.job("bad").state is JobState.ACTIVE
    assert len(told(clockwork, JobEventKind.RESUMED)) == 1


def test_the_watcher_deals_with_such_a_file_once(clockwork: Clockwork, filed: Filed, bad_times: set[str]) -> None:
    filed.write(good=EVEN)
    filed.reconciler.reload()
    bad_times.add(MINUTELY)
    text = filed.write(bad=MINUTELY, good=EVEN, other="@hourly")
    raw = text.encode()
    assert filed.reconciler.notice(Seen(raw, content_digest(raw)), 0.0)
    assert filed.reconciler.standing.error is None
    latest = filed.reconciler.latest_revision()
    assert latest is not None
    assert filed.reconciler.revision(latest.number).text == text
    clockwork.at("12:00:31")
    assert {job.id: job.state.value for job in clockwork.cron.get_all_jobs()} == {
        "bad": "PARKED",
        "good": "ACTIVE",
        "other": "ACTIVE",
    }


def test_a_job_added_by_code_that_cannot_say_its_first_start_is_set_apart(
    anywhere: Clockwork, bad_times: set[str]
) -> None:
    bad_times.add("@hourly")
    anywhere.cron.add_job("bad", "@hourly", "nothing")
    anywhere.cron.add_job("good", MINUTELY, "nothing")
    anywhere.each("12:01")
    assert anywhere.decisions("good") == ["12:01 task"]
    assert anywhere.job("bad").state is JobState.PARKED
    bad_times.clear()
    assert anywhere.cron.resume_job("bad")
    anywhere.each("12:01:10")  # and its first start lies ahead: nothing was due
    assert anywhere.job("bad").state is JobState.ACTIVE
    assert anywhere.rows()["bad"].next_run_time == utc(f"{DAY} 13:00").timestamp()
    assert len(told(anywhere, JobEventKind.RESUMED)) == 2  # by somebody, and served again
    anywhere.each("13:00")
    assert anywhere.decisions("bad") == ["13:00 task"]


def test_a_job_that_goes_on_with_a_schedule_that_cannot_say_its_start_is_set_apart(
    clockwork: Clockwork, filed: Filed, bad_times: set[str]
) -> None:
    filed.write(bad=EVEN)
    filed.reconciler.reload()
    clockwork.each("12:02")
    bad_times.add(MINUTELY)
    filed.write(bad=MINUTELY)
    filed.reconciler.reload()
    clockwork.each("12:03")
    assert clockwork.job("bad").state is JobState.PARKED
    bad_times.clear()
    clockwork.each("12:04")
    assert clockwork.decisions("bad") == ["12:02 task", "12:03 skip coalesced", "12:04 task"]


@pytest.mark.parametrize("cured", ["while nobody runs", "later"])
def test_a_restart_forgets_neither_that_it_has_no_start_yet_nor_where_it_counts_from(
    anywhere: Clockwork, bad_times: set[str], cured: str
) -> None:
    bad_times.add(MINUTELY)
    anywhere.clock.instant = utc(f"{DAY} 12:01")  # a whole second, and a fire time itself
    anywhere.cron.add_job("bad", MINUTELY, "nothing", catchup="all")
    anywhere.each("12:01")
    if cured == "while nobody runs":
        bad_times.clear()
    anywhere.restart(utc(f"{DAY} 12:03"))
    anywhere.each("12:03")
    if cured == "later":
        assert anywhere.job("bad").state is JobState.PARKED
        bad_times.clear()
        anywhere.each("12:03:30")
    assert anywhere.decisions("bad") == ["12:01 task", "12:02 task", "12:03 task"]
    assert anywhere.job("bad").state is JobState.ACTIVE


def test_a_schedule_that_never_fires_again_ends_its_job_once_it_can_say_so(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def raising(*_args: object) -> None:
            raise OSError("the zone file is gone")

        patch.setattr(Schedule, "next_after", raising)
        clockwork.cron.add_job("bad", "@hourly", "nothing", end_at=utc(f"{DAY} 12:30"))
        clockwork.each("12:01")
        assert clockwork.job("bad").state is JobState.PARKED
    clockwork.each("12:02")
    assert clockwork.job("bad").state is JobState.ENDED
    assert clockwork.rows()["bad"].next_run_time is None
    assert clockwork.decisions("bad") == []


@pytest.mark.parametrize("cured", [False, True])
def test_another_schedule_for_a_job_that_never_had_a_start_comes_into_force(
    clockwork: Clockwork, bad_times: set[str], cured: bool
) -> None:
    bad_times.add("@hourly")
    clockwork.cron.add_job("bad", "@hourly", "nothing")
    clockwork.each("12:01")
    if cured:
        bad_times.clear()
    clockwork.cron.add_job("bad", EVEN, "nothing")
    # What was due meanwhile, nobody knows; of a schedule that can say it by now, nothing was.
    assert clockwork.decisions("bad") == ([] if cured else ["12:00:29-12:01 skip fault xNone"])
    clockwork.each("12:02")
    assert clockwork.decisions("bad")[-1] == "12:02 task"
    assert clockwork.job("bad").state is JobState.ACTIVE


def test_an_edit_of_what_else_is_in_it_keeps_where_it_counts_from(clockwork: Clockwork, bad_times: set[str]) -> None:
    bad_times.add(MINUTELY)
    clockwork.cron.add_job("bad", MINUTELY, "nothing", catchup="all")
    clockwork.each("12:01")
    clockwork.cron.add_job("bad", MINUTELY, "nothing", "with a description", catchup="all")
    clockwork.each("12:02")
    bad_times.clear()
    clockwork.each("12:03")
    assert clockwork.decisions("bad") == ["12:01 task", "12:02 task", "12:03 task"]


def test_looking_at_such_a_file_shows_the_others_and_says_what_is_wrong(
    clockwork: Clockwork, filed: Filed, bad_times: set[str]
) -> None:
    bad_times.add(MINUTELY)
    text = filed.write(bad=MINUTELY, good=EVEN)
    shown = {job.id: job for job in filed.reconciler.preview(text).jobs}
    assert (shown["bad"].next_after, shown["bad"].a_day_after) == (None, 0)
    assert (shown["good"].next_after, shown["good"].a_day_after) == (utc(f"{DAY} 12:02"), 720)
    wanted = filed.reconciler.parse(text)
    (warning,) = advise(wanted, file=filed.file, now=clockwork.clock.now(), slots=4)
    assert (warning.path, warning.line) == ("cron_jobs.bad", 1)
    assert warning.message.startswith("its next start cannot be computed: OSError: the zone file is gone; ")
    assert english_in(Speech("zh").told(warning.message).replace("OSError: the zone file is gone", "")) == []
    filed.reconciler.reload()
    clockwork.each("12:01")
    text = filed.write(bad=MINUTELY)
    shown = {job.id: job for job in filed.reconciler.preview(text).jobs}
    assert list(shown) == ["good"]
    filed.write(bad="@hourly", good=EVEN)
    edited = filed.reconciler.preview(filed.file.read_text("utf-8")).jobs
    assert [(job.id, job.next_before, job.next_after) for job in edited] == [("bad", None, utc(f"{DAY} 13:00"))]


def test_why_says_that_it_is_set_apart(clockwork: Clockwork, filed: Filed, bad_times: set[str]) -> None:
    bad_times.add(MINUTELY)
    filed.write(bad=MINUTELY)
    filed.reconciler.reload()
    clockwork.each("12:01")
    clockwork.store.write(lambda _connection: None)  # behind the renewal of the lease
    at, now = utc(f"{DAY} 12:01"), clockwork.clock.now()
    answer = clockwork.store.read(lambda connection: why(connection, "bad", at=at, now=now))
    assert answer.verdict == "undecided"
    assert "Nothing was decided for" in answer.words
    assert "It is parked now: set apart since" in answer.words


def test_an_interval_of_odd_microseconds_is_no_schedule_without_a_start(clockwork: Clockwork) -> None:
    anchor = utc(f"{DAY} 12:00:40.123457")
    clockwork.cron.add_job("odd", None, "nothing", interval=60.5, anchor=anchor)
    clockwork.each("12:00:41", "12:01:41")
    assert [task.fire_time for task in clockwork.tasks("odd")] == [anchor, utc(f"{DAY} 12:01:40.623457")]


# --- deciding on it fails --------------------------------------------------------------------------------------------


def test_a_job_on_which_cannot_be_decided_is_marked_while_its_fire_times_are_skipped(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork.cron.add_job("bad", "* * * * *", "nothing")
    with monkeypatch.context() as patch:

        def raising(*_args: object, **_kwargs: object) -> None:
            raise ValueError("no task can be built")

        patch.setattr(bridge_module, "make_task", raising)
        clockwork.each("12:01", "12:02")
        assert clockwork.decisions("bad") == ["12:01 skip fault", "12:02 skip fault"]
        assert "what is due is skipped: ValueError: no task can be built" in clockwork.job("bad").detail
    clockwork.each("12:03")
    assert clockwork.decisions("bad")[-1] == "12:03 task"
    assert clockwork.job("bad").state is JobState.ACTIVE
    assert [len(told(clockwork, kind)) for kind in (JobEventKind.PARKED, JobEventKind.RESUMED)] == [1, 1]


def test_what_was_half_decided_leaves_no_task_behind(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork.cron.add_job("bad", "* * * * *", "nothing", overlap="replace")
    clockwork.cron.add_job("good", "* * * * *", "nothing")

    def raising(job_id: str, *row: Any) -> passes_module.Served:
        if job_id == "bad":
            raise KeyError("gone")
        return passes_module.Served(job_id, *row)

    monkeypatch.setattr(bridge_module, "Served", raising)
    clockwork.each("12:01")
    assert clockwork.decisions("bad") == ["12:01-12:01 skip fault xNone"]
    assert clockwork.tasks("bad") == []
    assert clockwork.queue.get_queue_status()["queue_size"] == 0
    assert clockwork.decisions("good") == ["12:01 task"]


# --- in words --------------------------------------------------------------------------------------------------------


def test_health_and_why_say_what_is_wrong_and_what_to_do_in_both_languages(clockwork: Clockwork) -> None:
    poisoned(clockwork)
    clockwork.each("12:01")
    clockwork.store.write(lambda _connection: None)  # behind the renewal of the lease

    class Source:
        def each_job(self) -> Any:
            return clockwork.cron.get_all_jobs()

    check = jobs_check(clockwork.store, Source(), clockwork.clock)  # type: ignore[arg-type]
    assert check.status == "degraded"
    assert "bad (cannot be served: set apart since 2026-03-02T12:01:00+00:00, what is due waits:" in check.detail
    assert "atlas resume JOB" in check.remedy
    answer = clockwork.store.read(lambda connection: why(connection, "bad", at=None, now=clockwork.clock.now()))
    assert answer.words.startswith("It has not fired yet. It is parked now: set apart since")
    assert "poison" in answer.facts["parked"]
    chinese = Speech("zh")
    for sentence in (check.detail, check.remedy, *answer.sentences):
        said = chinese.told(sentence)
        assert english_in(said.replace("IntegrityError: poison", "")) == []
    assert "自 2026-03-02T12:01:00+00:00 起被搁置" in chinese.told(check.detail)


JOBS = {
    "cron_jobs": {
        "bad": {"cron_expression": "* * * * * *", "function": "nothing", "name": "坏的"},
        "good": {"cron_expression": "* * * * * *", "function": "nothing", "name": "好的"},
    }
}


def says(page: str, detail: str) -> bool:
    """True if a page has these words, with the instant in them as a reader has it on the clock."""
    before, after = re.split(r"\d{4}-\d\d-\d\dT[^,]*", detail)
    clock = r"(?!\d{4}-\d\d-\d\dT)[^,<]{4,40}"
    return re.search(re.escape(before) + clock + re.escape(after), html.unescape(page)) is not None


def test_pages_and_api_say_it_and_resume_it(settings: Settings) -> None:
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text(json.dumps(JOBS))
    atlas = AtlasScheduler(settings)
    atlas.registry.add("nothing", nothing)
    with atlas.in_thread():
        heard: list[Any] = []
        atlas.store.events.subscribe(heard.append)
        poison = text(REFUSALS["sqlite"].format(table="tasks"))
        atlas.store.write(lambda connection: connection.execute(poison))
        until(lambda: atlas.cron.sync.get_job("bad").state is JobState.PARKED, atlas.store)
        client = signed_in(atlas)
        detail = atlas.cron.sync.get_job("bad").detail
        told = client.get("/api/v1/jobs/bad").json()
        assert (told["state"], told["detail"]) == ("PARKED", detail)
        assert {one["id"]: one["state"] for one in client.get("/api/v1/jobs").json()["items"]}["bad"] == "PARKED"
        for path in ("/", "/jobs", "/jobs/bad", "/ask/resume"):
            page = client.get(path, params={"lang": "en", "job": "bad"})
            assert says(page.text, detail), path
            page = client.get(path, params={"lang": "zh", "job": "bad"})
            assert "起被搁置，到期的触发在等待：IntegrityError: poison" in page.text, path
            assert [one for one in english_on(page.text) if "IntegrityError" not in one] == []
        assert "/ask/resume?job=bad" in client.get("/jobs/bad").text
        atlas.store.write(lambda connection: connection.execute(text(END["sqlite"])))
        assert client.post("/api/v1/jobs/bad/resume").json() == {"resumed": True}
        served_again: tuple[Any, Any] = (JobEventKind.RESUMED, {})  # whoever resumed it is named in another event
        until(
            lambda: any((one.kind, one.detail) == served_again for one in heard if isinstance(one, JobEvent)),
            atlas.store,
        )
        assert atlas.cron.sync.get_job("bad").state is JobState.ACTIVE
        for _ in range(2):  # behind the renewal of the lease, which may have waited for another one
            atlas.store.write(lambda _connection: None)
        assert not says(client.get("/jobs/bad", params={"lang": "en"}).text, detail)


def test_a_service_starts_with_such_a_file_and_its_pages_show_it(settings: Settings, bad_times: set[str]) -> None:
    bad_times.add(MINUTELY)
    jobs = {
        "bad": {"cron_expression": MINUTELY, "function": "nothing"},
        "good": {"cron_expression": "* * * * * *", "function": "nothing"},
    }
    settings.persistence.cron_config.parent.mkdir(parents=True, exist_ok=True)
    settings.persistence.cron_config.write_text(json.dumps({"cron_jobs": jobs}))
    atlas = AtlasScheduler(settings)
    atlas.registry.add("nothing", nothing)
    with atlas.in_thread():
        cron = atlas.cron.sync
        until(lambda: cron.get_job("bad").state is JobState.PARKED, atlas.store)
        assert cron.get_job("good").state is JobState.ACTIVE
        client, detail = signed_in(atlas), cron.get_job("bad").detail
        for path in ("/", "/jobs", "/jobs/bad", "/jobs/good", "/ask/resume?job=bad"):
            page = client.get(path, params={"lang": "en", "job": "bad"})
            assert page.status_code == 200, path
            assert says(page.text, detail) is (path != "/jobs/good"), path
        for path in ("/config", "/queue", "/system", "/api/v1/jobs", "/api/v1/jobs/bad/why"):
            assert client.get(path).status_code == 200, path
        message_of = client.get("/api/v1/jobs/bad").json()
        assert (message_of["state"], message_of["next_run_at"]) == ("PARKED", None)


def test_the_words_are_one_short_line() -> None:
    assert cause_of(ValueError("first\nsecond")) == "ValueError: first"
    assert cause_of(KeyError()) == "KeyError"
    assert len(cause_of(ValueError("长" * 5000))) == MAX_LETTERS


def test_tries_come_quickly_at_first_and_never_end() -> None:
    now = utc(f"{DAY} 12:00")
    one = Apart(id="job", error="no", since=now, tried_at=now)
    waits = []
    for _ in range(30):
        waits.append(one.retry_in_s)
        one = Apart(id="job", error="no", since=utc(f"{DAY} 13:00"), tried_at=now).after(one)
    assert waits == [RETRY_FIRST_S] * 10 + [RETRY_MAX_S] * 20
    assert one.since == now
