"""The commands that look at an edit of the jobs file and bring it into force: ``plan``, ``apply``, ``rollback``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atlas.cli.acting import who
from atlas.cli.checking import read_wanted, shown_file
from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened
from atlas.cli.tables import Cell, counted, print_json, say
from atlas.scheduler.definition_text import digest_of
from atlas.scheduler.errors import ConfigError, Problem, UnknownRevisionError
from atlas.scheduler.jobs_file.text import read_jobs_text
from atlas.scheduler.reconcile.preview import Preview, make_preview
from atlas.scheduler.reconcile.requests import ANSWER_S, await_answer, request, request_replace
from atlas.scheduler.store.audit import Action
from atlas.scheduler.store.revisions import latest_revision, revision_numbered

if TYPE_CHECKING:
    import argparse

    from atlas.cli.times import LocalTimes
    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.jobs_file.parsing import JobsFile
    from atlas.scheduler.reconcile.preview import JobPreview, Kind
    from atlas.settings import Settings

_SIGNS: Final = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}
KINDS: Final[tuple[Kind, ...]] = ("changed", "added", "removed")
MOST_NAMES: Final = 5
SHOWN: Final = 200
"""Jobs that are shown; ``--json`` has all of them."""


def plan(args: argparse.Namespace) -> int:
    """What an edit would change; nothing is applied."""
    with opened(args) as (client, settings):
        configured = settings.persistence.cron_config
        file = Path(args.file) if args.file else shown_file(configured)
        wanted, advised = read_wanted(read_jobs_text(file, or_pipe=bool(args.file)), file, settings)
        preview = preview_of(client, wanted, file, settings)
        runs = client.scheduler() is not None
        times = local_times(settings)
    if args.json:
        print_json({"file": str(file), **preview.to_json(), "advice": [str(one) for one in advised]})
        return Exit.OK
    against = "nothing yet" if preview.revision is None else f"revision {preview.revision}"
    say(Cell(f"{file} against {against}{', which runs' if runs and preview.revision else ''}", "bold"))
    print_preview(preview, times)
    for problem in advised:
        say(Cell("! ", "yellow"), str(problem))
    file_words = f" {file}" if args.file else ""
    say(Cell(_sum(preview) + (f". 'atlas apply{file_words}' to apply." if preview.is_new_text else "."), "dim"))
    return Exit.OK


def apply(args: argparse.Namespace) -> int:
    """Bring a file into force; by default the configured one, else it takes its place."""
    with opened(args) as (client, settings):
        configured = settings.persistence.cron_config
        file = Path(args.file) if args.file else shown_file(configured)
        return bring(client, settings, read_jobs_text(file, or_pipe=bool(args.file)), file)


def rollback(args: argparse.Namespace) -> int:
    """Bring an earlier revision back."""
    with opened(args) as (client, settings):
        found = client.store.read(lambda connection: revision_numbered(connection, args.revision))
        if found is None:
            latest = client.store.read(latest_revision)
            raise UnknownRevisionError(args.revision, newest=None if latest is None else latest.number)
        detail = f"back to revision {found.number}"
        return bring(
            client, settings, found.text, Path(f"revision {found.number}"), action=Action.ROLLBACK, detail=detail
        )


def bring(
    client: SyncAtlasClient,
    settings: Settings,
    text: str,
    file: Path,
    *,
    action: Action = Action.APPLY,
    detail: str = "",
) -> int:
    """Check ``text``, say what it changes, put it in the file's place and wait until the scheduler has it."""
    wanted, _advised = read_wanted(text, file, settings)
    preview = preview_of(client, wanted, file, settings)
    configured = settings.persistence.cron_config
    try:
        on_disk: str | None = read_jobs_text(configured)
    except ConfigError:
        on_disk = None
    if not preview.is_new_text and on_disk is not None and digest_of(on_disk) == wanted.digest:
        say(f"revision {preview.revision} has this text already; nothing to do")
        return Exit.OK
    if file.resolve() != configured.resolve():
        print_preview(preview, local_times(settings))
        asked = request_replace(client.store, configured, wanted.text, by=who(), action=action, detail=detail)
    elif on_disk is not None and digest_of(on_disk) == wanted.digest:
        print_preview(preview, local_times(settings))
        asked = request(client.store, wanted.text, by=who(), action=action, detail=detail)
    else:  # what an editor saved meanwhile is not written over
        raise ConfigError([Problem(file=file, path="", message="changed while it was looked at; apply it again")])
    if client.scheduler() is None:
        say(f"{_sum(preview)}. No scheduler runs: it counts when one starts ('atlas serve').")
        return Exit.OK
    answered = await_answer(client.store, asked)
    if answered is None:
        message = f"the scheduler did not answer within {ANSWER_S:g} s; 'atlas revisions' shows what runs"
        print(f"atlas: {message}", file=sys.stderr)
        return Exit.TIMED_OUT
    if answered.revision is None:
        print(f"atlas: not applied: {answered.error}", file=sys.stderr)
        return Exit.FAILED
    say(f"{_sum(preview)}. Revision {answered.revision} is in force.")
    return Exit.OK


