"""The simulation itself: its model of fire times, its traces, and that it catches what is broken on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.simulate.broken import VARIANTS
from scripts.simulate.calendar import cron_times
from scripts.simulate.drawing import ZONES
from scripts.simulate.expected import Expected
from scripts.simulate.judge import _decisions as judge_decisions
from scripts.simulate.seeds import run_seed, shrink
from scripts.simulate.watching import LEGAL
from scripts.simulate.world import World
from tests.test_cron import CHANGES, model

ROOT = Path(__file__).parent.parent
TEXTS = ("30 2 * * *", "*/20 1-3 * * *", "15 */4 * * *", "59 23,0 * * 1-5", "5 0 1,15 * 5", "*/10 30 2 * * *")
DIGEST = "from scripts.simulate.seeds import run_seed; print(run_seed(3, 12).digest)"
CATCHING = {
    "lose-catch-up": (3, 6),
    "serve-twice": (3, 10),
    "endless-attempts": (1, 6),
    "no-recovery": (7, 6),
    "fold-twice": (8, 20),
    "wrong-counters": (1, 6),
    "told-and-not-written": (1, 6),
    "poison-spreads": (6, 10),
    "forget-what-waits": (3, 6),
}
"""A seed that catches each, and in how many days; others do as well."""


@pytest.mark.parametrize(("zone", "change"), CHANGES, ids=[f"{zone}-{change}" for zone, change in CHANGES])
@pytest.mark.timeout(180)
def test_its_fire_times_are_those_seen_second_by_second_on_the_wall_clock(zone: str, change: str) -> None:
    at = datetime.fromisoformat(change).replace(tzinfo=UTC)
    first, last = at - timedelta(minutes=80), at + timedelta(minutes=80)
    for text in TEXTS:
        seen = model(text, zone, int(first.timestamp()), int(last.timestamp()) + 1)
        assert sorted(one.timestamp() for one in cron_times(text, zone, first, last)) == seen, text


def test_its_zones_are_there() -> None:
    assert len(set(ZONES)) == len(ZONES) > 10
    assert all(cron_times("0 0 * * *", zone, *_two_days()) for zone in ZONES)


def _two_days() -> tuple[datetime, datetime]:
    return datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)


def test_nothing_leads_out_of_a_final_status() -> None:
    assert not {"SUCCESS", "FAILED", "CANCELLED", "TIMEOUT"} & LEGAL.keys()


@pytest.mark.timeout(300)
def test_a_seed_has_the_same_trace_in_every_process() -> None:
    def digest(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", DIGEST]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    report = run_seed(3, 12)
    assert report.problems == ()
    assert report.lines > 100
    assert [digest("0"), digest("4711")] == [report.digest] * 2


@pytest.mark.timeout(300)
def test_seeds_differ_and_none_breaks_a_promise() -> None:
    reports = [run_seed(seed, 10) for seed in (11, 12, 13)]
    assert [report.problems for report in reports] == [()] * 3
    assert len({report.digest for report in reports}) == 3
    assert all(report.counts["calls"] for report in reports)


@pytest.mark.timeout(300)
def test_times_that_several_jobs_have_are_not_taken_from_one_of_them() -> None:
    """Seed 301 draws two jobs with equal schedules; poisoned for one, they raised for both."""
    assert run_seed(301, 60).problems == ()


# --- what the model must not ask for: each was once taken for a broken promise ---------------------------------------

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTELY, HALF_PAST = "* * * * *", "30 * * * *"


def at(minute: int, second: int = 0) -> datetime:
    return NOON + timedelta(minutes=minute, seconds=second)


def put_in_force(expected: Expected, now: datetime, cron: str, **entry: Any) -> None:
    expected.in_force({"job": ({"cron_expression": cron, **entry}, "UTC", {})}, now)


def test_a_fire_time_before_the_begin_whose_spread_start_lies_behind_it_may_be_served() -> None:
    expected = Expected(at(0, 10), at(90))
    put_in_force(expected, at(0, 10), "0 * * * *", spread=3600)
    expected.served_to(at(90), 0.0)
    assert next(iter(expected.of("job").items())) == (NOON, True)


def test_what_a_scheduler_served_and_died_of_may_be_served_by_a_schedule_that_is_none_any_more() -> None:
    expected = Expected(at(0, 30), at(60))
    put_in_force(expected, at(0, 30), MINUTELY)
    expected.died(at(2, 10))
    put_in_force(expected, at(0, 40), HALF_PAST)  # edited while nobody ran, and the clock was set back
    assert list(expected.of("job").items()) == [(at(1), False), (at(2), False), (at(30), False)]


def test_a_skip_that_a_clock_set_back_took_away_need_not_be_there_once_its_schedule_is_gone() -> None:
    expected = Expected(at(0, 30), at(60))
    put_in_force(expected, at(0, 30), MINUTELY)
    expected.served_to(at(3, 10), 0.0)
    put_in_force(expected, at(3, 20), HALF_PAST)
    expected.came_back(at(1, 20), certainly=True)
    must = expected.of("job")
    assert [must[at(minute)] for minute in (1, 2, 3)] == [True, False, False]


def test_a_catch_up_may_choose_fire_times_that_all_meet_an_unfinished_task() -> None:
    entry = {"cron_expression": MINUTELY, "catchup": "all", "catchup_limit": 1}
    expected = Expected(at(0, 30), at(60))
    put_in_force(expected, at(0, 30), MINUTELY)
    world: Any = SimpleNamespace(documents={1: {"cron_jobs": {"job": entry}}}, expected=expected)
    row = {"revision": 1, "task_id": None, "decided_at": at(3).timestamp()}
    older = {**row, "skip_reason": "coalesced", "fire_time": at(2).timestamp(), "last": at(2).timestamp()}
    newest = {**row, "skip_reason": "overlap", "fire_time": at(3).timestamp(), "last": at(3).timestamp()}
    assert judge_decisions(world, "job", [older, newest]) == []
    assert "in favour of nothing" in judge_decisions(world, "job", [older])[0]


def test_a_function_may_outlive_the_last_thing_that_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, done = World(1, 1, tmp_path, quiet=True), list[str]()
    world.later(50.0, "something")

    class Alive:
        """A scheduler in which a function begins at once, and takes until 200."""

        store = SimpleNamespace(answers=False)
        passed_s, is_inside = 0.0, False

        def __init__(self) -> None:
            self.queue = SimpleNamespace(clock=SimpleNamespace(boot=lambda: self.passed_s))

        def advance(self, seconds: float) -> None:
            if not self.is_inside:
                self.is_inside = True
                world.spend(200.0, inside=True)
            else:
                self.passed_s += seconds

    world.time = Alive()  # type: ignore[assignment]
    monkeypatch.setattr(world, "_act", done.append)
    world.spend(100.0)
    assert (done, world.true_s) == (["something"], 200.0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_broken_on_purpose_is_caught(variant: str) -> None:
    report = run_seed(*CATCHING[variant], variant)
    assert report.problems
    assert "Traceback" not in str(report.problems)  # caught by what it does, not because the breaking broke
    assert report.end


@pytest.mark.timeout(300)
def test_a_failing_seed_is_cut_down() -> None:
    seed, days = CATCHING["endless-attempts"]
    report = shrink(seed, days, "endless-attempts")
    assert report.problems
    assert report.days < days


@pytest.mark.timeout(300)
def test_a_failing_run_names_the_seed_and_the_command_that_shows_it_again() -> None:
    command = [sys.executable, "-m", "scripts.simulate", "--first", "1", "--seeds", "1", "--days", "15"]
    ran = subprocess.run(
        [*command, "--break", "endless-attempts"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=200
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "again: python -m scripts.simulate --first 1 --seeds 1 --days 15 --break endless-attempts" in ran.stdout
    assert "the end of its trace" in ran.stdout
    assert "moves: RETRYING" in ran.stdout
