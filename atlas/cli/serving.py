"""The command ``serve``: start the scheduler, say what it runs and where its files are, and how it ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.cli.installation import local_times, settings_of
from atlas.cli.tables import Cell, Column, print_facts, print_table, say, state_cell
from atlas.logs import configure_logging
from atlas.service import serve as run_service
from atlas.settings import prepare_folders

if TYPE_CHECKING:
    import argparse

    from atlas.scheduler.job_view import Job
    from atlas.service import AtlasScheduler
    from atlas.settings import Settings


def serve(args: argparse.Namespace) -> int:
    """Run the scheduler until it is told to stop."""
    settings = settings_of(args)
    prepare_folders(settings)
    configure_logging(settings)
    code = run_service(settings, on_ready=_introduce, on_note=_note)
    _note("stopped")
    return code


def _introduce(atlas: AtlasScheduler) -> None:
    """What runs, when next, where the files are, and how to stop it."""
    settings, times = atlas.settings, local_times(atlas.settings)
    say(Cell("Atlas Scheduler", "bold"), f", process {os.getpid()}, {settings.scheduler.max_workers} workers, {times.words}")
    say()
    columns = (Column("JOB"), Column("TITLE", shrinks=True), Column("SCHEDULE", shrinks=True), Column("STATE"), Column("NEXT", right=True), Column("IN", right=True))
