"""The verdict of ``make chaos``: it holds where all went well, and each thing that goes wrong breaks it."""

from __future__ import annotations

import os
import subprocess
from collections import Counter, namedtuple
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from scripts.chaos import ledger, processes
from scripts.chaos.verdict import Evidence, Sample, gather, judge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scripts.chaos.checks import Check

BEGUN = 1_800_000_000.0
PERIODS = {"each_second": 1, "long": 7}
Row = namedtuple("Row", "id status job_id fire_time cause attempt")  # noqa: PYI024 - as a database driver makes them
Fire = namedtuple("Fire", "job_id fire_time last count task_id")  # noqa: PYI024


def good() -> Evidence:
    """A short run: five tasks, a job of three seconds with a skip, a scheduler that was killed."""
    found = Evidence(integrity="ok", restarts=[BEGUN, BEGUN + 10])
    ends = {"instant": "SUCCESS", "flaky": "SUCCESS", "hang": "TIMEOUT", "cancelled": "CANCELLED", "once": "SUCCESS"}
    for number, (kind, status) in enumerate(ends.items()):
        at = BEGUN + 1 + number
        found.accepted[kind] = {"task": kind, "kind": kind, "retries": 0 if kind == "once" else 3, "at": at}
        found.starts[kind].append({"task": kind, "at": at, "job": None, "fire": None})
        found.tasks[kind] = Row(kind, status, None, None, None, 1)
        if status == "SUCCESS":
            found.ended.add(kind)
    found.cancelled["cancelled"] = BEGUN + 4.5
    for second in (0, 2):
        task, fire_time = f"beat{second}", BEGUN + 6 + second
        found.starts[task].append({"task": task, "at": fire_time, "job": "each_second", "fire": fire_time})
        found.ended.add(task)
        found.tasks[task] = Row(task, "SUCCESS", "each_second", fire_time, None, 1)
        found.fires.append(Fire("each_second", fire_time, None, None, task))
    found.fires.append(Fire("each_second", BEGUN + 7, None, None, None))
    found.fires.append(Fire("long", BEGUN + 49, BEGUN + 60, 3, None))  # 49, 56 and, since the minute is over, 60
    found.fires.append(Fire("long", BEGUN + 67, None, None, None))
    found.starts["beat2"].append({"task": "beat2", "at": BEGUN + 12, "job": "each_second", "fire": BEGUN + 8})
    found.faults = [{"name": "kill scheduler", "begun": BEGUN + 9, "at": BEGUN + 10}]
    found.counters = Counter(row.status for row in found.tasks.values())
    found.samples = [Sample(BEGUN + 20 + second, 80 + second / 600, 25, second % 4) for second in range(180)]
    return found


def failing(found: Evidence) -> list[Check]:
    return [check for check in judge(found, PERIODS) if check.holds is not True]


def test_a_run_in_which_all_went_well_passes() -> None:
    assert failing(good()) == []


def _replace(found: Evidence, task: str, **values: Any) -> None:
    found.counters[found.tasks[task].status] -= 1
    found.tasks[task] = found.tasks[task]._replace(**values)
    found.counters[found.tasks[task].status] += 1


def _lose(found: Evidence) -> None:
    row = found.tasks.pop("instant")
    found.counters[row.status] -= 1


def _start(found: Evidence, task: str, *, at: float, times: int = 1, **values: Any) -> None:
    for _ in range(times):
        found.starts[task].append({"task": task, "at": at, "job": None, "fire": None, **values})


def _grow(found: Evidence, field: str, by: float) -> None:
    for number, sample in enumerate(found.samples):
        setattr(sample, field, getattr(sample, field) + type(getattr(sample, field))(by * number))


def long_after(begun: float) -> Fire:
    return Fire("long", begun + 81, None, None, None)  # nothing at 74


