"""The job `health`: is everything as it should be, and if not, what to do.

Each check gives one line: its name, ``ok``, ``degraded`` or ``failing``, what was found, and the remedy. The worst one
is the answer. ``failing`` means that work does not get done, ``degraded`` that it soon may not.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from sqlalchemy import delete, func, insert, select

from atlas.scheduler.errors import StoreError, StoreUnavailableError
from atlas.scheduler.job_view import JobState
from atlas.scheduler.lease_facts import silent_s, tick_age_s
from atlas.scheduler.store.leases import LEASE_S, RENEW_S
from atlas.scheduler.store.tables import sources, tasks
from atlas.scheduler.task import TaskPriority, TaskStatus
from atlas.scheduler.told import Told, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.loop_watch import Trouble
    from atlas.scheduler.store.leases import Lease
    from atlas.scheduler.store.store import Store

Status = Literal["ok", "degraded", "failing"]
RANK: Final[tuple[Status, ...]] = ("ok", "degraded", "failing")

SLOW_STORE_S: Final = 1.0
SLACK_S: Final = 3.0
"""How late a sign of life may come on a busy machine before it is told."""
STORE_REMEDIES: Final = (
    ("full", Told("free space on its disk; work goes on by itself")),
    ("No space", Told("free space on its disk; work goes on by itself")),
    ("read-only", Told("make the database writable again; work goes on by itself")),
    ("readonly", Told("make the database writable again; work goes on by itself")),
    ("locked", Told("find the process that has it open, and end that one")),
    ("lock timeout", Told("find the session that has locked a table (pg_stat_activity), and end that one")),
    ("deleted", Told("stop this process, or move the old file back")),
    ("connect", Told("start the database server, or see why it is not reached; work goes on by itself")),
)
"""What to do, by what the database says."""
STORE_REMEDY: Final = Told("see the log, and whether the database's disk and server are well; work goes on by itself")
TICK_LATE_S: Final = 60.0
"""The clock looks for due jobs at least every 30 s, and a pass may wait for the store a little."""
TICK_DEAD_S: Final = 180.0
LOSS_S: Final = 7 * 86_400.0
"""How long a database that was lost and made anew is told."""
TROUBLE_S: Final = 3600.0
"""How long a restart of the loop, a step of the clock or a sleep is told."""
LONG_WAIT_S: Final[Mapping[TaskPriority, float]] = {
    TaskPriority.URGENT: 60.0,
    TaskPriority.HIGH: 300.0,
    TaskPriority.NORMAL: 900.0,
    TaskPriority.LOW: 3600.0,
}
FULL_S: Final = 60.0
"""How long a task may wait for an executor that is full while slots are free elsewhere."""
LOW_DISK: Final = (1_000_000_000, 100_000_000)
"""Free bytes below which the disk is degraded, and failing."""
LOW_MEMORY: Final = (0.10, 0.03)
"""Share of the machine's memory that is available below which it is degraded, and failing."""
FAILING_AFTER: Final = 3
"""Tasks in a row that did not succeed before a job counts as failing."""
LATE_JOB_S: Final = 300.0
LOOK_BACK_S: Final = 86_400.0


class HealthSource(Protocol):
    """What the running scheduler says of itself."""

    def get_queue_status(self) -> Mapping[str, Any]:
        """See `TaskQueue.get_queue_status`."""

    def last_tick_s(self) -> float | None:
        """Seconds since the clock last looked for due jobs; None where no clock runs."""

    def troubles(self) -> Sequence[Trouble]:
        """What befell the clock lately: restarts of its loop, steps of the wall clock, sleep."""

    def config_error(self) -> str | None:
        """Why the config file is refused now; None while it is in force."""

    def config_drift(self) -> str | None:
        """With ``reload: manual``, in words that the file differs from what is in force; None while it does not."""

    def each_job(self) -> Iterable[Job]:
        """Every job as it stands, one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one look found.

    Attributes:
        name: What was looked at.
        status: How it is.
        detail: What was found, in words.
        remedy: What to do, "" while nothing is to be done.
    """

    name: str
    status: Status = "ok"
    detail: str
    remedy: str = ""


