"""The commands that act, through the store: ``run``, ``submit``, ``cancel``, ``retry``, ``pause``, ``resume``."""

from __future__ import annotations

import getpass
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from atlas.cli.details import no_jobs
from atlas.cli.exits import Exit, NoSchedulerError
from atlas.cli.installation import local_times, opened
from atlas.cli.results import failure_text, print_result, print_verdict
from atlas.cli.tables import note, print_json, say
from atlas.cli.wait import wait_for
from atlas.scheduler.errors import ArgumentsError, UnknownJobError
from atlas.scheduler.job_view import task_json
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.tasks.submission import SubmitOptions

MOST_NAMES: Final = 10
"""Jobs that a line names."""


def run(args: argparse.Namespace) -> int:
    """Make a task of a job now."""
    _check_wait(args)
    with opened(args) as (client, settings):
        try:
            task_id = client.run_job(args.job, by=who())
        except UnknownJobError as error:
            if not client.jobs():
                error.add_note(no_jobs(settings))
            raise
        typical_s = client.metrics(args.job).average_duration_s
        return _accepted(client, task_id, args, label=args.job, typical_s=typical_s)


def submit(args: argparse.Namespace) -> int:
    """Put a task of a function into the queue."""
    _check_wait(args)
    options: SubmitOptions = {"kwargs": _keywords(args.kwargs), "by": who()}
    if args.priority is not None:
        options["priority"] = args.priority
    if args.timeout is not None:
        options["timeout"] = args.timeout
    if args.max_retries is not None:
        options["max_retries"] = args.max_retries
    with opened(args) as (client, _settings):
        task_id = client.submit(args.function, *map(_value, args.arguments), **options)
        return _accepted(client, task_id, args, label=args.function, typical_s=None)


def cancel(args: argparse.Namespace) -> int:
    """Cancel a task."""
    with opened(args) as (client, _settings):
        was = client.task(args.task).status
        if not client.cancel(args.task, by=who()):
            print(f"atlas: task {args.task} is {client.task(args.task).status.lower()} already", file=sys.stderr)
            return Exit.FAILED
        if client.scheduler() is None:
            note("no scheduler runs; the task is cancelled when one starts")
    say(f"{args.task}: asked to end" if was is TaskStatus.RUNNING else f"{args.task}: cancelled")
    return Exit.OK


def retry(args: argparse.Namespace) -> int:
    """Run a final task once more."""
    _check_wait(args)
    with opened(args) as (client, _settings):
        old = client.task(args.task)
        task_id = client.retry(args.task, by=who())
        return _accepted(client, task_id, args, label=old.job_id or old.name, typical_s=old.duration_s)


def pause(args: argparse.Namespace) -> int:
    """Pause jobs."""
    with opened(args) as (client, settings):
        times = local_times(settings)
        until = times.read(args.until, ahead=True) if args.until else None
        if args.length is not None:
            until = datetime.now(UTC) + timedelta(seconds=args.length)
        paused = client.pause_jobs(None if args.all else args.jobs, reason=args.reason, by=who(), until=until)
    end = (
        "until 'atlas resume'"
        if until is None
        else f"until {times.day(until)} {times.zone.key}, for {times.ahead(until)}"
    )
    say(f"{_jobs(paused)}: paused {end}" if paused else "every job that fires is paused already")
    return Exit.OK


def resume(args: argparse.Namespace) -> int:
    """End pauses."""
    with opened(args) as (client, _settings):
        resumed = client.resume_jobs(None if args.all else args.jobs, by=who())
    others = [job for job in dict.fromkeys(args.jobs) if job not in set(resumed)]
    if resumed:
        say(f"{_jobs(resumed)}: resumed")
    if others:
        say(f"{_jobs(others)}: {'was' if len(others) == 1 else 'were'} not paused")
    if not resumed and not others:
        say("no job is paused")
    return Exit.OK


def _jobs(names: Sequence[str]) -> str:
    """Their names, or their number where those would be too many for a line."""
    return ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names):,} jobs"


def _accepted(
    client: SyncAtlasClient, task_id: str, args: argparse.Namespace, *, label: str, typical_s: float | None
) -> int:
    """Tell of an accepted task, and wait for it where that was asked for."""
    served = client.scheduler() is not None
    if not args.wait or not served:
        if args.json:
            print_json({"id": task_id, "scheduler": served})
        else:
            print(task_id)
        if not served and args.wait:
            raise NoSchedulerError(
                "accepted, but no scheduler runs to wait for; the task waits for one ('atlas serve')"
            )
        if not served:
            note("no scheduler runs; the task waits for one ('atlas serve')")
        return Exit.OK
    try:
        task = wait_for(client, task_id, label=label, limit_s=args.wait_timeout, typical_s=typical_s)
    except KeyboardInterrupt:
        note(f"no longer waiting; task {task_id} goes on ('atlas cancel {task_id}' ends it)")
        return Exit.INTERRUPTED
    if args.json:
        print_json(task_json(task))
        return Exit.OK if task.status is TaskStatus.SUCCESS else Exit.FAILED
    print_verdict(task, label)
    if task.status is not TaskStatus.SUCCESS:
        note(failure_text(task))
        return Exit.FAILED
    print_result(task.value, verbose=args.verbose)
    return Exit.OK


def _check_wait(args: argparse.Namespace) -> None:
    if args.wait_timeout is not None and not args.wait:
        raise ArgumentsError("a limit for the wait needs --wait")


def _value(text: str) -> Any:
    """``text`` as JSON where it is JSON, else as it stands."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def _keywords(text: str | None) -> dict[str, Any]:
    """The keyword arguments in ``text``.

    Raises:
        ArgumentsError: It is no JSON object; the message says where.
    """
    if text is None:
        return {}
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ArgumentsError(
            f"--kwargs is not JSON: {error.msg} at line {error.lineno} column {error.colno}: {text!r:.80}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ArgumentsError(f"--kwargs is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ArgumentsError(f'--kwargs must be an object such as {{"limit": 5}}, not {text!r:.80}')
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def who() -> str:
    """Who acts, for the audit: ``cli:root``."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container whose user has no name
        return "cli"
