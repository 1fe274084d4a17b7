"""The bench: each measure in small, its checks against lies, its arithmetic, and what it writes."""

from __future__ import annotations

import importlib
import json
import sqlite3
import sys
import types
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from scripts.bench import busy, contenders, peers, report
from scripts.bench.__main__ import MEASURES, main
from scripts.bench.contenders import ATLAS, CELERY, HUEY, STOCK_POSTGRES, Contender, left_out, no_server
from scripts.bench.measure import Goal, Measure, Side, WrongResultError, check_results
from scripts.bench.measures import drain, latency, submit
from scripts.bench.measures.fire_time import expressions, steps, stock_triggers
from scripts.bench.runner import Run, run_side
from scripts.bench.sides.atlas_queue import CommitWindows, check_kept
from tests.forked import run_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TINY = {
    "herd": 20,
    "drain": 300,
    "submit": 200,
    "latency": 10,
    "urgent": 100,
    "start": 20,
    "edit": 20,
    "history": 200,
    "memory": 100,
    "fire_time": 50,
    "imports": 1,
}


def of(name: str) -> Measure:
    found: Measure = importlib.import_module(MEASURES[name]).MEASURE
    return found


# --- the measures in small -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "side"),
    [
        pytest.param(name, side, id=f"{name}: {side.name}")
        for name in MEASURES
        for side in of(name).sides
        if side.who.home == "atlas" and side.who is not STOCK_POSTGRES
    ],
)
def test_a_side_gives_every_figure_that_a_goal_names(name: str, side: Side, tmp_path: Path) -> None:
    measure = of(name)
    command = [sys.executable, "-m", "scripts.bench.child", MEASURES[name], side.name, str(TINY[name]), str(tmp_path)]
    done = run_program(command, cwd=peers.ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    wanted = {goal.figure for goal in measure.goals if goal.side == side.name}
    wanted |= {goal.to_figure or goal.figure for goal in measure.goals if goal.to == side.name}
    assert wanted <= set(figures)


@pytest.mark.parametrize("name", ["drain", "submit", "latency"])
def test_huey_gives_every_figure_that_is_told_of_it(name: str, tmp_path: Path) -> None:
    if not peers.is_installed():
        pytest.skip("the peers are not installed here; make bench does that")
    side = next(side for side in of(name).sides if side.who is HUEY)
    figures = run_side(name, MEASURES[name], side, TINY[name])
    assert figures
    assert set(figures) >= {goal.figure for goal in of(name).goals if goal.to == side.name}


@pytest.mark.parametrize("name", MEASURES)
def test_goals_name_sides_and_sizes_that_there_are(name: str) -> None:
    measure = of(name)
    sides = {side.name: side for side in measure.sides}
    for goal in measure.goals:
        for side, size in ((goal.side, goal.size), (goal.to or goal.side, goal.to_size)):
            assert (size or measure.sizes[0]) in (sides[side].sizes or measure.sizes)


@pytest.mark.parametrize("name", MEASURES)
def test_every_side_says_what_is_safe_where_something_is_kept(name: str) -> None:
    keeps = {"herd", "drain", "submit", "latency", "urgent", "start", "edit", "history"}
    assert name not in keeps or all(side.who.durability for side in of(name).sides)


def test_both_sides_read_the_expressions_alike() -> None:
    from atlas.scheduler.schedule import Schedule
    from atlas.scheduler.triggers import trigger_for

    wanted = expressions(100)
    mine = [steps(trigger_for(Schedule(cron=(text,), timezone=zone))) for text, zone in wanted]
    assert mine == [steps(trigger) for trigger in stock_triggers(wanted)]


# --- lies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([0, 1], "2 results for 3"),
        ([0, 1, 2, 2], "4 results for 3"),
        ([0, None, 2], "number 1 came back as None"),
        ([1, 0, 2], "number 0 came back as 1"),
        (["0", "1", "2"], "number 0 came back as '0'"),
    ],
    ids=["lost", "doubled", "none", "swapped", "another type"],
)
def test_results_that_are_not_what_was_sent_are_refused(found: list[object], words: str) -> None:
    check_results([0, 1, 2], 3)
    with pytest.raises(WrongResultError, match=words):
        check_results(found, 3)