def health(
    *,
    store: Store,
    source: HealthSource,
    clock: Clock,
    folder: Path,
    collected: Collection[str] = (),
    more: Mapping[str, Callable[[], Check]] | None = None,
) -> dict[str, Any]:
    """Look at everything once; returns ``status`` and ``checks``, each with name, status, detail and remedy.

    Args:
        store: The database.
        source: The running scheduler.
        clock: Time.
        folder: Where its files are; the disk that counts is the one below it.
        collected: Names of the sources that are collected.
        more: Further checks by name; one of a known name takes its place.
    """
    looks: dict[str, Callable[[], Check]] = {
        "store": lambda: store_check(store, clock),
        "scheduler": lambda: scheduler_check(source, clock),
        "config": lambda: _config(source),
        "queue": lambda: _queue(source),
        "threads": lambda: _threads(source),
        "jobs": lambda: _jobs(store, source, clock),
        "sources": lambda: _sources(store, collected),
        "disk": lambda: _disk(folder),
        "memory": _memory,
        **(more or {}),
    }
    checks = [_guarded(name, look) for name, look in looks.items()]
    worst = max(checks, key=lambda check: RANK.index(check.status)).status
    return {"status": worst, "checks": [asdict(check) for check in checks]}


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - a check that cannot look must not hide what the others see
        remedy = (
            Told("see the log; the other checks are valid")
            if not isinstance(error, StoreError)
            else Told("see the check store")
        )
        return Check(name=name, status="failing", detail=f"{type(error).__name__}: {error}", remedy=remedy)


def store_check(store: Store, clock: Clock) -> Check:
    """Whether the database reads and takes a commit, and if not, what it says and who is in the way."""
    fault = store.writer.fault
    if fault is not None:
        store.writer.work(_write_and_undo, store.ticket(), tells=False)  # nobody else may try; the next look knows
        return _store_fault(store, fault)
    try:
        return _tried(store, clock)
    except StoreUnavailableError as error:
        return _store_fault(store, str(error))


def _store_fault(store: Store, fault: str) -> Check:
    holder = store.lock_holder()
    since_s = store.writer.failing_s
    parts: list[str] = [
        Told("takes no commit since {s} s: {fault}", s=f"{since_s:.0f}", fault=fault)
        if since_s
        else Told("takes no commit: {fault}", fault=fault)
    ]
    if holder is not None:
        parts.append(holder.words)
    remedy: str = next((remedy for words, remedy in STORE_REMEDIES if words in fault), STORE_REMEDY)
    if holder is not None:
        remedy = holder.remedy
    return Check(name="store", status="failing", detail=joined("; ", parts), remedy=remedy)


def _tried(store: Store, clock: Clock) -> Check:
    start_s = clock.monotonic()
    store.read(lambda connection: connection.execute(select(tasks.c.id).limit(1)).first())
    read_s = clock.monotonic()
    store.write(_write_and_undo)
    write_s = clock.monotonic()
    lost = [loss for loss in store.losses if (clock.now() - loss.at).total_seconds() <= LOSS_S]
    if lost:
        return Check(
            name="store",
            status="degraded",
            detail=f"{lost[-1].at.isoformat(timespec='seconds')} {lost[-1].words}",
            remedy=Told("find out who touches the file; to go back to a backup, stop the scheduler first"),
        )
    took = [f"{(end_s - begin_s) * 1000:.1f}" for begin_s, end_s in ((start_s, read_s), (read_s, write_s))]
    detail = Told("read {read} ms, write {write} ms", read=took[0], write=took[1])
    if write_s - start_s > SLOW_STORE_S:
        remedy = Told("look for another process that locks the database, and at the load of its disk")
        return Check(name="store", status="degraded", detail=Told("slow: {detail}", detail=detail), remedy=remedy)
    return Check(name="store", detail=detail)


def _write_and_undo(connection: Connection) -> None:
    # Rows that really reach the disk, and none that stays.
    name = " health"
    connection.execute(delete(sources).where(sources.c.name == name))
    connection.execute(insert(sources).values(name=name, address="", failures=0))
    connection.execute(delete(sources).where(sources.c.name == name))


