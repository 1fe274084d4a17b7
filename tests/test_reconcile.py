"""The config file against the scheduler: what changes, what stays, and what a bad file cannot do."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, insert, select, update

from atlas.scheduler.client import SyncAtlasClient
from atlas.scheduler.definition_text import UnreadDefinition, definition_of, row_of, seal_of, text_of
from atlas.scheduler.errors import ConfigError, JobOwnershipError, StoreUnavailableError
from atlas.scheduler.events import JobEvent
from atlas.scheduler.job_store import changes
from atlas.scheduler.job_view import JobState
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.parsing import load_jobs
from atlas.scheduler.reconcile import reconciler as reconcile_module
from atlas.scheduler.reconcile.plan import Plan, make_plan
from atlas.scheduler.reconcile.reconciler import Reconciler
from atlas.scheduler.store.tables import jobs, revisions
from tests.clockwork import DAY, Clockwork, nothing, utc
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

HOURLY = {"cron_expression": "@hourly", "function": "nothing"}
MINUTELY = {"cron_expression": "* * * * *", "function": "nothing"}


class Configured:
    """A scheduler and its config file."""

    def __init__(self, clockwork: Clockwork, file: Path) -> None:
        self.clockwork, self.file = clockwork, file
        self.reconciler = Reconciler(clockwork.cron, file, PolicyDefaults())

    def write(self, /, **jobs: dict[str, Any]) -> None:
        self.file.write_text(json.dumps({"cron_jobs": jobs}), "utf-8")

    def apply(self, /, **jobs: dict[str, Any]) -> Plan:
        self.write(**jobs)
        return self.reconciler.reload(author="test")

    def restart(self, now: datetime | None = None) -> None:
        self.clockwork.restart(now)
        self.reconciler = Reconciler(self.clockwork.cron, self.file, PolicyDefaults())

    def states(self) -> dict[str, str]:
        return {job.id: job.state.value for job in self.clockwork.cron.get_all_jobs()}

    def revisions(self) -> list[Any]:
        statement = select(revisions).order_by(revisions.c.number)
        return self.clockwork.store.read(lambda connection: list(connection.execute(statement)))


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Configured]:
    with Clockwork(tmp_path / "atlas.db", monkeypatch) as clockwork:
        yield Configured(clockwork, tmp_path / "cron_jobs.json")


@pytest.fixture
def clockwork(configured: Configured) -> Clockwork:
    return configured.clockwork


# --- what a file changes ---------------------------------------------------------------------------------------------


def test_a_first_file_adds_its_jobs(configured: Configured, clockwork: Clockwork) -> None:
    plan = configured.apply(one=HOURLY, two={**MINUTELY, "name": "第二", "enabled": False})
    assert plan.summary == "+one +two"
    assert configured.states() == {"one": "ACTIVE", "two": "DISABLED"}
    assert clockwork.job("two").title == "第二"
    assert clockwork.job("two").next_fire_time is None
    assert clockwork.job("one").source == "file"


def test_the_plan_names_what_is_new_different_gone_and_the_same(configured: Configured) -> None:
    configured.apply(same=HOURLY, other=HOURLY, gone=HOURLY)
    plan = configured.apply(same=HOURLY, other=MINUTELY, new=HOURLY)
    assert [one.id for one in plan.added] == ["new"]
    assert [one.id for one in plan.changed] == ["other"]
    assert plan.removed == ("gone",)
    assert plan.unchanged == 1
    assert plan.summary == "+new ~other -gone"
    assert plan


def test_the_summary_of_a_great_edit_is_short(configured: Configured) -> None:
    many = {f"job{number:03}": HOURLY for number in range(300)}
    plan = configured.apply(**many, one=HOURLY)
    assert plan.summary.startswith("+job000 +job001 +job002 ")
    assert plan.summary.endswith(" +job019 … (+301)")
    assert configured.revisions()[0].summary == plan.summary
    assert configured.apply(one=MINUTELY).summary == f"~one {' '.join(f'-job{n:03}' for n in range(20))} … (-300)"


def test_an_unchanged_file_writes_nothing(configured: Configured, clockwork: Clockwork) -> None:
    configured.apply(one=HOURLY, two=MINUTELY)
    configured.restart()
    written: list[str] = []

    def execute(_connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.lstrip().startswith(("SELECT", "BEGIN", "PRAGMA")):
            written.append(statement)

    clockwork.store.write(lambda _connection: None)  # what the start wrote is behind us
    event.listen(clockwork.store.engine, "before_cursor_execute", execute)
    plan = configured.reconciler.reload(author="start")
    event.remove(clockwork.store.engine, "before_cursor_execute", execute)
    assert not plan
    assert plan.summary == "no change to jobs"
    assert [one for one in written if "SAVEPOINT" not in one and "leases" not in one] == []
    assert len(configured.revisions()) == 1


def test_rows_of_an_earlier_version_that_name_what_nobody_set_are_no_change(
    configured: Configured, clockwork: Clockwork
) -> None:
    def add_by_code() -> None:
        clockwork.cron.add_job("code", "@hourly", "nothing", max_retries=1)

    def age(connection: Connection) -> None:
        for row in connection.execute(select(jobs)).all():
            definition = definition_of(row.job_state)
            policies = definition.policies
            earlier = {**dict.fromkeys(policies.values(), "built in"), **policies.value_from}
            head, name, _said = text_of(definition).rpartition('"value_from":')
            text = f"{head}{name}{json.dumps(earlier)}}}"
            connection.execute(update(jobs).where(jobs.c.id == row.id).values(job_state=row_of(text, seal_of(text))))
        connection.execute(update(revisions).values(checked=None))

    configured.apply(one=HOURLY, two={**MINUTELY, "timeout": 5})
    add_by_code()
    clockwork.store.write(age)
    rows = clockwork.rows()
    configured.restart()
    assert all(isinstance(one.known, UnreadDefinition) for one in clockwork.jobs.records())
    assert not configured.reconciler.reload(author="start")
    add_by_code()
    assert clockwork.rows() == rows
    assert len(configured.revisions()) == 1
    assert [one for one in clockwork.events if isinstance(one, JobEvent)] == []
    assert configured.apply(one=HOURLY, two={**MINUTELY, "timeout": 6}).summary == "~two"


def test_unchanged_jobs_keep_their_next_fire_time_when_others_change(
    configured: Configured, clockwork: Clockwork
) -> None:
    configured.apply(same={**HOURLY, "spread": "20m"}, other=HOURLY)
    before = clockwork.job("same")
    row = clockwork.rows()["same"]
    configured.restart(utc(f"{DAY} 13:30"))
    configured.apply(same={**HOURLY, "spread": "20m"}, other=MINUTELY)
    assert clockwork.job("same") == before
    assert clockwork.rows()["same"] == row
    clockwork.at("13:30:01")
    assert clockwork.decisions("same") == ["12:00 skip coalesced", "13:00 task"]  # it was to start at 12:03


def test_a_changed_job_with_the_same_schedule_keeps_its_next_fire_time(
    configured: Configured, clockwork: Clockwork
) -> None:
    configured.apply(job=HOURLY)
    clockwork.clock.instant = utc(f"{DAY} 13:10")
    configured.apply(job={**HOURLY, "timeout": 5})
    assert clockwork.job().next_fire_time == utc(f"{DAY} 13:00")
    assert clockwork.decisions() == []


def test_due_times_of_the_old_schedule_are_served_before_the_new_one_counts(
    configured: Configured, clockwork: Clockwork
) -> None:
    configured.apply(job=HOURLY, other=HOURLY)
    clockwork.clock.instant = utc(f"{DAY} 13:10")
    configured.apply(job={**HOURLY, "cron_expression": "*/15 * * * *"}, other=HOURLY)
    assert clockwork.decisions() == ["13:00 task"]
    assert clockwork.decisions("other") == []  # it did not change: its turn comes with the next look
    assert clockwork.job().next_fire_time == utc(f"{DAY} 13:15")
    assert clockwork.tasks()[0].revision == 1


def test_a_change_is_applied_behind_what_falls_due_while_it_is_applied(
    configured: Configured, clockwork: Clockwork
) -> None:
    configured.apply(job=MINUTELY)
    clockwork.clock.instant = utc(f"{DAY} 12:01")
    clockwork.at("12:01")
    configured.apply(job={**MINUTELY, "function": "gate"})
    assert clockwork.job().next_fire_time == utc(f"{DAY} 12:02")
    assert clockwork.decisions() == ["12:01 task"]


def test_a_removed_job_stops_and_keeps_its_history(configured: Configured, clockwork: Clockwork) -> None:
    configured.apply(job=MINUTELY, stays=HOURLY)
    clockwork.each("12:01")
    configured.apply(stays=HOURLY)
    clockwork.at("12:02")
    assert configured.states() == {"stays": "ACTIVE"}
    assert clockwork.decisions() == ["12:01 task"]
    assert len(clockwork.tasks()) == 1


def test_a_paused_job_stays_paused_through_change_removal_and_return(
    configured: Configured, clockwork: Clockwork
) -> None:
    configured.apply(job=HOURLY)
    clockwork.cron.pause_job("job", by="ops")
    configured.apply(job=MINUTELY)
    assert configured.states() == {"job": "PAUSED"}
    configured.apply()
    assert configured.states() == {}
    configured.restart()
    configured.apply(job=MINUTELY)
    assert configured.states() == {"job": "PAUSED"}


def test_a_job_switched_off_has_no_fire_times_and_counts_anew_when_switched_on(
    configured: Configured, clockwork: Clockwork
) -> None:
    configured.apply(job=MINUTELY)
    configured.apply(job={**MINUTELY, "enabled": False})
    clockwork.at("12:05")
    assert clockwork.fires() == []
    with pytest.raises(JobOwnershipError, match=f"{configured.file} says enabled: false; change it there"):
        clockwork.cron.resume_job("job")
    assert clockwork.cron.resume_jobs() == []
    configured.apply(job=MINUTELY)
    assert clockwork.job().next_fire_time == utc(f"{DAY} 12:05")
    clockwork.at("12:05:20")
    assert clockwork.decisions() == ["12:05 task"]


@pytest.mark.parametrize("names", [["job"], None], ids=["named", "all"])
@pytest.mark.parametrize("who", ["manager", "client"])
def test_the_pause_of_a_job_that_is_switched_off_ends_when_asked(
    configured: Configured, clockwork: Clockwork, who: str, names: list[str] | None
) -> None:
    configured.apply(job={**MINUTELY, "enabled": False})
    acting = clockwork.cron if who == "manager" else SyncAtlasClient.over(clockwork.store)
    assert acting.pause_jobs(["job"], by="ops") == ["job"]
    assert acting.resume_jobs(names, by="ops") == ["job"]
    assert acting.resume_jobs(by="ops") == []
    configured.restart()
    configured.apply(job=MINUTELY)
    assert configured.states() == {"job": "ACTIVE"}


def test_an_ended_job_goes_on_when_the_file_gives_it_a_new_date(configured: Configured, clockwork: Clockwork) -> None:
    def once(at: str) -> dict[str, Any]:
        return {"triggers": [{"type": "date", "at": f"{DAY}T{at}Z"}], "function": "nothing"}

    configured.apply(job=once("12:01"))
    clockwork.each("12:01")
    assert configured.states() == {"job": "ENDED"}
    configured.restart()
    configured.apply(job=once("12:01"))
    assert configured.states() == {"job": "ENDED"}
    configured.apply(job=once("12:30"))
    assert clockwork.job().next_fire_time == utc(f"{DAY} 12:30")


def test_a_missing_function_leaves_its_job_unbound_and_the_others_running(
    configured: Configured, clockwork: Clockwork
) -> None:
    configured.apply(job={**MINUTELY, "function": "nothin"}, good=MINUTELY)
    assert configured.states() == {"good": "ACTIVE", "job": "UNBOUND"}
    assert [one.path for one in configured.reconciler.standing.warnings] == ["cron_jobs.job.function"]
    clockwork.each("12:01")
    assert clockwork.decisions() == ["12:01 skip unbound"]
    assert clockwork.decisions("good") == ["12:01 task"]


def test_a_function_that_leaves_between_two_starts_leaves_its_job_unbound(
    configured: Configured, clockwork: Clockwork
) -> None:
    clockwork.registry.add("leaving", nothing)
    configured.apply(job={**MINUTELY, "function": "leaving"})
    assert configured.states() == {"job": "ACTIVE"}
    configured.restart()
    assert not configured.reconciler.reload(author="start")
    assert configured.states() == {"job": "UNBOUND"}
    assert "leaving" in clockwork.job().detail


def test_a_file_that_went_bad_between_two_starts_leaves_the_last_good_revision(
    configured: Configured, clockwork: Clockwork
) -> None:
    configured.apply(job=MINUTELY)
    configured.apply(job=MINUTELY, more=HOURLY)
    configured.file.write_text("{")
    configured.restart()
    with pytest.raises(ConfigError):
        configured.reconciler.reload(author="start")
    assert configured.reconciler.run_last_good()
    clockwork.each("12:01")
    assert clockwork.tasks()[0].revision == 2


def test_an_empty_file_of_jobs_is_obeyed_with_a_warning(configured: Configured) -> None:
    configured.apply(job=HOURLY)
    configured.apply()
    assert configured.states() == {}
    assert [str(one.message)[:8] for one in configured.reconciler.standing.warnings] == ["no jobs:"]


def test_jobs_of_code_are_left_alone(configured: Configured, clockwork: Clockwork) -> None:
    clockwork.cron.add_job("mine", "@daily", "nothing")
    configured.apply(job=HOURLY)
    configured.apply()
    assert configured.states() == {"mine": "ACTIVE"}


def test_one_commit_applies_the_whole_file(configured: Configured, clockwork: Clockwork) -> None:
    configured.apply(a=HOURLY, b=HOURLY)
    before = clockwork.store.writer.commits
    configured.apply(b=MINUTELY, c=HOURLY, d=HOURLY)
    assert clockwork.store.writer.commits == before + 1


def test_every_change_is_told(configured: Configured, clockwork: Clockwork) -> None:
    configured.apply(a=HOURLY, b=HOURLY)
    configured.apply(b=MINUTELY)
    clockwork.settle()
    told = [(one.job_id, one.kind.value) for one in clockwork.events if isinstance(one, JobEvent)]
    assert told == [("a", "added"), ("b", "added"), ("b", "changed"), ("a", "removed")]


# --- what a file cannot do -------------------------------------------------------------------------------------------

BAD_FILES = {
    "no JSON": '{"cron_jobs": {',
    "minute 61": '{"cron_jobs": {"job": {"cron_expression": "61 * * * *", "function": "nothing"}}}',
    "unknown key": '{"cron_jobs": {"job": {"cron_expresion": "* * * * *", "function": "nothing"}}}',
    "doubled key": '{"cron_jobs": {"job": {"cron_expression": "@hourly"}, "job": {"cron_expression": "@daily"}}}',
    "no such argument": '{"cron_jobs": {"job": {"cron_expression": "@hourly", "function": "nothing", "args": [1]}}}',
    "no object": "[]",
    "empty": "",
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_keeps_the_last_good_revision_running(
    configured: Configured, clockwork: Clockwork, text: str
) -> None:
    configured.apply(job=MINUTELY, other=HOURLY)
    before = clockwork.rows()
    configured.file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configured.reconciler.reload(author="SIGHUP")
    assert str(configured.file) in str(caught.value)
    assert configured.reconciler.standing.error is caught.value
    assert clockwork.rows() == before
    assert len(configured.revisions()) == 1
    clockwork.each("12:01")
    assert clockwork.decisions() == ["12:01 task"]
    configured.apply(job=MINUTELY)
    assert configured.reconciler.standing.error is None


def test_a_missing_file_is_not_a_file_without_jobs(configured: Configured) -> None:
    configured.apply(job=MINUTELY)
    configured.file.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        configured.reconciler.reload(author="SIGHUP")
    assert configured.states() == {"job": "ACTIVE"}


def test_without_any_revision_there_is_no_last_good_one(configured: Configured) -> None:
    assert configured.reconciler.latest_revision() is None
    assert not configured.reconciler.run_last_good()


def test_an_id_that_code_has_is_an_error_that_names_it(configured: Configured, clockwork: Clockwork) -> None:
    clockwork.cron.add_job("mine", "@daily", "nothing")
    configured.write(mine=HOURLY, other=HOURLY)
    with pytest.raises(ConfigError, match=r':1:16: cron_jobs\.mine: "mine": a job made by code has this id'):
        configured.reconciler.reload(author="test")
    assert configured.states() == {"mine": "ACTIVE"}
    assert clockwork.job("mine").source == "code"


def test_a_parked_row_is_put_right_by_the_file(configured: Configured, clockwork: Clockwork) -> None:
    configured.apply(job=HOURLY, other=HOURLY)
    clockwork.store.write(
        lambda connection: connection.exec_driver_sql("UPDATE apscheduler_jobs SET job_state = x'80' WHERE id = 'job'")
    )
    configured.restart()
    assert configured.states() == {"job": "PARKED", "other": "ACTIVE"}
    plan = configured.reconciler.reload(author="start")
    assert plan.summary == "~job"
    assert plan.unchanged == 1
    assert configured.states() == {"job": "ACTIVE", "other": "ACTIVE"}


def test_a_parked_row_the_file_does_not_name_stays(configured: Configured, clockwork: Clockwork) -> None:
    clockwork.store.write(
        lambda connection: connection.execute(insert(jobs).values(id="old", next_run_time=None, job_state=b"?"))
    )
    configured.restart()
    configured.apply(job=HOURLY)
    assert configured.states() == {"job": "ACTIVE", "old": "PARKED"}


# --- revisions -------------------------------------------------------------------------------------------------------


def test_revisions_are_numbered_and_keep_the_text(configured: Configured, clockwork: Clockwork) -> None:
    configured.apply(job=HOURLY)
    configured.apply(job=MINUTELY)
    first, second = configured.revisions()
    assert (first.number, second.number) == (1, 2)
    assert (second.author, second.source, second.summary) == ("test", "test", "~job")
    assert json.loads(second.content)["cron_jobs"]["job"] == MINUTELY
    assert clockwork.bridge.revision == 2
    clockwork.each("12:01")
    assert clockwork.tasks()[0].revision == 2


def test_the_text_of_a_revision_does_not_stay_with_its_statement(configured: Configured, clockwork: Clockwork) -> None:
    given_last: dict[str, str] = {}  # what SQLite's driver keeps of each statement

    def execute(_connection: Connection, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        given_last[statement] = str(parameters)

    event.listen(clockwork.store.engine, "before_cursor_execute", execute)
    configured.apply(job={**HOURLY, "x_note": "long" * 10_000})
    assert len(configured.revisions()[-1].content) > 40_000
    assert max(map(len, given_last.values())) < 10_000


def test_the_number_in_force_survives_a_restart(configured: Configured, clockwork: Clockwork) -> None:
    configured.apply(job=MINUTELY)
    configured.apply(job=MINUTELY, other=HOURLY)
    configured.restart()
    configured.reconciler.reload(author="start")
    assert clockwork.bridge.revision == 2


def test_a_new_note_is_a_revision_that_changes_no_job(configured: Configured, clockwork: Clockwork) -> None:
    configured.apply(job=HOURLY)
    before = clockwork.rows()
    plan = configured.apply(job={**HOURLY, "x_note": "why"})
    assert not plan
    assert [one.summary for one in configured.revisions()] == ["+job", "no change to jobs"]
    assert clockwork.rows() == before


def test_a_file_that_goes_back_to_an_older_text_is_a_new_revision(configured: Configured) -> None:
    for one in (HOURLY, MINUTELY, HOURLY):
        configured.apply(job=one)
    assert [one.number for one in configured.revisions()] == [1, 2, 3]


def test_nothing_is_half_applied_when_the_database_refuses(
    configured: Configured, clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured.apply(job=HOURLY)
    before = clockwork.rows()

    def refuse(*_args: object) -> None:
        raise StoreUnavailableError("locked", waited_s=5)

    monkeypatch.setattr(changes, "write_records", refuse)
    with pytest.raises(StoreUnavailableError):
        configured.apply(job=MINUTELY, new=HOURLY)
    assert clockwork.rows() == before
    assert configured.states() == {"job": "ACTIVE"}
    assert clockwork.job().schedule == "@hourly"
    assert clockwork.bridge.revision == 1


def test_two_reloads_at_once_make_one_revision(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    configured.apply(job=HOURLY)
    configured.write(job=MINUTELY)
    real, inside, go = make_plan, threading.Semaphore(0), threading.Event()

    def slow(*args: Any, **kwargs: Any) -> Plan:
        plan = real(*args, **kwargs)
        inside.release()
        assert go.wait(LIMIT_S)
        return plan

    monkeypatch.setattr(reconcile_module, "make_plan", slow)
    reloads = [threading.Thread(target=lambda: configured.reconciler.reload(author="test")) for _ in range(2)]
    for one in reloads:
        one.start()
    assert inside.acquire(timeout=LIMIT_S)
    go.set()
    for one in reloads:
        one.join(LIMIT_S)
    assert [one.summary for one in configured.revisions()] == ["+job", "~job"]


# --- the plan alone --------------------------------------------------------------------------------------------------


def test_a_plan_touches_nothing(configured: Configured, clockwork: Clockwork) -> None:
    configured.apply(gone=HOURLY)
    before = clockwork.rows()
    configured.write(job=HOURLY)
    wanted = load_jobs(configured.file, defaults=PolicyDefaults())
    plan = make_plan(clockwork.jobs.records(), [], wanted, file=configured.file)
    assert plan.summary == "+job -gone"
    assert clockwork.rows() == before


def test_a_disabled_job_that_is_due_by_its_old_schedule_is_not_served(
    configured: Configured, clockwork: Clockwork
) -> None:
    configured.apply(job=HOURLY)
    clockwork.clock.instant = utc(f"{DAY} 13:10")
    configured.apply(job={**MINUTELY, "enabled": False})
    assert clockwork.fires() == []
    assert clockwork.job().state is JobState.DISABLED


def test_an_interval_is_not_shifted_by_restart_or_reload(configured: Configured, clockwork: Clockwork) -> None:
    every = {"triggers": [{"type": "interval", "every": "7m"}], "function": "nothing"}
    configured.apply(job=every)
    before = clockwork.job().next_fire_time
    configured.restart(clockwork.clock.instant + timedelta(seconds=40))
    configured.apply(job={**every, "timeout": 9})
    assert clockwork.job().next_fire_time == before
