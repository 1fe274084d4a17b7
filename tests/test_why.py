"""`why`: one paragraph for whatever was decided, from what was stored when it was decided."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from atlas.scheduler.errors import UnknownJobError
from atlas.scheduler.jobs import PolicyDefaults
from atlas.scheduler.reconcile import Reconciler
from atlas.scheduler.why.answer import Why, why
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


def test_downtime_and_catch_up_are_told(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "0 * * * *", "nothing")
    clockwork.cron.add_job("old", "0 * * * *", "nothing", catchup="none")
    clockwork.restart(utc(f"{DAY} 15:10"))
    clockwork.tick()
    clockwork.settle()
    assert "caught up 600 s after its fire time" in ask(clockwork, "15:00").words
    assert "No scheduler ran then; one was started at 15:10." in ask(clockwork, "15:00").words
    assert "a newer fire time was served in its place" in ask(clockwork, "14:00").words
    missed = ask(clockwork, "15:00", job="old").words
    assert missed.startswith(
        "It made no task for 3 fire times from 13:00 to 15:00, because nobody could serve it until"
    )
    assert "15:10, 2h 10m later, and catch-up is none (no scheduler ran then; one was started at 15:10)" in missed


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
