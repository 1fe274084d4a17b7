"""`why`: one paragraph for whatever was decided, from what was stored when it was decided."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from atlas.scheduler.errors import UnknownJobError
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.reconcile.reconciler import Reconciler
from atlas.scheduler.store.task_rows import fetch
from atlas.scheduler.task import TaskStatus
from atlas.scheduler.testing.virtual_time import close_by_hand
from atlas.scheduler.why.answer import Why, why, why_task
from atlas.scheduler.why.inquiry import Inquiry
from tests.clockwork import DAY, START, Clockwork, utc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def clockwork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clockwork]:
    with Clockwork(tmp_path / "atlas.db", monkeypatch) as made:
        made.registry.add("broken", broken)
        yield made


def broken() -> None:
    raise ValueError("no such feed")


def ask(clockwork: Clockwork, at: str | None = None, job: str = "job") -> Why:
    instant = None if at is None else utc(f"{DAY} {at}" if len(at) <= 8 else at)
    clockwork.queue.serving.renew()  # the clock is moved by hand, and its lease lives for 20 s
    clockwork.store.write(lambda _connection: None)  # behind the renewal
    return clockwork.store.read(lambda connection: why(connection, job, at=instant, now=clockwork.clock.now()))


def apply(clockwork: Clockwork, file: Path, **jobs: dict[str, Any]) -> None:
    file.write_text(json.dumps({"cron_jobs": jobs}), "utf-8")
    Reconciler(clockwork.cron, file, PolicyDefaults()).reload()


def test_it_ran_at_its_fire_time_under_a_revision(clockwork: Clockwork, tmp_path: Path) -> None:
    apply(clockwork, tmp_path / "f.json", job={"cron_expression": "*/5 * * * *", "function": "nothing"})
    clockwork.each("12:05", "12:10:10")
    found = ask(clockwork, "12:05")
    assert found.verdict == "ran"
    assert found.words.startswith("It was due at 12:05, under revision 1 of 12:00:30. It succeeded at 12:05")
    assert found.facts["revision"] == 1
    assert "It was due at 12:10" in ask(clockwork).words
    assert json.loads(json.dumps(found.to_json()))["job"] == "job"


def test_in_the_hour_that_comes_twice_each_time_says_which_one_it_is(clockwork: Clockwork) -> None:
    berlin, asked = ZoneInfo("Europe/Berlin"), utc("2026-10-25T01:15:00")
    with clockwork.store.engine.connect() as connection:
        inquiry = Inquiry(connection, "job", asked, utc("2026-10-25T12:00:00"), berlin)
    first, second, later = (asked + timedelta(hours=hours) for hours in (-1, 0, 1))
    assert [inquiry.time(at) for at in (first, second, later)] == ["02:15 CEST", "02:15 CET", "03:15"]


def test_an_overlap_names_the_task_that_was_in_the_way(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "gate")
    clockwork.at("12:01")
    clockwork.gate.wait_entered()
    clockwork.at("12:02")
    clockwork.gate.open()
    clockwork.settle()
    found = ask(clockwork, "12:02")
    (task,) = clockwork.tasks()
    assert found.verdict == "skipped"
    assert found.facts["blocking_task"] == {"task": task.id, "status": "SUCCESS"}
    assert f"because its task {task.id} ran since 12:01 and ended success at 12:0" in found.words


def test_a_pause_is_told_with_who_why_and_its_range(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.pause_job("job", by="web", reason="moving house", until=START + timedelta(hours=1))
    clockwork.each("12:01", "12:02", "12:03")
    found = ask(clockwork, "12:02")
    assert found.words == (
        "It made no task for 3 fire times from 12:01 to 12:03, because it was paused by web: moving house."
        " It is paused since 12:00:30 by web until 13:00:30 (moving house)."
    )


@pytest.mark.parametrize(("reason", "told"), [("moving: house", "cli:lin: moving: house."), ("", "cli:lin.")])
def test_who_paused_it_may_have_a_colon(clockwork: Clockwork, reason: str, told: str) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.pause_job("job", by="cli:lin", reason=reason)
    clockwork.each("12:01")
    assert f"because it was paused by {told}" in ask(clockwork, "12:01").words


def test_downtime_and_catch_up_are_told(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "0 * * * *", "nothing")
    clockwork.cron.add_job("old", "0 * * * *", "nothing", catchup="none")
    clockwork.restart(utc(f"{DAY} 15:10"))
    clockwork.tick()
    clockwork.settle()
    assert "caught up 600 s after its fire time" in ask(clockwork, "15:00").words
    assert "No scheduler ran then; one was started at 15:10." in ask(clockwork, "15:00").words
    assert "a newer fire time was served in its place, as catch-up is latest" in ask(clockwork, "14:00").words
    missed = ask(clockwork, "15:00", job="old").words
    assert missed.startswith(
        "It made no task for 3 fire times from 13:00 to 15:00, because nobody could serve it until"
    )
    assert "15:10, 2h 10m later, and catch-up is none (no scheduler ran then; one was started at 15:10)" in missed


def test_what_is_left_to_a_newer_fire_time_names_the_rule_that_the_job_has(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "0 * * * *", "nothing", catchup="all", catchup_limit=1)
    clockwork.each("14:00:10")
    assert "a newer fire time was served in its place, as catch-up is all" in ask(clockwork, "13:00").words


def test_a_fire_time_behind_a_holiday_within_a_range_of_skips_is_told(clockwork: Clockwork, tmp_path: Path) -> None:
    file = tmp_path / "jobs.json"
    job = {"cron_expression": "0 */8 * * *", "function": "nothing", "calendar": "closed", "catchup": "none"}
    calendars = {"closed": {"exclude": ["2026-03-03"]}}
    file.write_text(json.dumps({"calendars": calendars, "cron_jobs": {"job": job}}), "utf-8")
    Reconciler(clockwork.cron, file, PolicyDefaults()).reload()
    clockwork.tick(utc("2026-03-05 07:00"))
    for at, reason in (
        ("2026-03-02 16:00", "missed"),
        ("2026-03-03 16:00", "calendar"),
        ("2026-03-04 16:00", "missed"),
    ):
        assert (ask(clockwork, at).verdict, ask(clockwork, at).facts["skip_reason"]) == ("skipped", reason)


def test_a_run_by_hand_names_who_asked_and_each_attempt(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@daily", "broken", max_retries=1, retry_delay=0)
    clockwork.cron.run_job_now("job", by="web")
    clockwork.settle()
    found = ask(clockwork)
    assert found.words.startswith("It was started by hand at 12:00:30 by web. Attempt 1 failed at 12:00:30")
    assert "ValueError: no such feed" in found.words
    assert "It failed at 12:00:30" in found.words
    assert found.facts["attempts"] == 2


def test_a_cancel_names_who_asked(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "@daily", "gate")
    task_id = clockwork.cron.run_job_now("job")
    clockwork.gate.wait_entered()
    clockwork.queue.cancel_task(task_id, by="cli:lin")
    clockwork.settle()
    assert "It was cancelled at 12:00:30 by cli:lin" in ask(clockwork).words


def test_a_calendar_a_missing_function_and_a_disabled_job(clockwork: Clockwork, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    off = {"cron_expression": "* * * * *", "function": "nothing", "enabled": False}
    apply(clockwork, file, job=off, gone={"cron_expression": "* * * * *", "function": "not_here"})
    clockwork.each("12:01", "12:02")
    assert "its function was missing" in ask(clockwork, "12:01", job="gone").words
    found = ask(clockwork, "12:01")
    assert "It was switched off at 12:01: revision 1 says enabled: false." in found.words


def test_a_task_that_waits_names_what_runs_in_its_place(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("hog", "0 9 * * *", "gate", overlap="allow", max_instances=5)
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    for _ in range(clockwork.max_workers):
        clockwork.cron.run_job_now("hog")
        clockwork.gate.wait_entered()
    clockwork.store.write(lambda _connection: None)
    clockwork.at("12:01")
    held = "while 4 tasks run, hog for the longest, since 12:00:30"
    assert re.search(f"Its task [0-9a-f]+ waits for a slot since 12:01 {held}[.]", ask(clockwork).words)
    clockwork.at("12:02")
    skipped = ask(clockwork)
    assert "It was due at 12:02 and made no task, because its task" in skipped.words
    assert f"meanwhile. That task waits for a slot {held}." in skipped.words
    clockwork.gate.open()
    clockwork.settle()
    assert "waits for a slot" not in ask(clockwork).words


def test_a_retry_whose_time_has_come_waits_for_a_slot(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("hog", "0 9 * * *", "gate", overlap="allow", max_instances=5)
    clockwork.cron.add_job("job", "@daily", "broken", max_retries=1, retry_delay=45, retry_jitter=0)
    clockwork.cron.run_job_now("job")
    for _ in range(clockwork.max_workers):
        clockwork.cron.run_job_now("hog")
        clockwork.gate.wait_entered()
    assert "It is tried again at 12:01:15" in ask(clockwork).words
    clockwork.at("12:02")
    held = "while 4 tasks run, hog for the longest, since 12:00:30"
    assert f"Its next attempt waits for a slot since 12:01:15 {held}." in ask(clockwork).words


def test_of_one_task_that_runs_the_name_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Clockwork(tmp_path / "atlas.db", monkeypatch, max_workers=1) as clockwork:
        clockwork.cron.add_job("hog", "0 9 * * *", "gate")
        clockwork.cron.add_job("job", "* * * * *", "nothing")
        clockwork.cron.run_job_now("hog")
        clockwork.gate.wait_entered()
        clockwork.at("12:01")
        assert "waits for a slot since 12:01 while hog runs since 12:00:30." in ask(clockwork).words


def test_that_no_scheduler_serves_is_told_first(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "0 9 * * *", "nothing")
    task_id = clockwork.cron.run_job_now("job")
    clockwork.settle()

    def asked(now: datetime, at: datetime | None = None) -> str:
        return clockwork.store.read(lambda connection: why(connection, "job", at=at, now=now)).words

    assert asked(START).startswith("It was started by hand")
    silent = START + timedelta(minutes=5)
    assert re.match(
        "The scheduler, process [0-9]+ on [^ ]+, wrote its last sign of life at 12:00:30, and nothing starts until it "
        "can write or another one runs[.] It was started by hand at 12:00:30",
        asked(silent),
    )
    assert "It starts next" not in asked(silent)
    assert "It starts next" in asked(START)
    assert asked(silent, START).startswith("It was started by hand")  # what was decided then, was
    assert asked(silent, silent + timedelta(hours=1)).startswith("The scheduler, process ")
    task = clockwork.store.read(lambda connection: fetch(connection, task_id))
    assert task is not None
    waiting = replace(task, status=TaskStatus.PENDING, started_at=None)
    zone = ZoneInfo("UTC")
    for of, told in ((task, False), (waiting, True)):
        found = clockwork.store.read(partial(why_task, task=of, now=silent, zone=zone))
        assert ("last sign of life" in found.words) is told
    close_by_hand(clockwork.cron)
    clockwork.queue.sync.stop()
    assert asked(START).startswith(
        "No scheduler runs since 12:00:30, when it was stopped, and nothing starts until one does. It was started"
    )


def test_a_job_without_function_is_not_said_to_start(clockwork: Clockwork, tmp_path: Path) -> None:
    apply(clockwork, tmp_path / "f.json", job={"cron_expression": "* * * * *", "function": "not_here"})
    missing = "no function 'not_here' is registered"
    told = ask(clockwork)
    assert told.words == (
        f"It has not fired yet. Its function is missing now ({missing}): it makes no task until there is one."
    )
    assert told.facts["unbound"] == missing
    clockwork.each("12:01")
    words = ask(clockwork).words
    assert words.count(missing) == 1
    assert words.endswith("Its function is missing now: it makes no task until there is one.")


def test_a_start_that_its_calendar_leaves_out_is_none(clockwork: Clockwork, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    job = {"cron_expression": "0 9 * * *", "function": "nothing", "calendar": "closed"}
    calendars = {"closed": {"exclude": ["2026-03-03"]}}
    file.write_text(json.dumps({"calendars": calendars, "cron_jobs": {"job": job}}), "utf-8")
    Reconciler(clockwork.cron, file, PolicyDefaults()).reload()
    assert ask(clockwork).words.endswith(
        "It is due next at 2026-03-03 09:00, and makes no task then: its calendar leaves that day out."
    )
    clockwork.clock.instant = utc("2026-03-03 09:00:30")
    clockwork.tick()
    assert ask(clockwork).words.endswith("It starts next at 2026-03-04 09:00.")


def test_a_job_whose_time_has_not_begun_or_is_over_says_by_what(clockwork: Clockwork, tmp_path: Path) -> None:
    common = {"cron_expression": "0 9 * * *", "function": "nothing"}
    over, later = {**common, "end_at": "2026-03-01T00:00Z"}, {**common, "start_at": "2026-04-01T00:00Z"}
    apply(
        clockwork,
        tmp_path / "f.json",
        over=over,
        later=later,
        once={"function": "nothing", "triggers": [{"type": "date", "at": "2026-03-01T00:00Z"}]},
    )
    assert ask(clockwork, job="over").words.endswith("Its last fire time has passed: end_at is 2026-03-01 00:00.")
    assert ask(clockwork, job="later").words.endswith(
        "It starts next at 2026-04-01 09:00: start_at is 2026-04-01 00:00."
    )
    assert ask(clockwork, job="once").words.endswith("Its last fire time has passed.")


def test_not_due_not_there_and_still_to_come(clockwork: Clockwork, tmp_path: Path) -> None:
    apply(clockwork, tmp_path / "f.json", job={"cron_expression": "0 9 * * *", "function": "nothing"})
    clockwork.clock.instant = utc(f"{DAY} 13:00")
    assert ask(clockwork).words == "It has not fired yet. It starts next at 2026-03-03 09:00."
    asked = ask(clockwork, "12:30")
    assert asked.verdict == "not_due"
    assert "It was not due then: its schedule is daily at 09:00; the fire time before is 09:00" in asked.words
    early = ask(clockwork, "2026-03-01 09:00")
    assert early.verdict == "not_there"
    assert "no revision of the config file was in force, and the job came later" in early.words
    late = ask(clockwork, "2026-03-05 09:00")
    assert (late.verdict, "still to come" in late.words) == ("undecided", True)


def test_a_removed_job_is_known_by_its_history(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.each("12:01")
    clockwork.cron.remove_job("job")
    assert ask(clockwork, "12:01").words.endswith("The job is not there any more.")
    with pytest.raises(UnknownJobError):
        ask(clockwork, job="never")