@pytest.mark.parametrize(
    "lie",
    [
        "DELETE FROM tasks WHERE result = '1'",
        "UPDATE tasks SET status = 'FAILED' WHERE result = '1'",
        "UPDATE tasks SET result = '7' WHERE result = '1'",
        "INSERT INTO tasks SELECT * FROM tasks WHERE result = '1'",
        "UPDATE tasks SET function = 'other'",
    ],
)
def test_rows_that_are_not_what_was_sent_are_refused(lie: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "atlas.db")) as connection:
        connection.execute("CREATE TABLE tasks (function TEXT, status TEXT, result TEXT)")
        connection.executemany("INSERT INTO tasks VALUES ('f', 'SUCCESS', ?)", [(str(number),) for number in range(3)])
        connection.commit()
        check_kept(tmp_path, "f", 3)
        connection.execute(lie)
        connection.commit()
    with pytest.raises(WrongResultError):
        check_kept(tmp_path, "f", 3)


def test_more_tasks_between_two_commits_than_promised_are_refused() -> None:
    writer: Any = types.SimpleNamespace(commits=0)
    windows = CommitWindows(writer)
    for number in range(208):
        writer.commits = number // 104
        windows.note()
    assert windows.most(208) == 104
    windows.note()
    with pytest.raises(WrongResultError, match="105 functions were entered between two commits"):
        windows.most(209)
    with pytest.raises(WrongResultError, match="209 functions were entered for 210 tasks"):
        windows.most(210)


class FakeHuey:
    """A queue that runs a task when it is put in; ``lose`` says which of them it forgets."""

    def __init__(self, lose: int | None) -> None:
        self._lose, self.kept = lose, 0

    def task(self) -> Callable[[Callable[[int], int]], Callable[[int], Any]]:
        def decorate(function: Callable[[int], int]) -> Callable[[int], Any]:
            def put(number: int) -> Any:
                value = function(number)
                lost = number == self._lose
                self.kept += not lost
                return types.SimpleNamespace(get=lambda **_: None if lost else value)

            return put

        return decorate

    def create_consumer(self, **_: Any) -> Any:
        return types.SimpleNamespace(start=lambda: None, stop=lambda **_: None)

    def result_count(self) -> int:
        return self.kept + (self._lose is not None)

    def pending_count(self) -> int:
        return self.kept


