"""`health`: what is wrong, in words, and what to do."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from atlas.builtin.health import look, machine
from atlas.builtin.health.check import Check
from atlas.builtin.health.jobs import failing_jobs
from atlas.builtin.health.look import health
from atlas.scheduler.events import SchedulerEventKind
from atlas.scheduler.job_view import Job, JobState
from atlas.scheduler.loop_watch import Trouble
from atlas.scheduler.store.tables import (
    sources,
)
from atlas.scheduler.task import TaskStatus
from atlas.scheduler.testing.clocks import SetClock
from tests.builtin.rows import DAY, NOW, Running, add_rows, add_tasks, count, task

if TYPE_CHECKING:
    from pathlib import Path

    from atlas.scheduler.store.store import Store


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


BEFELL: dict[SchedulerEventKind, str] = {
    SchedulerEventKind.CLOCK_STEPPED: "NTP",
    SchedulerEventKind.SUSPENDED: "sleep",
    SchedulerEventKind.RESTARTED: "log",
    SchedulerEventKind.STORE_REBUILT: "who touches the file",
}


def looked_at(store: Store, running: Running, clock: SetClock, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The checks by name, and the whole under ``""``."""
    result = health(store=store, source=running, clock=clock, folder=tmp_path, collected=["s"])
    return {"": result, **{check["name"]: check for check in result["checks"]}}


@pytest.fixture(autouse=True)
def _roomy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LOW_DISK", (0, 0))
    monkeypatch.setattr(machine, "LOW_MEMORY", (0.0, 0.0))


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
        (
            {"full_executors": {"thread": {"limit": 1, "waiting": 2, "oldest_wait_s": 9.0, "held_by": ["hog"]}}},
            "queue", "ok", "; executor thread is full (1): 2 wait, the oldest 9 s, for hog",
        ),
        (
            {"full_executors": {"thread": {"limit": 1, "waiting": 2, "oldest_wait_s": 61.0, "held_by": ["hog"]}}},
            "queue", "degraded", "executor thread is full (1): 2 wait, the oldest 61 s, for hog",
        ),
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


@pytest.mark.parametrize("kind", BEFELL)
def test_the_remedy_is_that_of_what_befell(
    store: Store, clock: SetClock, tmp_path: Path, kind: SchedulerEventKind
) -> None:
    running = Running()
    running.befell = [Trouble(NOW, kind, "something"), Trouble(NOW, kind, "once more")]
    remedy = looked_at(store, running, clock, tmp_path)["scheduler"]["remedy"]
    assert [other for other, words in BEFELL.items() if words in remedy] == [kind]
    assert remedy.count(BEFELL[kind]) == 1


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


def test_the_disk_that_counts_is_that_of_the_database(
    store: Store, clock: SetClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []

    def disk(folder: Path) -> Check:
        looked.append(folder)
        return Check(detail="")

    monkeypatch.setattr(look, "disk_check", disk)
    assert store.path is not None
    looked_at(store, Running(), clock, tmp_path / "another disk")
    assert looked == [store.path.parent]


def test_a_full_disk_and_scarce_memory_are_seen(
    store: Store, clock: SetClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "LOW_DISK", (10**18, 0))
    monkeypatch.setattr(machine, "LOW_MEMORY", (2.0, 1.5))
    checks = looked_at(store, Running(), clock, tmp_path)
    assert (checks["disk"]["status"], checks["memory"]["status"]) == ("degraded", "failing")
