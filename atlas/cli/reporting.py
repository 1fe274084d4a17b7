"""The command ``report``: what happened on a day, as files or on stdout."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.builtin.report.write import report as write_report
from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened
from atlas.cli.tables import Cell, print_json, say

if TYPE_CHECKING:
    import argparse


def report(args: argparse.Namespace) -> int:
    """Write a day's report; ``--format`` prints it instead."""
    with opened(args) as (client, settings):
        result = write_report(
            store=client.store,
            clock=client.store.clock,
            zone=local_times(settings).zone,
            folder=settings.paths.reports,
            host=socket.gethostname(),
            day=args.day,
            language=args.lang,
            jobs=client.jobs(),
            slots=settings.scheduler.max_workers,
            collected=settings.collect.collected,
        )
    markdown, page = map(Path, result["files"])
    if args.format:
        print((markdown if args.format == "md" else page).read_text(encoding="utf-8"), end="")
    elif args.json:
        print_json(result)
    else:
        say(result["summary"])
        for file in (page, markdown):
            say(Cell(str(file), "dim"))
    return Exit.OK