WRONG: dict[str, tuple[str, Callable[[Evidence], None]]] = {
    "an acknowledged task is gone": ("every acknowledged task is final", _lose),
    "a task never ended": ("nothing is unfinished", lambda it: _replace(it, "beat0", status="RUNNING")),
    "a success that nobody saw": ("every SUCCESS has an end", lambda it: it.ended.discard("flaky")),
    "another end": ("every task ends as its function does", lambda it: _replace(it, "hang", status="FAILED")),
    "started too often": (
        "no task starts more often than it may",
        lambda it: _start(it, "flaky", at=BEGUN + 2, times=4),
    ),
    "at most once, and twice": (
        "no task starts more often than it may",
        lambda it: _start(it, "once", at=BEGUN + 12),
    ),
    "started after its cancel": ("nothing starts after its cancel", lambda it: _start(it, "cancelled", at=BEGUN + 7)),
    "a second without a decision": ("each_second: each fire time", lambda it: it.fires.pop(2)),
    "a fire of another schedule left out": ("long: each fire time", lambda it: it.fires.append(long_after(BEGUN))),
    "a second decided twice": ("each_second: each fire time", lambda it: it.fires.append(it.fires[0])),
    "two tasks of one second": (
        "each_second: each fire time",
        lambda it: _start(it, "beat0", at=BEGUN + 8, job="each_second", fire=BEGUN + 8),
    ),
    "a fire without its task": (
        "each_second: each fire time",
        lambda it: it.fires.append(Fire("each_second", BEGUN + 9, None, None, "nowhere")),
    ),
    "nothing started for long": ("from a start to the first task", lambda it: it.restarts.append(BEGUN - 30)),
    "wrong metrics": ("the metrics count", lambda it: it.counters.update(SUCCESS=1)),
    "a broken database": ("the database finds itself whole", lambda it: setattr(it, "integrity", "page 7")),
    "a process that stayed": ("no process is left over", lambda it: it.left_over.append(4711)),
    "a stop that hung": ("every stop comes to its end", lambda it: setattr(it, "stuck", 1)),
    "a scheduler that ended": ("no scheduler ends by itself", lambda it: setattr(it, "died", 1)),
    "memory that grows": ("memory grows by less", lambda it: _grow(it, "memory_mb", 1.1 / 60)),
    "files that stay open": ("open files do not grow", lambda it: _grow(it, "open_files", 4 / 100)),
}


@pytest.mark.parametrize(("name", "wrong"), WRONG.values(), ids=WRONG)
def test_whatever_goes_wrong_is_seen_and_named(name: str, wrong: Callable[[Evidence], None]) -> None:
    found = deepcopy(good())
    wrong(found)
    names = [check.name for check in failing(found)]
    assert any(one.startswith(name) for one in names), names


def test_a_stretch_that_is_too_short_says_so_and_judges_no_growth() -> None:
    found = good()
    _grow(found, "open_files", 1)
    found.samples = found.samples[:30]
    assert [check.holds for check in failing(found)] == [None, None]
    assert all("too short" in check.figure for check in failing(found))


def test_the_ledger_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ledger.FOLDER, str(tmp_path))
    ledger.write(ledger.ACCEPTED, what="accepted", task="a", kind="instant", retries=3)
    ledger.write(ledger.ACCEPTED, what="cancelled", task="a", heard=True)
    ledger.write(ledger.ACCEPTED, what="cancelled", task="b", heard=False)
    ledger.write(ledger.ACCEPTED, what="refused", kind="slow", error="away")
    ledger.write(ledger.WORK, what="start", task="a", job=None, fire=None)
    ledger.write(ledger.WORK, what="end", task="a")
    ledger.write(ledger.FAULTS, what="start", pid=1)
    ledger.write(ledger.FAULTS, what="fault", name="lock", begun=0.0)
    ledger.write(ledger.FAULTS, what="died", pid=1, code=1)
    ledger.write(ledger.FAULTS, what="died", pid=2, code=-11)
    found = gather(tmp_path, [])
    assert (set(found.accepted), set(found.cancelled), found.refused) == ({"a"}, {"a"}, 1)
    assert (len(found.starts["a"]), found.ended, len(found.restarts)) == (1, {"a"}, 1)
    assert (found.died, found.unserved) == (1, 1), "no database, no start: that is no death"
    assert found.left_over == []


def test_pipes_to_living_children_are_no_growth_and_those_to_dead_ones_are() -> None:
    me = os.getpid()
    before = processes.open_files(me)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    assert processes.open_files(me) == before
    child.kill()
    child.wait(10)
    assert processes.open_files(me) == before + 2
    child.stdin.close()
    child.stdout.close()
    assert processes.open_files(me) == before