def leader_check(lease: Lease, clock: Clock, source: HealthSource | None = None) -> Check:
    """Another process leads: whether it lives and its clock runs, and with ``source`` what befell it lately."""
    now = clock.now()
    tick_s, quiet_s = tick_age_s(lease, now), silent_s(lease, now)
    tick = Told("its clock does not run") if tick_s is None else Told("last tick {s} s ago", s=f"{tick_s:.1f}")
    if quiet_s > RENEW_S + SLACK_S:
        return Check(
            name="scheduler",
            status="degraded",
            detail=Told(
                "the leader, {who}, has been silent for {s} s; {tick}", who=lease.words, s=f"{quiet_s:.0f}", tick=tick
            ),
            remedy=Told(
                "after {s} s a process that stands by takes over; end a frozen one: kill -9 on its host",
                s=f"{LEASE_S:g}",
            ),
        )
    detail = Told("the leader is {who}, {tick}", who=lease.words, tick=tick)
    if tick_s is not None and tick_s > TICK_LATE_S:
        status: Status = "failing" if tick_s > TICK_DEAD_S else "degraded"
        remedy = Told("look at the store; if that is well, restart the leader")
        return Check(name="scheduler", status=status, detail=detail, remedy=remedy)
    return Check(name="scheduler", detail=detail) if source is None else _lately(source, clock, detail)


def standby_check(lease: Lease | None, source: HealthSource, clock: Clock) -> Check:
    """This process stands by; ``lease`` is that of the leader, living or not."""
    if lease is None or lease.stopped_at is not None or lease.ended:
        detail = Told("stands by; nobody leads: this process is about to")
        return Check(name="scheduler", status="degraded", detail=detail)
    found = leader_check(lease, clock, source)
    return replace(found, detail=Told("stands by; {what}", what=found.detail))


def scheduler_check(source: HealthSource, clock: Clock) -> Check:
    """Whether the loop looks for due jobs, and what befell it lately."""
    age_s = source.last_tick_s()
    if age_s is None:
        return Check(name="scheduler", detail=Told("no clock runs in this process; jobs fire elsewhere or not at all"))
    detail = Told("last looked for due jobs {s} s ago", s=f"{age_s:.1f}")
    if age_s <= TICK_LATE_S:
        return _lately(source, clock, detail)
    status: Status = "failing" if age_s > TICK_DEAD_S else "degraded"
    return Check(
        name="scheduler", status=status, detail=detail, remedy=Told("look at the store; if that is well, restart")
    )


def _lately(source: HealthSource, clock: Clock, detail: Told) -> Check:
    """The loop looks for due jobs; what befell it in the last hour is worth a look all the same."""
    now = clock.now()
    told = [trouble for trouble in source.troubles() if (now - trouble.at).total_seconds() <= TROUBLE_S]
    if not told:
        return Check(name="scheduler", detail=detail)
    words = joined(
        "; ",
        [Told("{at} {what}", at=one.at.isoformat(timespec="seconds"), what=one.words) for one in told[-5:]],
    )
    return Check(
        name="scheduler",
        status="degraded",
        detail=Told("{detail}; in the last hour: {what}", detail=detail, what=words),
        remedy=Told("a clock that steps needs NTP; a loop that was restarted left its reason in the log"),
    )


def _config(source: HealthSource) -> Check:
    error, drift = source.config_error(), source.config_drift()
    if error is None and drift is not None:
        return Check(
            name="config", status="degraded", detail=drift, remedy=Told("'atlas plan' shows what would change")
        )
    if error is None:
        return Check(name="config", detail=Told("the jobs file is in force"))
    return Check(
        name="config",
        status="degraded",
        detail=Told(
            "refused, the last good revision runs on: {error}", error=error if len(error) <= 1000 else error[:1000]
        ),
        remedy=Told("correct the file; 'atlas check' shows the place"),
    )


