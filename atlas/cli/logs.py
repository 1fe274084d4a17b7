"""The command ``logs``: what a task logged, and with ``-f`` what it logs while it runs."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Final

from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened
from atlas.cli.tables import Cell, print_json, say
from atlas.scheduler.log_lines import one_line

if TYPE_CHECKING:
    import argparse
    from datetime import date

    from atlas.cli.times import LocalTimes
    from atlas.scheduler.store.task_logs import LogLine

LOOK_S: Final = 0.5
"""How often a task that runs is looked at for new lines."""
PAGE: Final = 1000
STYLES: Final = {
    "TRACE": "dim",
    "DEBUG": "dim",
    "NOTE": "dim italic",
    "SUCCESS": "green",
    "WARNING": "yellow",
    "ERROR": "bold red",
    "CRITICAL": "bold red",
}


def logs(args: argparse.Namespace) -> int:
    """The lines of a task, oldest first; with ``--follow`` until it has ended."""
    with opened(args) as (client, settings):
        times = local_times(settings)
        task, after, shown = client.task(args.task), 0, False
        printer = _Printer(times, as_json=args.json and args.follow)
        kept: list[LogLine] = []
        while True:
            final = client.task(args.task).status.is_final  # first: what it logged before its end is there then
            lines = client.logs(task.id, after_id=after, limit=PAGE)
            after = lines[-1].id if lines else after
            shown = shown or bool(lines)
            if args.json and not args.follow:
                kept += lines
            else:
                printer.show(lines)
            if len(lines) == PAGE:
                continue
            if final or not args.follow:
                break
            sys.stdout.flush()
            time.sleep(LOOK_S)
    if args.json and not args.follow:
        print_json([line.to_json() for line in kept])
    elif not shown:
        print(f"atlas: task {task.id} logged nothing{'' if final else ' yet'}", file=sys.stderr)
    return Exit.OK


class _Printer:
    """Prints lines: a heading for each day and each further attempt, then time, level and text."""

    def __init__(self, times: LocalTimes, *, as_json: bool) -> None:
        self._times, self._as_json = times, as_json
        self._day: date | None = None
        self._attempt = 1

    def show(self, lines: list[LogLine]) -> None:
        for line in lines:
            if self._as_json:
                print(json.dumps(line.to_json(), ensure_ascii=False))
            else:
                self._show(line)

    def _show(self, line: LogLine) -> None:
        at = line.at.astimezone(self._times.zone)
        if line.attempt != self._attempt:
            self._attempt = line.attempt
            say(Cell(f"— attempt {line.attempt} —", "dim"))
        if at.date() != self._day:
            self._day = at.date()
            say(Cell(f"— {at:%A %d %B %Y} —", "dim"))
        first, *others = line.message.split("\n")
        style = STYLES.get(line.level, "")
        say(
            Cell(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}", "dim"),
            f" {line.level:<8} ",
            Cell(one_line(first), style),
        )
        for other in others:
            say(Cell(f"{'':22}{one_line(other)}", style))
