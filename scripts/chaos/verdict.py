"""The verdict: what the functions and the producer wrote down, held against what the store says at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, text

from scripts.chaos import ledger, processes
from scripts.chaos.checks import Check, named
from scripts.chaos.producer import KINDS
from scripts.chaos.scene import LEASE_S, MEMBER

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.chaos.databases import Database

FINAL: Final = frozenset({"SUCCESS", "FAILED", "TIMEOUT", "CANCELLED"})
CRASHED: Final = frozenset({"lost", "quarantined"})
HEARD_S: Final = 2.0
"""A cancel from another process is heard within 1 s; one more for a machine that is busy."""
QUARANTINE_STARTS: Final = 4
"""Three counted crashes and one that may go uncounted."""
AWAY: Final = frozenset({"restart fast", "restart immediate", "lock", "disk full"})
"""Faults in which a scheduler that starts finds no database, says so and ends with 1; a supervisor starts it again."""
UNSERVED_S: Final = 5.0
SHORT_STRETCH_S: Final = 120.0
DISTURBING: Final = frozenset(
    {
        "kill scheduler",
        "kill worker",
        "restart",
        "freeze",
        "freeze past the lease",
        "second scheduler",
        "lock",
        "restart fast",
        "restart immediate",
        "disk full",
    }
)
"""Faults after which an attempt may start once more than its retries say."""


@dataclass(slots=True)
class Sample:
    """The scheduler at one moment; ``open_files`` without the pipes to its ``workers``, which come and go."""

    at: float
    memory_mb: float
    open_files: int
    workers: int


@dataclass(slots=True)
class Evidence:
    """Everything a run left behind."""

    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    starts: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    ended: set[str] = field(default_factory=set)
    faults: list[dict[str, Any]] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    stuck: int = 0
    died: int = 0
    unserved: int = 0
    tasks: dict[str, Any] = field(default_factory=dict)
    fires: list[Any] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    integrity: str = "not asked"
    left_over: list[int] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def first_starts(self) -> list[float]:
        """The instant of every start, in order."""
        return sorted(one["at"] for starts in self.starts.values() for one in starts)


def gather(folder: Path, samples: list[Sample]) -> Evidence:
    """Read the ledger and the list of processes."""
    found = Evidence(samples=samples)
    for line in ledger.read(folder, ledger.ACCEPTED):
        if line["what"] == "accepted":
            found.accepted[line["task"]] = line
        elif line["what"] == "cancelled" and line["heard"]:
            found.cancelled[line["task"]] = line["at"]
        found.refused += line["what"] == "refused"
    for line in ledger.read(folder, ledger.WORK):
        if line["what"] == "start":
            found.starts[line["task"]].append(line)
        else:
            found.ended.add(line["task"])
    driven = list(ledger.read(folder, ledger.FAULTS))
    found.faults = [line for line in driven if line["what"] == "fault"]
    found.restarts = [line["at"] for line in driven if line["what"] == "start"]
    found.stuck = sum(line["what"] == "stuck" for line in driven)
    away = [(line["begun"], line["at"]) for line in found.faults if line["name"] in AWAY]
    for line in driven:
        if line["what"] == "died":
            # Noticed later than it was, so as long as the database was away at any moment between.
            unserved = line["code"] == 1 and any(begun <= line["at"] <= at + UNSERVED_S for begun, at in away)
            found.unserved += unserved
            found.died += not unserved
    found.left_over = processes.marked(f"{MEMBER}={folder}")
    return found


def ask_store(found: Evidence, database: Database) -> None:
    """Read the database, as any program may read it."""
    engine = create_engine(database.url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, status, job_id, fire_time, cause, attempt FROM tasks"))
        found.tasks = {row.id: row for row in rows}
        found.fires = list(connection.execute(text("SELECT job_id, fire_time, last, count, task_id FROM fires")))
        for row in connection.execute(text("SELECT status, sum(tasks) AS tasks FROM counters GROUP BY status")):
            found.counters[row.status] = int(row.tasks)
    engine.dispose()
    found.integrity = database.integrity()


def judge(found: Evidence, periods: dict[str, int]) -> list[Check]:
    """Every promise, kept or not; ``periods`` are the seconds of jobs whose schedule is ``*/seconds``."""
    return [
        _acknowledged(found),
        _nothing_running(found),
        _successes(found),
        _ends(found),
        _starts(found),
        _cancels(found),
        *_fire_times(found, periods),
        _recovery(found),
        _counters(found),
        Check("the database finds itself whole", found.integrity, found.integrity == "ok"),
        Check("no process is left over", f"{len(found.left_over)}", not found.left_over),
        Check("every stop comes to its end", f"{found.stuck} stuck", not found.stuck),
        Check(
            "no scheduler ends by itself",
            f"{found.died} ended; {found.unserved} did not start, for want of the database",
            not found.died,
        ),
        *_growth(found),
    ]


def _acknowledged(found: Evidence) -> Check:
    lost = [task for task in found.accepted if task not in found.tasks or found.tasks[task].status not in FINAL]
    return Check(
        "every acknowledged task is final", f"{len(found.accepted)} acknowledged, not final {named(lost)}", not lost
    )


def _nothing_running(found: Evidence) -> Check:
    running = [task for task, row in found.tasks.items() if row.status not in FINAL]
    return Check("nothing is unfinished", named(running), not running)


def _successes(found: Evidence) -> Check:
    successes = [task for task, row in found.tasks.items() if row.status == "SUCCESS"]
    liars = [task for task in successes if task not in found.ended]
    return Check(
        "every SUCCESS has an end in the ledger", f"{len(successes)} successes, without {named(liars)}", not liars
    )


def _ends(found: Evidence) -> Check:
    """Every kind has one right end; only crashes may put another in its place, and they say so in the cause."""
    wrong = Counter[str]()
    for task, accepted in found.accepted.items():
        kind, row = KINDS[accepted["kind"]], found.tasks.get(task)
        if row is None or row.status not in FINAL or row.cause in CRASHED:
            continue
        if kind.cancelled and task not in found.cancelled:
            continue  # the producer was killed before it could cancel, or nobody heard it
        if row.status != kind.ends:
            wrong[f"{accepted['kind']} {row.status}"] += 1
    words = ", ".join(f"{count} × {what}" for what, count in wrong.most_common(4))
    return Check("every task ends as its function does", words or "no other end", not wrong)


def _starts(found: Evidence) -> Check:
    too_often = []
    for task, starts in found.starts.items():
        accepted = found.accepted.get(task)
        retries = 3 if accepted is None else accepted["retries"]
        allowed = 1 + retries
        if accepted is not None and accepted["kind"] == "killer":
            allowed = QUARANTINE_STARTS
        first, last = starts[0]["at"], starts[-1]["at"]
        allowed += sum(
            fault["begun"] <= last and fault["at"] >= first for fault in found.faults if fault["name"] in DISTURBING
        )
        if len(starts) > allowed:
            too_often.append(task)
        once = accepted is not None and accepted["kind"] == "once"
        if once and len(starts) > 1:
            too_often.append(task)
    count = sum(map(len, found.starts.values()))
    return Check(
        "no task starts more often than it may", f"{count} starts, too often {named(too_often)}", not too_often
    )


def _cancels(found: Evidence) -> Check:
    """A start behind an acknowledged cancel; time in which the scheduler was frozen does not count as hearing time."""
    late = []
    for task, at in found.cancelled.items():
        for start in found.starts.get(task, ()):
            frozen = sum(
                max(0.0, min(fault["at"], start["at"]) - max(fault["begun"], at))
                for fault in found.faults
                if fault["name"].startswith("freeze")
            )
            if start["at"] - at - frozen > HEARD_S:
                late.append(task)
    return Check("nothing starts after its cancel", f"{len(found.cancelled)} cancels, started {named(late)}", not late)


def _due(first: int, last: int, period: int) -> list[int]:
    """The fire times of ``*/period`` in the field of seconds: it begins anew each minute."""
    return [at for at in range(first, last + 1) if at % 60 % period == 0]


def _fire_times(found: Evidence, periods: dict[str, int]) -> list[Check]:
    checks = []
    for job, period in periods.items():
        served: Counter[int] = Counter()
        rows = [row for row in found.fires if row.job_id == job]
        for row in rows:
            last = row.fire_time if row.last is None else row.last
            served.update(_due(round(row.fire_time), round(last), period))
        first, last = (min(served), max(served)) if served else (0, -1)
        none = [at for at in _due(first, last, period) if at not in served]
        twice = [at for at, count in served.items() if count > 1]
        by_time: dict[float, set[str]] = defaultdict(set)
        for task, starts in found.starts.items():
            for start in starts:
                if start["job"] == job and start["fire"] is not None:
                    by_time[start["fire"]].add(task)
        double = [at for at, tasks in by_time.items() if len(tasks) > 1]
        ghosts = [row.task_id for row in rows if row.task_id is not None and row.task_id not in found.tasks]
        tasks = sum(row.task_id is not None for row in rows)
        words = f"{len(served)} fire times, {tasks} tasks; left out {len(none)}, served twice {len(twice)}, "
        words += f"two tasks {len(double)}, task missing {len(ghosts)}"
        checks.append(
            Check(
                f"{job}: each fire time is one task or one skip",
                words,
                bool(served) and not (none or twice or double or ghosts),
            )
        )
    return checks


def _recovery(found: Evidence) -> Check:
    starts, waits = found.first_starts, []
    for begun in found.restarts:
        first = next((at for at in starts if at >= begun), None)
        disturbed = any(begun < fault["begun"] < (first or begun) for fault in found.faults)
        if first is not None and not disturbed:
            waits.append(first - begun)
    worst = max(waits, default=0.0)
    words = f"{len(waits)} starts, longest {worst:.1f} s"
    return Check(f"from a start to the first task under {LEASE_S + 2:g} s", words, bool(waits) and worst < LEASE_S + 2)


def _counters(found: Evidence) -> Check:
    rows = Counter(row.status for row in found.tasks.values())
    wrong = {
        status: (found.counters[status], rows[status]) for status in FINAL if found.counters[status] != rows[status]
    }
    words = ", ".join(f"{status} {count}" for status, count in sorted(rows.items()))
    return Check(
        "the metrics count what the ledger holds", f"{words}{f'; not so: {wrong}' if wrong else ''}", not wrong
    )


def _growth(found: Evidence) -> list[Check]:
    samples = found.samples
    if len(samples) < 6:
        return [Check("memory and open files do not grow", "not measured", None)]
    third = len(samples) // 3
    early, late = samples[:third], samples[-third:]
    minutes = (_middle([one.at for one in late]) - _middle([one.at for one in early])) / 60
    mb = (_middle([one.memory_mb for one in late]) - _middle([one.memory_mb for one in early])) / minutes
    # The least of each: a worker that starts or dies right now has pipes on one side only.
    files = min(one.open_files for one in late) - min(one.open_files for one in early)
    workers = [one.workers for one in samples]
    stretch_s = samples[-1].at - samples[0].at
    long = stretch_s >= SHORT_STRETCH_S
    note = "" if long else f" (told, not judged: {stretch_s:.0f} s are too short)"
    return [
        Check("memory grows by less than 1 MB a minute", f"{mb:+.2f} MB a minute{note}", mb < 1.0 if long else None),
        Check(
            "open files do not grow",
            f"{files:+d} beside {min(workers)}–{max(workers)} workers{note}",
            files < 4 if long else None,
        ),
    ]


def _middle(values: list[float]) -> float:
    return float(sorted(values)[len(values) // 2])


def told(found: Evidence) -> str:
    """What was done to the scheduler, counted."""
    counted = Counter(fault["name"] for fault in found.faults)
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items())) or "nothing"


assert {"killer", "once"} <= KINDS.keys(), "the checks above name them"