def _queue(source: HealthSource) -> Check:
    figures = source.get_queue_status()
    if figures.get("state") == "stopped":
        return Check(
            name="queue", status="failing", detail=Told("it is not started"), remedy=Told("start the scheduler")
        )
    waits = {TaskPriority[name]: wait_s for name, wait_s in figures.get("oldest_wait_s", {}).items()}
    depths = {TaskPriority[name]: depth for name, depth in figures.get("by_priority", {}).items() if depth}
    told: list[str] = [
        Told(
            "{priority} {n}, oldest {s} s",
            priority=priority.name,
            n=f"{depths.get(priority, 0):,}",
            s=f"{waits[priority]:.0f}",
        )
        for priority in sorted(waits)
    ]
    counts = {
        "waiting": f"{figures['queue_size']:,}",
        "running": figures["running_tasks"],
        "slots": figures["max_workers"],
    }
    detail: str = (
        Told("{waiting} waiting, {running} of {slots} running ({each})", each=joined("; ", told), **counts)
        if told
        else Told("{waiting} waiting, {running} of {slots} running", **counts)
    )
    full: Mapping[str, Mapping[str, Any]] = figures.get("full_executors") or {}
    if full:
        detail = joined("; ", [detail, *(full_words(executor, facts) for executor, facts in full.items())])
    if figures.get("store_fault"):
        return Check(
            name="queue",
            status="failing",
            detail=Told("{detail}; no work starts: {fault}", detail=detail, fault=figures["store_fault"]),
            remedy=Told("see the check store"),
        )
    late = [priority.name for priority, wait_s in sorted(waits.items()) if wait_s > LONG_WAIT_S[priority]]
    if late:
        remedy = Told("raise scheduler.max_workers, or find what holds the slots: 'atlas tasks'")
        return Check(
            name="queue",
            status="degraded",
            detail=Told("{which} wait too long: {detail}", which=", ".join(late), detail=detail),
            remedy=remedy,
        )
    if any(facts["oldest_wait_s"] > FULL_S for facts in full.values()):
        remedy = Told("raise scheduler.executor_limits, or find what holds the slots: 'atlas tasks'")
        return Check(name="queue", status="degraded", detail=detail, remedy=remedy)
    return Check(name="queue", detail=detail)


def full_words(executor: str, facts: Mapping[str, Any]) -> str:
    """An executor whose own limit keeps tasks waiting, as `get_queue_status` tells of it, in words."""
    return Told(
        "executor {executor} is full ({limit}): {n} wait, the oldest {s} s, for {names}",
        executor=executor,
        limit=facts["limit"],
        n=f"{facts['waiting']:,}",
        s=f"{facts['oldest_wait_s']:.0f}",
        names=", ".join(facts["held_by"]) or "?",
    )


def _threads(source: HealthSource) -> Check:
    figures = source.get_queue_status()
    abandoned, slots = int(figures.get("abandoned_threads", 0)), int(figures["max_workers"])
    if not abandoned:
        return Check(name="threads", detail=Told("no abandoned threads"))
    return Check(
        name="threads",
        status="failing" if abandoned >= slots else "degraded",
        detail=Told(
            "{n} threads were abandoned by timeouts and cancels and still run; at {slots} none is replaced",
            n=abandoned,
            slots=slots,
        ),
        remedy=Told(
            'call current_task().check() in those functions, or give their jobs "executor": "process"; then restart'
        ),
    )


def _jobs(store: Store, source: HealthSource, clock: Clock) -> Check:
    now = clock.now()
    since_s = now.timestamp() - LOOK_BACK_S
    failing = set(store.read(lambda connection: failing_jobs(connection, since_s)))
    stuck, late, bad, paused = list[str](), list[str](), list[str](), list[str]()
    total = active = 0
    apart = False
    for job in source.each_job():
        total += 1
        active += job.enabled
        apart = apart or (job.state is JobState.PARKED and job.source is not None)
        if (what := _broken(job)) is not None:
            stuck.append(Told("{job} ({what}: {why})", job=job.name, what=what, why=job.detail))
        if (
            job.enabled
            and job.next_run_at is not None
            and (late_s := (now - job.next_run_at).total_seconds()) > LATE_JOB_S
        ):
            late.append(Told("{job} (due {s} s ago)", job=job.name, s=f"{late_s:.0f}"))
        if job.name in failing:
            bad.append(Told("{job} (its last {n} tasks did not succeed)", job=job.name, n=FAILING_AFTER))
        if job.state is JobState.PAUSED:
            paused.append(Told("{job} ({why})", job=job.name, why=job.detail))
    words: list[str] = [
        Told(pattern, n=len(found), which=_some(found))
        for pattern, found in (
            ("{n} cannot run: {which}", stuck),
            ("{n} late: {which}", late),
            ("{n} failing: {which}", bad),
        )
        if found
    ]
    if paused:
        words.append(Told("{n} paused: {which}", n=len(paused), which=_some(paused)))
    if not (stuck or late or bad):  # a pause is somebody's wish
        counts = Told("{n} jobs, {active} active", n=total, active=active)
        return Check(name="jobs", detail=joined("; ", [counts, *words]))
    return Check(
        name="jobs",
        status="failing" if late else "degraded",
        detail=joined("; ", words),
        remedy=joined("; ", [_APART, _REMEDY] if apart else [_REMEDY]),
    )


