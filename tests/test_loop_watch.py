"""The loop is watched: dead and stalled ones are restarted; a stepped clock, sleep and frozen processes are noticed."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import apscheduler.schedulers.base as apscheduler_base
import pytest
from sqlalchemy import select

from atlas.scheduler import loop_watch as watch_module
from atlas.scheduler.clock import SystemClock, boot_s
from atlas.scheduler.context import current_task
from atlas.scheduler.crash_points import CrashPoint
from atlas.scheduler.events import EventStream, SchedulerEvent, SchedulerEventKind
from atlas.scheduler.job_view import JobState
from atlas.scheduler.loop_watch import LoopWatch
from atlas.scheduler.registry import Registry
from atlas.scheduler.schedule import Schedule
from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.tables import fires
from atlas.scheduler.testing.clocks import SetClock
from atlas.scheduler.testing.crashes import Killed, disarmed_after
from atlas.scheduler.testing.virtual_time import VirtualTime
from tests.clockwork import DAY, START, Clockwork, utc
from tests.queue_bench import LIMIT_S
from tests.test_traps import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Hands(SetClock):
    """Three clocks that a test moves."""

    __slots__ = ("boot_seconds", "seconds")

    def __init__(self) -> None:
        super().__init__(START)
        self.seconds = self.boot_seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def boot(self) -> float:
        return self.boot_seconds

    def go(self, seconds: float = 1.0, *, wall: float = 0.0, slept: float = 0.0) -> None:
        """Time goes on; the machine slept besides, and somebody set the wall clock by ``wall``."""
        self.seconds += seconds
        self.boot_seconds += seconds + slept
        self.instant += timedelta(seconds=seconds + slept + wall)


class Loop:
    """A loop that does what a test says."""

    def __init__(self) -> None:
        self.lives, self.age_s, self.restarts, self.looks, self.moved = True, 1.0, 0, 0, 0

    def thread_lives(self) -> bool:
        return self.lives

    def tick_age_s(self) -> float | None:
        return self.age_s

    def restart_loop(self) -> None:
        self.restarts += 1
        self.lives = True

    def look_now(self) -> None:
        self.looks += 1

    def clock_came_back(self) -> int:
        return self.moved


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def events() -> Iterator[EventStream]:
    made = EventStream()
    yield made
    made.close()


@pytest.fixture
def watch(loop: Loop, hands: Hands, events: EventStream) -> LoopWatch:
    return LoopWatch(loop, hands, events, boot=hands.boot)


def told(watch: LoopWatch) -> list[tuple[SchedulerEventKind, str]]:
    return [(trouble.kind, trouble.words) for trouble in watch.troubles()]


def test_a_loop_that_ticks_is_left_alone(watch: LoopWatch, loop: Loop, hands: Hands) -> None:
    for _ in range(100):
        hands.go()
        watch.look()
    assert (loop.restarts, told(watch)) == (0, [])


def test_a_dead_loop_is_restarted_at_once_and_told(
    watch: LoopWatch, loop: Loop, hands: Hands, events: EventStream
) -> None:
    heard: list[Any] = []
    events.subscribe(heard.append)
    loop.lives = False
    hands.go()
    watch.look()
    assert loop.restarts == watch.restarts == 1
    assert told(watch) == [
        (SchedulerEventKind.RESTARTED, "the loop that looks for due jobs was restarted: its thread had ended")
    ]
    assert events.drain()
    assert [event.kind for event in heard] == [SchedulerEventKind.RESTARTED]
    assert heard[0].detail == {"clock": told(watch)[0][1]}


def test_a_stalled_loop_is_restarted_each_time_after_a_longer_wait(watch: LoopWatch, loop: Loop, hands: Hands) -> None:
    at: list[float] = []
    for _ in range(400):
        hands.go()
        loop.age_s += 1
        watch.look()
        if loop.restarts > len(at):
            at.append(hands.seconds - 1000)
            loop.age_s = 0.0
    assert [later - earlier for earlier, later in pairwise(at)] == [91, 181]
    assert at[0] == 45


@pytest.mark.parametrize(
    ("moves", "kind", "words"),
    [
        pytest.param({"wall": 3600}, "clock_stepped", "the wall clock was set forward by 1h", id="forward"),
        pytest.param({"wall": -3600}, "clock_stepped", "the wall clock was set back by 1h", id="back"),
        pytest.param({"slept": 7200}, "suspended", "the machine slept for 2h", id="sleep"),
        pytest.param({"seconds": 90}, "suspended", "this process did not run for 1m 30s", id="frozen"),
    ],
)
def test_what_time_did_is_noticed_and_the_loop_looks_at_once(
    moves: dict[str, float], kind: str, words: str, watch: LoopWatch, loop: Loop, hands: Hands
) -> None:
    hands.go()
    watch.look()
    hands.go(**moves)
    loop.age_s = 200.0  # it could not tick meanwhile: that is no stall
    watch.look()
    hands.go()
    watch.look()
    assert told(watch) == [(SchedulerEventKind(kind), words)]
    assert (loop.looks, loop.restarts) == (1, 0)


def test_small_corrections_are_not_told(watch: LoopWatch, hands: Hands) -> None:
    for wall in (0.5, -0.5, 1.9, -1.9):
        hands.go(wall=wall)
        watch.look()
    assert told(watch) == []


def test_only_the_newest_troubles_are_kept(watch: LoopWatch, hands: Hands) -> None:
    for _ in range(100):
        hands.go(wall=60)
        watch.look()
    assert len(told(watch)) == watch_module.KEPT


def test_time_since_boot_goes_on() -> None:
    assert boot_s() <= boot_s()


# --- with the real loop ----------------------------------------------------------------------------------------------


def wait_for(kind: SchedulerEventKind, store: Any) -> threading.Event:
    seen = threading.Event()

    def hear(event: Any) -> None:
        if isinstance(event, SchedulerEvent) and event.kind is kind:
            seen.set()

    store.events.subscribe(hear)
    return seen


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that is what is tested
def test_a_loop_whose_thread_dies_goes_on_and_serves_every_second_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path / "atlas.db") as atlas:
        atlas.beats(1)
        restarted = wait_for(SchedulerEventKind.RESTARTED, atlas.store)
        jobs, died = atlas.cron.running.jobs, threading.Event()
        real = jobs.get_next_run_time

        def die() -> datetime:
            if jobs.current is not None and not died.is_set():  # in the middle of a pass
                died.set()
                raise SystemExit
            return real()

        monkeypatch.setattr(jobs, "get_next_run_time", die)
        assert restarted.wait(LIMIT_S)
        assert died.is_set()
        atlas.settle()
        atlas.beats(2)
        atlas.check_every_second_was_served_once()
        assert [trouble.kind for trouble in atlas.cron.troubles()] == [SchedulerEventKind.RESTARTED]
        assert atlas.cron._figures()["troubles"][0][1].endswith("its thread had ended")


def test_a_loop_that_stands_still_in_a_pass_is_given_up_and_what_it_decides_later_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "STALL_S", 3.0)
    with running(tmp_path / "atlas.db") as atlas:
        atlas.beats(1)
        restarted = wait_for(SchedulerEventKind.RESTARTED, atlas.store)
        stuck, go_on, ended = threading.Event(), threading.Event(), threading.Event()
        bridge = atlas.cron.running.bridge
        real = bridge.submit_job

        def submit(job: Any, run_times: Any) -> None:
            real(job, run_times)
            if not stuck.is_set():
                stuck.set()
                assert go_on.wait(4 * LIMIT_S)
                ended.set()

        monkeypatch.setattr(bridge, "submit_job", submit)
        old = atlas.cron.running.scheduler._thread
        assert stuck.wait(LIMIT_S)
        assert restarted.wait(2 * LIMIT_S)
        atlas.settle()
        atlas.beats(2)
        assert atlas.cron.running.scheduler._thread is not old
        go_on.set()
        assert ended.wait(LIMIT_S)
        assert old is not None
        old.join(LIMIT_S)
        assert not old.is_alive()
        atlas.settle()
        atlas.beats(2)
        atlas.check_every_second_was_served_once()


def test_a_loop_that_stands_still_does_not_keep_a_stop_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.scheduler.running_cron.STALL_S", 0.2)
    go_on = threading.Event()
    with running(tmp_path / "atlas.db") as atlas:
        atlas.beats(1)
        stuck = threading.Event()
        real = Schedule.next_after

        def hang(self: Schedule, instant: datetime) -> datetime | None:
            if threading.current_thread().name == "APScheduler" and not stuck.is_set():
                stuck.set()
                assert go_on.wait(4 * LIMIT_S)
            return real(self, instant)

        monkeypatch.setattr(Schedule, "next_after", hang)
        thread = atlas.cron.running.scheduler._thread
        assert stuck.wait(LIMIT_S)
        assert not go_on.wait(0.5)
    go_on.set()
    assert thread is not None
    thread.join(LIMIT_S)
    assert not thread.is_alive()


class AnyTime(SystemClock):
    """The machine's clock, set by ``by``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by = timedelta()
        clock = self

        class Datetime(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return clock.now() if tz is None else clock.now().astimezone(tz)

        monkeypatch.setattr(apscheduler_base, "datetime", Datetime)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
def test_a_clock_that_is_set_by_an_hour_stops_no_job_and_serves_no_second_twice_or_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    clock = AnyTime(monkeypatch)
    store = open_store(tmp_path / "atlas.db", clock=clock)
    with running(tmp_path / "atlas.db") as atlas:
        assert atlas.store is store
        stepped = wait_for(SchedulerEventKind.CLOCK_STEPPED, store)
        atlas.beats(2)
        clock.by = timedelta(hours=hours)
        set_at, set_s = clock.now(), time.monotonic()
        assert stepped.wait(LIMIT_S)
        atlas.settle()
        atlas.beats(1)
        assert time.monotonic() - set_s < 10.0
        atlas.beats(2)
        assert atlas.thread_lives
        words = [trouble.words for trouble in atlas.cron.troubles()]
        assert len(words) == 1
        assert words[0].startswith(f"the wall clock was set {'forward' if hours > 0 else 'back'} by 1h")
        rows = store.read(lambda connection: connection.execute(select(fires).where(fires.c.job_id == "beat")).all())
        before = {row.fire_time for row in rows if row.fire_time < set_at.timestamp() - 1}
        served = sorted(at for row in rows for at in range(int(row.fire_time), int(row.last or row.fire_time) + 1))
        assert len(set(served)) == len(served), "none is served twice"
        if hours > 0:
            atlas.check_every_second_was_served_once()
        else:
            assert not before, "the new time is all before the old one"
            new = [at for at in served if at < set_at.timestamp() + 1800]
            assert len(new) >= 2
            assert new == list(range(new[0], new[0] + len(new)))
    store.close()


# --- a wall clock that ran ahead and came back -----------------------------------------------------------------------


def test_jobs_go_on_after_the_clock_ran_ahead_and_came_back(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.add_job("once", None, "nothing", dates=[utc(f"{DAY} 12:30")])
    clockwork.each("12:01", "15:00:10")
    assert clockwork.job("once").state is JobState.ENDED
    clockwork.clock.instant = utc(f"{DAY} 12:02:20")
    assert clockwork.jobs.clock_came_back() == 2
    assert clockwork.job().next_run_at == utc(f"{DAY} 12:03")
    clockwork.each("12:03", "12:04")
    assert clockwork.decisions() == [
        "12:01 task",
        "12:02-12:02:20 skip coalesced xNone",
        "12:03 task",
        "12:04 task",
        "15:00 task",
    ]
    clockwork.each("12:30", "15:00", "15:01")
    # 15:00 was served when the clock ran ahead, and is not served twice; of the date's one task nothing is repeated.
    assert clockwork.decisions()[-2:] == ["15:00 task", "15:01 task"]
    assert clockwork.decisions("once") == ["12:30 task"]
    assert len([task for task in clockwork.tasks() if task.fire_time == utc(f"{DAY} 15:00")]) == 1


def test_a_clock_that_did_not_run_ahead_moves_nothing(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.cron.add_job("spread", "@hourly", "nothing", spread="20m")
    clockwork.each("12:01")
    before = {job.name: job.next_run_at for job in clockwork.cron.get_all_jobs()}
    assert clockwork.jobs.clock_came_back() == 0
    assert {job.name: job.next_run_at for job in clockwork.cron.get_all_jobs()} == before


def test_a_start_after_the_clock_came_back_brings_starts_back_too(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.each("20:00")
    clockwork.restart(START)
    assert clockwork.job().next_run_at == utc(f"{DAY} 12:01")
    rows = clockwork.store.read(lambda connection: connection.execute(select(fires.c.last)).all())
    assert all(row.last is None or row.last <= START.timestamp() for row in rows)


def test_a_fire_time_that_comes_again_while_its_task_runs_stops_no_job(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "1 12 * * *", "gate")
    clockwork.cron.add_job("other", "* * * * *", "nothing")
    clockwork.at("12:01")
    clockwork.gate.wait_entered()
    clockwork.clock.instant = utc(f"{DAY} 12:00:40")
    assert clockwork.jobs.clock_came_back() == 2
    clockwork.at("12:01", "12:02", "12:03")  # the job would skip 12:01 for overlap, and it has its task already
    clockwork.gate.open()
    clockwork.settle()
    assert clockwork.decisions() == ["12:01 task"]
    assert [row.split()[0] for row in clockwork.decisions("other")] == ["12:01", "12:02", "12:03"]
    assert clockwork.job().next_run_at == utc("2026-03-03 12:01")


def test_a_death_in_the_pass_an_edit_and_a_clock_set_back_serve_no_fire_time_twice(tmp_path: Path) -> None:
    registry, calls = Registry(), list[datetime | None]()
    registry.add("note", lambda: calls.append(current_task().fire_time))
    path = tmp_path / "atlas.db"
    with VirtualTime(START, store=path, registry=registry) as time, disarmed_after() as crash_at:
        time.cron.sync.add_job("job", "* * * * *", "note")
        crash_at(CrashPoint.PASS_COMMITTED, how="raise")
        with pytest.raises(Killed):
            time.advance(minutes=5)
        time.kill()
    with VirtualTime(utc(f"{DAY} 12:00:40"), store=path, registry=registry) as time:
        time.cron.sync.add_job("job", "*/1 * * * *", "note")  # the same times in other words
        time.advance_to(utc(f"{DAY} 12:02"))
        assert time.decisions("job") == ["12:01 task", "12:02 task"]
        assert calls == [utc(f"{DAY} 12:01"), utc(f"{DAY} 12:02")]


def test_a_skip_behind_a_clock_set_back_is_not_kept_for_a_job_that_has_another_schedule_by_then(tmp_path: Path) -> None:
    with VirtualTime(START, store=tmp_path / "atlas.db") as time:
        cron = time.cron.sync
        cron.add_job("job", "* * * * *", lambda: None)
        cron.pause_job("job")
        time.advance_to(utc(f"{DAY} 12:03"))
        assert time.decisions("job") == ["12:01-12:03 skip paused x3"]
        cron.add_job("job", "*/2 * * * *", lambda: None)
        cron.resume_job("job")
        time.step_clock(-100)
        assert time.decisions("job") == ["12:01-12:01:20 skip paused xNone"]
        time.advance_to(utc(f"{DAY} 12:04"))
        assert time.decisions("job")[1:] == ["12:02 task", "12:04 task"]


def test_a_pause_that_meets_a_fire_time_served_before_the_clock_came_back_loses_none_behind_it(
    clockwork: Clockwork,
) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.each("12:01", "12:02", "12:03")
    clockwork.clock.instant = utc(f"{DAY} 12:01:20")
    assert clockwork.jobs.clock_came_back() == 1
    clockwork.cron.pause_job("job")
    clockwork.each("12:02", "12:03", "12:04", "12:05")
    assert clockwork.decisions()[:3] == ["12:01 task", "12:02 task", "12:03 task"]
    assert [row.split()[0].split("-")[-1] for row in clockwork.decisions()[3:]] == ["12:04", "12:05"]


def test_a_range_of_skips_begins_behind_what_was_served_before_the_clock_came_back(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing", catchup="none")
    clockwork.each("12:01", "12:02", "12:03")
    clockwork.clock.instant = utc(f"{DAY} 12:01:20")
    assert clockwork.jobs.clock_came_back() == 1
    clockwork.each("12:06:40")
    assert clockwork.decisions() == [
        "12:01 task",
        "12:02 task",
        "12:03 task",
        "12:04-12:06 skip missed x3",
    ]


def test_a_pause_goes_on_before_its_own_begin_when_the_clock_came_back(clockwork: Clockwork) -> None:
    clockwork.cron.add_job("job", "* * * * *", "nothing")
    clockwork.each("12:09:30")
    clockwork.cron.pause_job("job")
    clockwork.each("12:10", "12:11")
    clockwork.clock.instant = utc(f"{DAY} 12:05:30")
    assert clockwork.jobs.clock_came_back() == 1
    clockwork.each("12:06", "12:07", "12:08", "12:09", "12:11", "12:12")
    rows = clockwork.fires()
    assert all(row.last is None or row.last >= row.fire_time for row in rows)
    for minute in range(6, 13):
        at = utc(f"{DAY} 12:{minute:02}").timestamp()
        own = [row for row in rows if row.fire_time == at]
        others = [row for row in rows if row.last is not None and row.fire_time < at <= row.last]
        assert own or others, minute
        assert own or len(others) == 1, minute