@pytest.mark.parametrize("run", [drain.huey, latency.huey, submit.huey], ids=["drain", "latency", "submit"])
def test_a_peer_that_drops_a_result_is_refused(
    run: Callable[[Path, int], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(lose: int | None) -> Any:
        return types.SimpleNamespace(SqliteHuey=lambda **_: FakeHuey(lose))

    monkeypatch.setattr(latency, "waits", lambda *_: {})  # it starts a task before the call returns
    monkeypatch.setitem(sys.modules, "huey", fake(None))
    run(tmp_path, 20)
    monkeypatch.setitem(sys.modules, "huey", fake(1))
    with pytest.raises(WrongResultError):
        run(tmp_path, 20)


def test_a_task_that_never_starts_is_no_short_wait() -> None:
    called = {number: float(number) for number in range(30)}
    started = {number: at + 0.5 for number, at in called.items()}
    assert latency.waits(called, started, 30)["p99_s"] == 0.5
    with pytest.raises(WrongResultError, match="29 tasks of 30"):
        latency.waits(called, {number: at for number, at in started.items() if number != 5}, 30)
    with pytest.raises(WrongResultError, match="before it is submitted"):
        latency.waits(called, started | {25: 0.0}, 30)


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, Path]:
    """Where a run writes, as arguments of `main`."""
    places = {"kept": tmp_path / "benchmarks.json", "readme": tmp_path / "README.md"}
    places["readme"].write_text(f"{report.BEGIN}\n{report.END}\n", "utf-8")
    return places


def test_a_lie_of_atlas_ends_the_bench_with_1_and_is_not_kept(
    kept: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    modules = {"lie": "tests.bench_measures.atlas_lies", "truth": "tests.bench_measures.honest"}
    assert main([], measures=modules, **kept) == 1
    assert list(json.loads(kept["kept"].read_text("utf-8"))["measures"]) == ["truth"]
    assert "2 results for 3 tasks are not what was sent" in capsys.readouterr().err
    assert main(["--only", "truth"], measures=modules, **kept) == 0
    assert "| numbers | 2 s |  |  | ≥ 1 s | ≥ 1 s | reached | 1 |" in kept["readme"].read_text("utf-8")


def test_a_lie_of_a_peer_ends_the_bench_with_1_and_the_others_are_kept_without_it(
    kept: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], measures={"lie": "tests.bench_measures.peer_lies"}, **kept) == 1
    assert "2 results for 3 tasks are not what was sent" in capsys.readouterr().err
    table = kept["readme"].read_text("utf-8").splitlines()
    assert "| numbers beside | 2 s | thread pool |  | ≥ 1 × | ≥ 1 × | not measured | 2 |" in table
    assert "* thread pool: its run failed." in table


# --- what is asked of it ---------------------------------------------------------------------------------------------


def test_a_quick_run_is_printed_and_not_kept(kept: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    before = kept["readme"].read_text("utf-8")
    assert main(["--quick"], measures={"truth": "tests.bench_measures.honest"}, **kept) == 0
    assert "| numbers | 2 s |" in capsys.readouterr().out
    assert kept["readme"].read_text("utf-8") == before
    assert not kept["kept"].exists()


def test_a_measure_that_there_is_not_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "herd,dran"])
    assert ended.value.code == 2
    assert f"no measure is called dran; there are {', '.join(MEASURES)}" in " ".join(capsys.readouterr().err.split())


def test_help_tells_what_each_measure_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    for name, module in MEASURES.items():
        assert f"  {name:<10} {(importlib.import_module(module).__doc__ or '').splitlines()[0]}" in told


def test_a_full_run_repeats_the_first_size_and_a_quick_one_nothing() -> None:
    measure = of("herd")
    sides = {side.name: Run(peers="some").turns(measure, side) for side in measure.sides}
    assert sides["Atlas"] == {10_000: 3, 1_000: 1, 50_000: 1}
    assert sides["APScheduler SQLite"] == {10_000: 1, 1_000: 1}
    assert Run(peers="some", quick=True).turns(measure, measure.sides[0]) == {1_000: 1}


@pytest.mark.parametrize(
    ("choice", "names"),
    [("none", {"Atlas"}), ("some", {"Atlas", "huey"}), ("all", {"Atlas", "huey", "Celery"})],
)
def test_peers_are_measured_when_asked_for(choice: contenders.Peers, names: set[str]) -> None:
    celery = Contender(name="Celery", among=CELERY.among)  # as if Redis were there
    assert {who.name for who in (ATLAS, HUEY, celery) if left_out(who, choice) is None} == names


def test_a_server_that_is_not_there_is_told_with_its_remedy(unused_tcp_port: int) -> None:
    said = no_server(f"redis://127.0.0.1:{unused_tcp_port}/13", "Redis", "BENCH_REDIS")()
    assert said is not None
    assert said.startswith(f"no Redis answers at 127.0.0.1:{unused_tcp_port}")
    assert said.endswith("BENCH_REDIS names another")


def test_a_busy_machine_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert busy.warning(1.0) is None
    assert "load 5.6 on 2 cores" in (busy.warning(5.6) or "")


# --- arithmetic ------------------------------------------------------------------------------------------------------


def measure(**goal: Any) -> Measure:
    sides = [Side(who=Contender(name=name), run=lambda *_: {}) for name in ("Atlas", "peer")]
    return Measure(title="x", sides=sides, sizes=(1,), quick=1, goals=[Goal(what="x", figure="per_s", **goal)])


