"""The command ``serve``: start the scheduler, say what it runs and where its files are, and how it ended."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atlas.cli.details import print_reasons
from atlas.cli.installation import local_times, settings_of
from atlas.cli.stdout import close_stdout
from atlas.cli.tables import NAMES, Cell, Column, print_facts, print_table, say, state_cell
from atlas.logs import configure_logging
from atlas.program import serve as run_service
from atlas.scheduler.client import AtlasClient
from atlas.scheduler.errors import StoreError
from atlas.scheduler.job_view import JobState
from atlas.settings import prepare_folders

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from atlas.cli.times import LocalTimes
    from atlas.scheduler.job_view import Job
    from atlas.service import AtlasScheduler
    from atlas.settings import Settings

SHOWN: Final = 30
"""Jobs the start shows; `atlas jobs` shows all."""


def serve(args: argparse.Namespace) -> int:
    """Run the scheduler until it is told to stop."""
    settings = settings_of(args)
    prepare_folders(settings)
    configure_logging(settings)
    pages = _Pages()
    code = run_service(
        settings,
        on_ready=lambda atlas: introduce(atlas, pages.words),
        on_note=lambda text: _note(local_times(settings).within(text)),
        beside=pages.beside,
    )
    _note(f"stopped; {_left(settings)}")
    return code


class _Pages:
    """The web server beside the scheduler, and what to say about it."""

    def __init__(self) -> None:
        self.words: list[tuple[str, str]] = []

    @contextmanager
    def beside(self, atlas: AtlasScheduler) -> Iterator[None]:
        """Serve the pages, unless they are off, not installed, or their port is taken; the scheduler runs anyway."""
        settings = atlas.settings.web
        if not settings.enabled:
            yield
            return
        try:
            from atlas.web.server import WebServer
        except ModuleNotFoundError as error:
            self.words = [("pages", f"none: {error.name} is missing; pip install 'atlas-scheduler[web]'")]
            yield
            return
        is_new = settings.token_file is not None and not settings.token_file.exists()
        server = WebServer(atlas)
        try:
            server.start()
        except OSError as error:
            place = f"{settings.host}:{settings.port}"
            self.words = [
                (
                    "pages",
                    (
                        f"none: {place} cannot be opened ({os.strerror(error.errno or 0)});"
                        " set another web.port, or stop what has it"
                    ),
                )
            ]
        else:
            self.words = [("pages", server.address)]
            if is_new:
                self.words += [("sign in", f"{server.sign_in_link()} (once, within 15 minutes)")]
            if settings.token_file is not None:
                self.words += [("token", str(settings.token_file))]
        try:
            yield
        finally:
            server.stop()


def introduce(atlas: AtlasScheduler, pages: list[tuple[str, str]]) -> None:
    """Print what runs, when each job is next, where the files are and how to stop it."""
    settings, times = atlas.settings, local_times(atlas.settings)
    jobs = atlas.get_jobs()
    columns = (
        Column("JOB", shrinks=True, keeps=NAMES),
        Column("TITLE", shrinks=True),
        Column("SCHEDULE"),
        Column("STATE"),
        Column("NEXT", right=True),
        Column("IN", right=True),
    )
    with _telling():
        say(Cell("Atlas Scheduler runs", "bold"), f": {len(jobs):,} jobs, {settings.scheduler.max_workers} workers")
        say()
        shown = sorted(jobs, key=_soonest)[:SHOWN]
        if shown:
            print_table(columns, [_job_row(job, times) for job in shown])
        print_reasons(shown, times)
        if len(shown) < len(jobs):
            say(Cell(f"and {len(jobs) - len(shown):,} more: 'atlas jobs'", "dim"))
        if (refused := atlas.config_error()) is not None:
            for line in ("The jobs file is refused; the last good revision runs on.", *refused.splitlines()):
                say(Cell(line, "bold red"))
        say(Cell(times.words, "dim"))
        say()
        print_facts(
            [
                *pages,
                *_places(settings),
                ("process", f"{os.getpid()}; kill -HUP {os.getpid()} reads the jobs file at once"),
            ]
        )
        say()
        say("Ctrl-C drains and stops it; a second one ends it at once.")


def _soonest(job: Job) -> tuple[bool, float, str]:
    """Sorts active jobs by when they are due, then the others by name."""
    due = job.next_run_at if job.state is JobState.ACTIVE else None
    return due is None, 0.0 if due is None else due.timestamp(), job.name


def _job_row(job: Job, times: LocalTimes) -> tuple[str | Cell, ...]:
    due = job.next_run_at if job.state is JobState.ACTIVE else None
    return (
        Cell(job.name, "bold"),
        "" if job.title == job.name else job.title,
        times.schedule(job),
        state_cell(job.state.value),
        times.at(due),
        "" if due is None else times.ahead(due),
    )


def _places(settings: Settings) -> list[tuple[str, str]]:
    """Where everything is."""
    persistence, logging = settings.persistence, settings.logging
    database = persistence.database
    return [
        ("settings", str(settings.file.absolute()) if settings.file else "built in (no config/config.yaml here)"),
        ("jobs", str(persistence.cron_config)),
        ("database", str(database) if isinstance(database, Path) else database.split("@")[-1]),
        ("log", str(logging.file or "none")),
    ]


def _left(settings: Settings) -> str:
    """What waits for the next start."""
    try:
        with AtlasClient(settings.persistence.database).sync as client:
            figures = client.metrics()
    except StoreError as error:
        return str(error)
    waiting, running = figures.pending_tasks, figures.running_tasks
    words = (
        f"{waiting:,} task{'s' * (waiting != 1)} wait{'s' * (waiting == 1)} for the next start"
        if waiting
        else "nothing waits"
    )
    return words + (f", {running:,} did not end and will run again" if running else "")


def _note(text: str) -> None:
    with _telling():
        say(text)


@contextmanager
def _telling() -> Iterator[None]:
    """Print at once, and go on when nobody reads any more: a scheduler does not end because `head` did."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        close_stdout()
