"""The bench's own arithmetic: medians, ratios, goals, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from scripts.bench import peers, report
from scripts.bench.__main__ import MEASURES
from scripts.bench.fire_time import expressions, steps, stock_triggers
from scripts.bench.measure import Goal, Measure, Side

if TYPE_CHECKING:
    from pathlib import Path


def measure(**goal: Any) -> Measure:
    sides = [Side(name=name, run=lambda *_: {}, durability=f"{name} keeps") for name in ("Atlas", "peer")]
    return Measure(name="x", title="x", sides=sides, goals=[Goal(what="x", figure="per_s", **goal)])


@pytest.mark.parametrize(
    ("atlas", "least", "must", "reach", "met"),
    [
        (90.0, True, 8, 12, "must"),
        (120.0, True, 8, 12, "reach"),
        (79.0, True, 8, 12, "missed"),
        (5.0, False, 1 / 2, 1 / 4, "must"),
        (2.5, False, 1 / 2, 1 / 4, "reach"),
        (5.1, False, 1 / 2, 1 / 4, "missed"),
    ],
)
def test_a_ratio_is_held_against_both_bounds(atlas: float, least: bool, must: float, reach: float, met: str) -> None:
    found = {"Atlas": {1: {"per_s": atlas}}, "peer": {1: {"per_s": 10.0}}}
    [line] = report.judged(measure(to="peer", least=least, must=must, reach=reach), found)
    assert (line["ratio"], line["met"]) == (pytest.approx(atlas / 10), met)


def test_a_goal_beside_a_peer_that_was_not_measured_is_not_told() -> None:
    assert report.judged(measure(to="peer", must=1, reach=1), {"Atlas": {1: {"per_s": 1.0}}}) == []


def test_a_median_is_of_each_figure() -> None:
    assert report.medians([{"a": 1.0, "b": 9.0}, {"a": 3.0, "b": 7.0}, {"a": 2.0, "b": 8.0}]) == {"a": 2.0, "b": 8.0}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (18_600.0, "/s", "18,600/s"),
        (0.043, "s", "43 ms"),
        (2.99, "s", "2.99 s"),
        (0.0, "", "0"),
        (11.008, "µs", "11 µs"),
        (0.134, "%", "0.134 %"),
    ],
)
def test_a_figure_reads_as_one_says_it(value: float, unit: str, text: str) -> None:
    assert report.shown(value, unit) == text


def test_the_table_takes_its_place_in_the_readme_and_nothing_else_moves(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter 后\n", "utf-8")
    assert report.write_readme(readme, "new")
    assert report.write_readme(readme, "newer")
    assert readme.read_text("utf-8") == f"before\n{report.BEGIN}\nnewer\n{report.END}\nafter 后\n"
    readme.write_text("without", "utf-8")
    assert not report.write_readme(readme, "new")
    assert readme.read_text("utf-8") == "without"


def test_a_run_of_some_measures_keeps_the_others(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.json"
    report.keep(file, {"date": "1", "machine": {}, "measures": {"b": 1, "a": 1}}, ["a", "b"])
    kept = report.keep(file, {"date": "2", "machine": {}, "measures": {"b": 2}}, ["a", "b"])
    assert (kept["date"], list(kept["measures"].items())) == ("2", [("a", 1), ("b", 2)])


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_names_figures_and_sides_that_there_are(name: str) -> None:
    import importlib

    found: Measure = importlib.import_module(f"scripts.bench.{name}").MEASURE
    sides = {side.name: side for side in found.sides}
    assert found.name == name
    for goal in found.goals:
        for side, size in ((goal.side, goal.size), (goal.to or goal.side, goal.to_size)):
            assert (size or found.sizes[0]) in (sides[side].sizes or found.sizes)


TINY = {"latency": 10, "urgent": 200, "edit": 20, "history": 200, "memory": 100}


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_run_gives_every_figure_that_a_goal_names(name: str, tmp_path: Path) -> None:
    import importlib

    found: Measure = importlib.import_module(f"scripts.bench.{name}").MEASURE
    for side in found.sides:
        if side.home == "atlas":
            folder = tmp_path / side.name
            folder.mkdir()
            command = [sys.executable, "-m", "scripts.bench.child", name, side.name, str(TINY[name]), str(folder)]
            done = subprocess.run(command, cwd=peers.ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            figures = json.loads(done.stdout.splitlines()[-1])
            assert {goal.figure for goal in found.goals if goal.side == side.name} <= set(figures)


def test_both_sides_read_the_expressions_alike() -> None:
    from atlas.scheduler.schedule import Schedule
    from atlas.scheduler.triggers import trigger_for

    wanted = expressions(100)
    mine = [steps(trigger_for(Schedule(cron=(text,), timezone=zone))) for text, zone in wanted]
    assert mine == [steps(trigger) for trigger in stock_triggers(wanted)]
