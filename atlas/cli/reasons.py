"""The command ``why``: why a job ran, did not run, ran late or again."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened
from atlas.cli.tables import print_json, say
from atlas.scheduler.errors import UnknownJobError
from atlas.scheduler.nearest import nearest
from atlas.scheduler.why.answer import why as reason_of

if TYPE_CHECKING:
    import argparse


def why(args: argparse.Namespace) -> int:
    """One paragraph of plain words."""
    with opened(args) as (client, settings):
        times = local_times(settings)
        at = times.read(args.at, ahead=False) if args.at else None
        try:
            found = client.store.read(
                lambda connection: reason_of(connection, args.job, at=at, now=times.now, zone=times.zone)
            )
        except UnknownJobError:
            raise UnknownJobError(args.job, nearest=nearest(args.job, [job.id for job in client.jobs()])) from None
    if args.json:
        print_json(found.to_json())
        return Exit.OK
    for line in textwrap.wrap(f"{args.job}: {found.words}", 100, break_long_words=False, break_on_hyphens=False):
        say(line)
    return Exit.OK
