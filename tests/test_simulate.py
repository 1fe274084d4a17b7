"""The simulation itself: its model of fire times, its traces, and that it catches what is broken on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scripts.simulate.broken import VARIANTS
from scripts.simulate.calendar import cron_times
from scripts.simulate.drawing import ZONES
from scripts.simulate.seeds import run_seed, shrink
from scripts.simulate.watching import LEGAL
from tests.test_cron import CHANGES, model

ROOT = Path(__file__).parent.parent
TEXTS = ("30 2 * * *", "*/20 1-3 * * *", "15 */4 * * *", "59 23,0 * * 1-5", "5 0 1,15 * 5", "*/10 30 2 * * *")
DIGEST = "from scripts.simulate.seeds import run_seed; print(run_seed(3, 12).digest)"
CATCHING = {
    "lose-catch-up": 3,
    "serve-twice": 2,
    "endless-attempts": 1,
    "no-recovery": 1,
    "fold-twice": 35,
    "wrong-counters": 1,
    "told-and-not-written": 4,
}
"""A seed that catches each; others do as well."""


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
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(106, id="a catch-up whose fire times all met an unfinished task"),
        pytest.param(117, id="a spread start of a fire time before the begin"),
        pytest.param(146, id="a death in the pass, an edit and a clock set back"),
        pytest.param(263, id="a function that outlives the last thing that is planned"),
        pytest.param(269, id="a skip by an old schedule, and a clock set back before it"),
        pytest.param(189, id="a fire time that came again while its task ran"),
    ],
)
def test_seeds_that_were_once_judged_broken_hold(seed: int) -> None:
    assert run_seed(seed, 90).problems == ()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_broken_on_purpose_is_caught(variant: str) -> None:
    report = run_seed(CATCHING[variant], 45, variant)
    assert report.problems
    assert "Traceback" not in str(report.problems)  # caught by what it does, not because the breaking broke
    assert report.end


@pytest.mark.timeout(300)
def test_a_failing_seed_is_cut_down() -> None:
    report = shrink(CATCHING["endless-attempts"], 20, "endless-attempts")
    assert report.problems
    assert report.days < 20


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