_REMEDY: Final = Told(
    "'atlas tasks JOB' shows the errors; a missing function must be registered or its module allow-listed"
)
_APART: Final = Told(
    "edit a job that cannot be served, or resume it ('atlas resume JOB'): it is tried at once,"
    " and by itself every ten minutes at least"
)


def _broken(job: Job) -> str | None:
    """What keeps a job from being served, in short."""
    match job.state:
        case JobState.UNBOUND:
            return Told("function missing")
        case JobState.PARKED:
            return Told("row cannot be read" if job.source is None else "cannot be served")
        case _:
            return None


def _some(found: list[str]) -> str:
    """The first five."""
    return joined(", ", [*found[:5], "…"] if len(found) > 5 else found)


def failing_jobs(connection: Connection, since_s: float) -> list[str]:
    """Jobs with a failure since ``since_s`` whose newest `FAILING_AFTER` ended tasks all failed or timed out."""
    bad = (TaskStatus.FAILED.value, TaskStatus.TIMEOUT.value)
    suspects = (
        select(tasks.c.job_id)
        .where(tasks.c.status.in_(bad), tasks.c.created_at >= since_s, tasks.c.job_id.is_not(None))
        .distinct()
        .subquery()
    )
    newest = (
        select(tasks.c.status)
        .where(tasks.c.job_id == suspects.c.job_id, tasks.c.status.in_((TaskStatus.SUCCESS.value, *bad)))
        .order_by(tasks.c.created_at.desc())
        .limit(FAILING_AFTER)
        .correlate(suspects)
        .subquery()
    )
    # One statement: with a thousand suspects a thousand of them took two seconds.
    failures = select(func.count()).select_from(newest).where(newest.c.status.in_(bad)).scalar_subquery()
    statement = select(suspects.c.job_id).where(failures == FAILING_AFTER).order_by(suspects.c.job_id)
    return list(connection.execute(statement).scalars())


def _sources(store: Store, collected: Collection[str]) -> Check:
    statement = (
        select(sources.c.name, sources.c.failures, sources.c.last_error)
        .where(sources.c.failures >= FAILING_AFTER, sources.c.name.in_(list(collected)))
        .order_by(sources.c.failures.desc(), sources.c.name)
    )
    rows = store.read(lambda connection: connection.execute(statement).all())
    if not rows:
        return Check(name="sources", detail=Told("no source keeps failing"))
    told = "; ".join(f"{row.name} ({row.failures} times: {row.last_error})" for row in rows[:5])
    return Check(
        name="sources",
        status="degraded",
        detail=Told("{n} keep failing: {which}", n=len(rows), which=told + (" …" if len(rows) > 5 else "")),
        remedy=Told("correct their addresses under collect.sources, or set enabled: false"),
    )


def _disk(folder: Path) -> Check:
    usage = shutil.disk_usage(folder)
    used = 100 - 100 * usage.free / usage.total
    detail = Told(
        "{free} GB free of {total} GB ({used} % used)",
        free=f"{usage.free / 1e9:.1f}",
        total=f"{usage.total / 1e9:.1f}",
        used=f"{used:.0f}",
    )
    remedy = Told("free space below the data folder, or shorten keep_days")
    return _by_limit("disk", usage.free, LOW_DISK, detail, remedy)


def _memory() -> Check:
    resident = _kilobytes(Path("/proc/self/status"), "VmRSS")
    total, free = (_kilobytes(Path("/proc/meminfo"), name) for name in ("MemTotal", "MemAvailable"))
    if resident is None or not total or free is None:
        return Check(name="memory", detail=Told("not known on this system"))
    detail = Told(
        "this process {mine} MB; {free} GB of {total} GB available",
        mine=f"{resident / 1e3:.0f}",
        free=f"{free / 1e6:.1f}",
        total=f"{total / 1e6:.1f}",
    )
    remedy = Told("lower scheduler.max_workers, or look for what else runs here")
    return _by_limit("memory", free / total, LOW_MEMORY, detail, remedy)


def _by_limit(name: str, value: float, limits: tuple[float, float], detail: str, remedy: str) -> Check:
    if value >= limits[0]:
        return Check(name=name, detail=detail)
    return Check(name=name, status="failing" if value < limits[1] else "degraded", detail=detail, remedy=remedy)


def _kilobytes(file: Path, name: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
