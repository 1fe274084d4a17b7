"""A real process dies at each named point, with work waiting and running; the next one keeps the promises."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text

from atlas.scheduler import crash_points
from atlas.scheduler.crash_points import CrashPoint
from atlas.scheduler.registry import Registry
from atlas.scheduler.task import OnCrash, TaskPolicy
from atlas.scheduler.testing.crashes import Killed, crash_at, disarm
from atlas.scheduler.testing.virtual_time import VirtualTime
from tests.forked import run_program

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
FINAL = {"SUCCESS", "FAILED", "CANCELLED", "TIMEOUT"}
POINTS = [point for point in CrashPoint if not point.value.startswith("apply")]
"""Those of an apply have a test of their own, in `test_config_faults`."""
NTH = {CrashPoint.COMMIT_BEFORE_BEGIN: 4, CrashPoint.COMMIT_BEFORE_COMMIT: 5, CrashPoint.COMMIT_AFTER_COMMIT: 6}
DATABASES = ["sqlite", "postgresql"]


class Lives:
    """One database and its schedulers, one after the other."""

    def __init__(self, database: str, folder: Path) -> None:
        self.database, self.ledger = database, folder / "ledger"
        self.accepted: dict[str, str] = {}
        self.kills = 0

    def live(self, point: str = "", nth: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.dying", self.database, str(self.ledger), point, str(nth)]
        ran = run_program(command, cwd=ROOT, timeout=140)
        for line in ran.stdout.splitlines():
            if line.startswith("accepted "):
                _word, task_id, kind = line.split()
                self.accepted[task_id] = kind
        self.kills += ran.returncode == -signal.SIGKILL
        return ran

    def die_at(self, point: CrashPoint, nth: int = 1) -> None:
        ran = self.live(point.value, nth)
        assert ran.returncode == -signal.SIGKILL, ran.stdout[-300:] + ran.stderr[-2000:]

    def read(self, sql: str) -> list[Any]:
        engine = create_engine(self.database)
        try:
            with engine.connect() as connection:
                return list(connection.execute(text(sql)))
        finally:
            engine.dispose()

    def judge(self) -> None:
        ledger = self.ledger.read_text() if self.ledger.exists() else ""  # it died before its first task
        lines = [line.split() for line in ledger.splitlines()]
        starts = Counter(task for word, task, _number in lines if word == "start")
        ends = {task for word, task, _number in lines if word == "end"}
        tasks = {row.id: row for row in self.read("SELECT * FROM tasks")}
        assert self.accepted.keys() <= tasks.keys(), "an accepted task is gone"
        assert {row.status for row in tasks.values()} <= FINAL
        for task_id, row in tasks.items():
            assert row.status != "SUCCESS" or task_id in ends
            failures = 1 if json.loads(row.arguments)["args"] == ["flaky"] else 0
            once = TaskPolicy.from_json(row.policy).on_crash is OnCrash.FAIL
            told = [line for line in lines if line[1] == task_id]
            lives = 1 if once else 1 + self.kills  # a death takes back each attempt that was not written yet
            assert starts[task_id] <= (1 + failures) * lives, f"{self.kills} kills, {row}, {told}"
            assert row.status == "SUCCESS" or once, row
        self.judge_fire_times(tasks)
        counted = dict(self.read("SELECT status, sum(tasks) FROM counters GROUP BY status"))
        assert counted == Counter(row.status for row in tasks.values())

    def judge_fire_times(self, tasks: dict[str, Any]) -> None:
        served: Counter[int] = Counter()
        for row in self.read("SELECT * FROM fires"):
            assert row.task_id is None or row.task_id in tasks, "a fire time without its task"
            served.update(range(int(row.fire_time), int(row.last or row.fire_time) + 1))
        if served:
            assert set(served) == set(range(min(served), max(served) + 1)), "a fire time was served by nothing"
            assert set(served.values()) == {1}, "a fire time was served twice"
        fired = [row.fire_time for row in tasks.values() if row.fire_time is not None]
        assert len(fired) == len(set(fired))


@pytest.fixture(params=DATABASES)
def lives(request: pytest.FixtureRequest, tmp_path: Path) -> Lives:
    if request.param == "sqlite":
        return Lives(f"sqlite:///{tmp_path / 'atlas.db'}", tmp_path)
    return Lives(request.getfixturevalue("postgres_url"), tmp_path)


@pytest.mark.timeout(500)
@pytest.mark.parametrize("point", POINTS, ids=[point.name.lower().replace("_", "-") for point in POINTS])
def test_after_a_death_there_nothing_is_lost_and_nothing_is_doubled(lives: Lives, point: CrashPoint) -> None:
    if point.value.startswith(("lead", "recovery")):  # something must be left to take over
        lives.die_at(CrashPoint.COMMIT_AFTER_HAND_OVER, 12)
    lives.die_at(point, NTH.get(point, 1))
    if point is CrashPoint.SCHEMA_MADE:  # nobody has worked yet
        lives.die_at(CrashPoint.COMMIT_AFTER_COMMIT, 6)
    ended = lives.live()
    assert "lived" in ended.stdout, ended.stderr[-3000:]
    lives.judge()


def test_every_point_says_what_it_proves() -> None:
    source = Path(crash_points.__file__).read_text("utf-8")
    for point in CrashPoint:
        _head, _found, rest = source.partition(f'{point.name} = "{point.value}"')
        assert rest.partition("\n")[2].lstrip().startswith('"""'), point


def test_the_point_of_the_nth_passing_raises_and_disarms_itself() -> None:
    crash_at(CrashPoint.PASS_WRITTEN, nth=2, how="raise")
    try:
        crash_points.reached(CrashPoint.PASS_WRITTEN)
        crash_points.reached(CrashPoint.PASS_COMMITTED)
        with pytest.raises(Killed):
            crash_points.reached(CrashPoint.PASS_WRITTEN)
        crash_points.reached(CrashPoint.PASS_WRITTEN)
    finally:
        disarm()


@pytest.mark.parametrize(("point", "nth"), [("nowhere", 1), (CrashPoint.PASS_WRITTEN, 0)], ids=["unknown", "zeroth"])
def test_a_point_that_can_never_be_reached_is_refused(point: str, nth: int) -> None:
    with pytest.raises(ValueError, match=r"nowhere|nth is 0"):
        crash_at(point, nth=nth)
    assert crash_points.armed is None


@pytest.mark.parametrize(
    "point",
    [point for point in CrashPoint if point.value.startswith(("commit", "pass"))],
    ids=lambda point: point.name.lower().replace("_", "-"),
)
def test_on_virtual_time_a_death_is_an_exception_and_the_next_start_serves_what_was_due(
    tmp_path: Path, crash_at: Callable[..., None], point: CrashPoint
) -> None:
    calls: list[object] = []
    registry = Registry()
    registry.add("work", lambda: calls.append(1))
    path = tmp_path / "atlas.db"
    with VirtualTime(store=path, registry=registry) as time:
        time.cron.sync.add_job("job", "0 * * * *", "work", catchup="all")
        crash_at(point, nth=2, how="raise")
        with pytest.raises(Killed):
            time.advance(hours=5)
        died_at = time.now
        time.kill()
    with VirtualTime(died_at, store=path, registry=registry) as time:
        time.advance(hours=2)
        fires = time.decisions("job")
        assert all(fire.endswith("task") for fire in fires)
        assert len({fire.split()[0] for fire in fires}) == len(fires) >= 2
        assert {task.status.value for task in time.tasks("job")} == {"SUCCESS"}
    assert len(fires) <= len(calls) <= len(fires) + 1
