"""The commands about accepted versions of the jobs file: ``revisions`` and ``diff``."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atlas.cli.checking import functions_of
from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened
from atlas.cli.tables import Cell, Column, counted, print_json, print_table, say
from atlas.scheduler.errors import ArgumentsError, ConfigError, UnknownRevisionError
from atlas.scheduler.jobs_file.parsing import parse_jobs
from atlas.scheduler.jobs_file.text import read_jobs_text
from atlas.scheduler.reconcile.changes import changed_jobs
from atlas.scheduler.store.revisions import find_revisions, latest_revision, revision_numbered

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.definition import JobDefinition
    from atlas.settings import Settings


MANY: Final = 12
"""Digits that no revision's number has, and no database's."""


def revisions(args: argparse.Namespace) -> int:
    """The newest revisions."""
    with opened(args) as (client, settings):
        times = local_times(settings)
        found = client.store.read(lambda connection: find_revisions(connection, limit=args.limit + 1))
    found, more = found[: args.limit], len(found) > args.limit
    if args.json:
        print_json([one.to_json() for one in found])
        return Exit.OK
    if not found:
        say("no revision yet: the first is made when a scheduler takes the jobs file ('atlas serve')")
        return Exit.OK
    columns = (Column("REV", right=True), Column("WHEN", right=True), Column("WHO"), Column("WHAT", shrinks=True))
    print_table(columns, [(str(one.number), times.at(one.accepted_at), one.author, one.summary) for one in found])
    told = f"the newest {len(found):,} (--limit shows more)" if more else counted(len(found), "revision")
    say(Cell(f"{told}; {found[0].number} is in force · {times.words}", "dim"))
    return Exit.OK


def diff(args: argparse.Namespace) -> int:
    """What is different between two revisions: in words, then line by line."""
    with opened(args) as (client, settings):
        latest = client.store.read(latest_revision)
        newest = 0 if latest is None else latest.number
        first = args.a if args.a is not None else str(newest - 1)
        second = args.b if args.b is not None else (str(newest) if args.a is None or args.a != "file" else "file")
        texts = [_text(client, settings, which, newest) for which in (first, second)]
        jobs = [_jobs(text, f"revision {which}", settings) for text, which in zip(texts, (first, second), strict=True)]
    lines = list(
        difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), _name(first), _name(second), lineterm="")
    )
    words = [] if jobs[0] is None or jobs[1] is None else changed_jobs(jobs[0], jobs[1])
    if args.json:
        print_json(
            {
                "a": first,
                "b": second,
                "jobs": [{"id": job_id, "kind": kind, "words": told} for kind, job_id, told in words],
                "lines": lines,
            }
        )
        return Exit.OK
    for kind, job_id, told in words:
        say(Cell(kind, {"+": "green", "-": "red"}.get(kind, "yellow")), " ", Cell(job_id, "bold"), f"  {told}")
    for line in lines:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        say(Cell(line, style))
    if not lines:
        say(f"{_name(first)} and {_name(second)} are the same")
    return Exit.OK


def _name(which: str) -> str:
    return "the file" if which == "file" else f"revision {which}"


def _text(client: SyncAtlasClient, settings: Settings, which: str, newest: int) -> str:
    if which == "file":
        return read_jobs_text(settings.persistence.cron_config)
    if not (which.isascii() and which.lstrip("-").isdigit()):
        raise ArgumentsError(f"{which!r} is no revision: write its number, or 'file' for the file on disk")
    number = int(which)
    found = client.store.read(lambda connection: revision_numbered(connection, number)) if len(which) < MANY else None
    if found is None:
        raise UnknownRevisionError(number, newest=newest or None)
    return found.text


def _jobs(text: str, file: str, settings: Settings) -> Mapping[str, JobDefinition] | None:
    """The jobs of a text; None where it cannot be read any more, as a zone or rule may have changed since."""
    with functions_of(settings) as (atlas, _registry):
        try:
            return parse_jobs(text, file=Path(file), defaults=atlas.policy_defaults(), registry=None).definitions
        except ConfigError as error:
            print(f"atlas: {error.problems[0]}", file=sys.stderr)
            return None