# --- shared ----------------------------------------------------------------------------------------------------------


def preview_of(client: SyncAtlasClient, wanted: JobsFile, file: Path, settings: Settings) -> Preview:
    """What the file would do to the jobs in the store."""
    scheduler, now = settings.scheduler, client.store.clock.now()
    return client.store.read(
        lambda connection: make_preview(
            connection, wanted, file=file, now=now, slots=scheduler.max_workers, limits=scheduler.limits
        )
    )


def print_preview(preview: Preview, times: LocalTimes) -> None:
    """A line per job, then what stays paused and what collides anew."""
    width = max((len(job.id) for job in preview.jobs[:SHOWN]), default=0)
    for job in preview.jobs[:SHOWN]:
        sign, style = _SIGNS[job.kind]
        say(Cell(sign, style), " ", Cell(job.id.ljust(width), "bold"), "  ", _words(job, times))
        if job.will_not_run is not None:
            say(" " * (width + 4), Cell(f"✗ {job.will_not_run}", "bold red"))
        for task_id, status in job.unfinished[:3]:
            say(" " * (width + 4), Cell(f"task {task_id} is {status.lower()} and goes on as it is", "dim"))
    if len(preview.jobs) > SHOWN:
        say(Cell(f"and {len(preview.jobs) - SHOWN:,} more; --json has them all", "dim"))
    for job_id, pause in list(preview.paused.items())[:10]:
        until = "" if pause.until is None else f" until {times.at(pause.until)}"
        reason = f": {pause.reason}" if pause.reason else ""
        say(Cell("‖ ", "yellow"), f"{job_id} stays paused by {pause.by or 'somebody'}{until}{reason}")
    for herd in preview.collisions:
        say(
            Cell("! ", "yellow"),
            f"{len(herd.job_ids)} jobs start together at {times.at(herd.at)}, {preview.after.slots} run at once: ",
            ", ".join(herd.job_ids[:5]) + (" …" if len(herd.job_ids) > 5 else ""),
        )


def _words(job: JobPreview, times: LocalTimes) -> str:
    parts = [", ".join(one.en for one in job.differences)] if job.kind == "changed" else [job.words["en"]]
    if job.kind == "removed":
        parts.append("its history stays")
    elif job.next_after != job.next_before:
        parts.append("never again" if job.next_after is None else f"next {times.day(job.next_after)}")
    if job.a_day_before != job.a_day_after and job.kind == "changed":
        parts.append(f"{job.a_day_before:,} → {job.a_day_after:,} a day")
    return "   ".join(parts)


def _sum(preview: Preview) -> str:
    before, after = preview.before, preview.after
    if not preview:
        return "No job changes" if preview.is_new_text else "Nothing changes"
    told = (
        f"{preview.count('changed'):,} changed, {preview.count('added'):,} added, {preview.count('removed'):,} removed"
    )
    lost = [job.id for job in preview.jobs if job.will_not_run is not None]
    if lost:
        told = f"{', '.join(lost[:MOST_NAMES])}{' …' if len(lost) > MOST_NAMES else ''} will not run. {told}"
    return (
        f"{told}, {preview.unchanged:,} unchanged. Tasks a day {before.tasks:,} → {after.tasks:,},"
        f" peak {before.peak} → {after.peak} ({counted(after.slots, 'worker')})"
    )