@pytest.mark.parametrize(
    ("atlas", "least", "must", "reach", "met"),
    [
        (90.0, True, 8, 12, "must"),
        (120.0, True, 8, 12, "reach"),
        (79.0, True, 8, 12, "missed"),
        (5.0, False, 1 / 2, 1 / 4, "must"),
        (2.5, False, 1 / 2, 1 / 4, "reach"),
        (5.1, False, 1 / 2, 1 / 4, "missed"),
        (5.1, False, None, 1 / 4, "wished"),
        (2.5, False, None, 1 / 4, "reach"),
    ],
)
def test_a_ratio_is_held_against_both_bounds(
    atlas: float, least: bool, must: float | None, reach: float, met: str
) -> None:
    found = {"Atlas": {1: {"per_s": atlas}}, "peer": {1: {"per_s": 10.0}}}
    [line] = report.judged(measure(to="peer", least=least, must=must, reach=reach), found, head=1)
    assert (line["ratio"], line["met"]) == (pytest.approx(atlas / 10), met)


def test_a_goal_beside_a_peer_that_was_not_measured_is_told_as_such() -> None:
    [line] = report.judged(measure(to="peer", must=1, reach=1), {"Atlas": {1: {"per_s": 1.0}}}, head=1)
    assert (line["value"], line["beside_value"], line["ratio"], line["met"]) == (1.0, None, None, "unknown")


def test_a_quick_run_judges_at_its_own_size_and_leaves_growth_out() -> None:
    found = {"Atlas": {7: {"per_s": 1.0}}}
    assert report.judged(measure(must=1, reach=1), found, head=7, grown=False)[0]["met"] == "reach"
    assert report.judged(measure(must=1, reach=1, to="Atlas", to_size=1), found, head=7, grown=False) == []


def test_a_median_is_of_each_figure() -> None:
    assert report.medians([{"a": 1.0, "b": 9.0}, {"a": 3.0, "b": 7.0}, {"a": 2.0, "b": 8.0}]) == {"a": 2.0, "b": 8.0}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (18_600.0, "/s", "18,600/s"),
        (0.043, "s", "43 ms"),
        (2.99, "s", "2.99 s"),
        (0.0, "", "0"),
        (0.0, "s", "0 s"),
        (11.008, "µs", "11 µs"),
        (0.134, "%", "0.134 %"),
    ],
)
def test_a_figure_reads_as_one_says_it(value: float, unit: str, text: str) -> None:
    assert report.shown(value, unit) == text


# --- what it writes --------------------------------------------------------------------------------------------------


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
    report.keep(file, {"machine": {}, "measures": {"b": 1, "a": 1}}, ["a", "b"])
    kept = report.keep(file, {"machine": {}, "measures": {"b": 2}}, ["a", "b"])
    assert list(kept["measures"].items()) == [("a", 1), ("b", 2)]


def test_the_table_tells_durability_growth_and_what_was_left_out() -> None:
    side = {"durability": "on the disk", "runs": {"10": 3, "2": 1}, "figures": {"10": {"x": 0.5}, "2": {"x": 0.1}}}
    found = {
        "date": "2026-01-01",
        "load": 1.0,
        "others": 0.25,
        "sides": {"Atlas": side},
        "left_out": {"Celery": "no Redis"},
        "shown": {"x": ["it takes", "s"]},
        "goals": report.judged(measure(to="peer", must=1, reach=1), {}, head=1),
    }
    text = report.table({"machine": {"cores": 2, "python": "3", "sqlite": "3"}, "measures": {"x": found}})
    assert "| x | – | peer |  | ≤ 1 × | ≤ 1 × | not measured | 3 |" in text
    for line in ("* it takes: Atlas 100 ms (2), 500 ms (10).", "* Atlas: on the disk.", "* Celery: no Redis."):
        assert line in text.splitlines()
    assert "others had 25% to 25% of the CPUs" in text
