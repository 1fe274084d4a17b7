"""The commands that list: ``jobs`` and ``tasks``."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from atlas.cli.details import known_job, no_jobs, print_job, print_reasons
from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened
from atlas.cli.results import outcome_text
from atlas.cli.strips import EMPTY, HOURS, strips
from atlas.cli.tables import NAMES, Cell, Column, counted, print_json, print_table, say, state_cell
from atlas.scheduler.durations import format_duration
from atlas.scheduler.job_view import JobState, task_json
from atlas.scheduler.store.leases import scheduler_lease
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    import argparse

    from atlas.cli.times import LocalTimes
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.metrics import Metrics
    from atlas.scheduler.store.leases import Lease
    from atlas.scheduler.task import Task

MOST_RECENT: Final = 5_000
"""Tasks of a day beyond which the strip of the last 24 hours would be made of too few of them, and is left out."""


def jobs(args: argparse.Namespace) -> int:
    """Every job, or one in full."""
    with opened(args) as (client, settings):
        times = local_times(settings)
        if args.job is not None:
            print_job(client, args.job, times, to_json=args.json)
            return Exit.OK
        found = client.jobs()
        figures = {
            job.name: client.store.totals.metrics(job.name) for job in found
        }  # as the store read them at its opening
        counted_ids = [job.name for job in found if figures[job.name].total_tasks]  # retention may have left no task
        latest = {name: task for name in counted_ids for task in client.tasks(job=name, limit=1)}
        recent = client.tasks(since=times.now - timedelta(hours=HOURS), limit=MOST_RECENT + 1)
        lease, last = client.scheduler(), client.store.read(scheduler_lease)
    if args.json:
        print_json([_job_json(job, figures[job.name], latest.get(job.name)) for job in found])
        return Exit.OK
    if not found:
        say(no_jobs(settings))
        return Exit.OK
    with_strip = len(recent) <= MOST_RECENT
    strip = strips(recent, times.now) if with_strip else {}
    columns = (
        Column("JOB", shrinks=True, keeps=NAMES),
        Column("TITLE", shrinks=True),
        Column("SCHEDULE"),
        Column("NEXT", right=True),
        Column("IN", right=True),
        Column("LAST"),
        *([Column("LAST 24 H", yields=True)] if with_strip else []),
        Column("OK", right=True),
        Column("MEAN", right=True, yields=True),
    )
    rows = [_job_row(job, figures[job.name], latest.get(job.name), times) for job in found]
    if with_strip:
        rows = [(*row[:6], strip.get(job.name, EMPTY), *row[6:]) for job, row in zip(found, rows, strict=True)]
    print_table(columns, rows)
    print_reasons(found, times)
    print_config(lease)
    if lease is None:
        if last is not None and last.stopped_at is None and not last.ended:
            words = f"✗ The scheduler, {last.words}, is silent: nothing starts; 'atlas doctor' says what to do."
        else:
            words = "✗ No scheduler runs: nothing starts until one does ('atlas serve')."
        say(Cell(times.within(words), "bold red"))
    say(Cell(f"{_count_words(found, latest)} · {times.words}", "dim"))
    return Exit.OK


def print_config(lease: Lease | None) -> None:
    """What the running scheduler says of its config file, where something is to be said."""
    facts = {} if lease is None else lease.figures.get("config", {})
    if facts.get("error"):
        runs = "nothing runs" if facts.get("revision") is None else f"revision {facts['revision']} runs on"
        say(Cell(f"✗ The jobs file is refused; {runs}.", "bold red"))
        for line in str(facts["error"]).splitlines()[:5]:
            say(f"  {line}")
    elif facts.get("drift"):
        say(Cell(f"! {facts['drift']}", "yellow"))


def tasks(args: argparse.Namespace) -> int:
    """The newest tasks."""
    with opened(args) as (client, settings):
        times = local_times(settings)
        since = times.read(args.since, ahead=False) if args.since else None
        found = client.tasks(job=args.job, status=args.status, since=since, limit=args.limit + 1)
        if not found and args.job is not None:
            known_job(client, args.job)
    found, more = found[: args.limit], len(found) > args.limit
    if args.json:
        print_json([task_json(task) for task in found])
        return Exit.OK
    if not found:
        say("no such tasks" if args.job or args.status or since else "no tasks yet")
        return Exit.OK
    columns = [
        Column("TASK"),
        *([] if args.job else [Column("JOB", shrinks=True)]),
        Column("SCHEDULED", right=True),
        Column("RESULT"),
        Column("DURATION", right=True),
        Column("TRIES", right=True),
        Column("OUTCOME", shrinks=True),
    ]
    print_table(columns, [_task_row(task, times, with_job=not args.job) for task in found])
    counts = Counter(task.status.value.lower() for task in found)
    told = f"the newest {len(found):,} (--limit shows more)" if more else counted(len(found), "task")
    parts = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    say(Cell(f"{told}: {parts} · {times.words}", "dim"))
    return Exit.OK


# --- rows ------------------------------------------------------------------------------------------------------------


def _job_row(job: Job, figures: Metrics, last: Task | None, times: LocalTimes) -> tuple[str | Cell, ...]:
    if job.state is JobState.ACTIVE:
        upcoming: tuple[str | Cell, str | Cell] = (
            times.at(job.next_run_at),
            "" if job.next_run_at is None else times.ahead(job.next_run_at),
        )
    else:
        upcoming = (state_cell(job.state.value), "")
    mean_s = figures.average_duration_s
    return (
        Cell(job.name, "bold"),
        "" if job.title == job.name else job.title,
        times.schedule(job),
        *upcoming,
        Cell("–", "dim") if last is None else state_cell(last.status.value),
        _rate(figures),
        "–" if mean_s is None else format_duration(mean_s),
    )


def _rate(figures: Metrics) -> str:
    return "–" if not figures.tried_tasks else f"{figures.success_rate:.1f}%".replace("100.0%", "100%")


def _task_row(task: Task, times: LocalTimes, *, with_job: bool) -> tuple[str | Cell, ...]:
    if task.duration_s is not None:
        duration = format_duration(max(0.0, task.duration_s))
    elif task.status is TaskStatus.RUNNING and task.started_at is not None:
        duration = times.age(task.started_at)
    else:
        duration = ""
    return (
        task.id,
        *([task.job_id or task.name] if with_job else []),
        times.at(task.fire_time or task.created_at),
        state_cell(task.status.value),
        duration,
        str(task.attempt),
        outcome_text(task),
    )


def _count_words(found: list[Job], latest: dict[str, Task]) -> str:
    failing = sum(1 for task in latest.values() if task.status in {TaskStatus.FAILED, TaskStatus.TIMEOUT})
    running = sum(1 for task in latest.values() if task.status is TaskStatus.RUNNING)
    states = Counter(job.state.lower() for job in found if job.state is not JobState.ACTIVE)
    parts = [counted(len(found), "job")]
    parts += [
        f"{count} {word}" for word, count in (("failing", failing), ("running", running), *states.items()) if count
    ]
    return ", ".join(parts)


def _job_json(job: Job, figures: Metrics, last: Task | None) -> dict[str, Any]:
    return {**job.to_json(), **figures.to_json(), "last_task": None if last is None else task_json(last)}
