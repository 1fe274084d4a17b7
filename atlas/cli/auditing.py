"""The command ``audit``: who changed what, and when."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from atlas.cli.details import known_job
from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened
from atlas.cli.tables import NAMES, Cell, Column, counted, print_json, print_table, say
from atlas.scheduler.errors import UnknownTaskError

if TYPE_CHECKING:
    import argparse

    from atlas.cli.times import LocalTimes
    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.store.audit import Entry

_SHOWN: Final = 120
"""Characters of what was before and after in the table; ``--json`` has all of it."""


def audit(args: argparse.Namespace) -> int:
    """The newest lines of the audit."""
    with opened(args) as (client, settings):
        times = local_times(settings)
        since = times.read(args.since, ahead=False) if args.since else None
        found = client.audit(subject=args.subject, actor=args.by, since=since, limit=args.limit + 1)
        if not found and args.subject is not None:
            _known(client, args.subject)
    found, more = found[: args.limit], len(found) > args.limit
    if args.json:
        print_json([entry.to_json() for entry in found])
        return Exit.OK
    if not found:
        say("nobody changed anything" + (" of that kind" if args.subject or args.by or since else " yet"))
        return Exit.OK
    columns = (
        Column("WHEN", right=True),
        Column("WHO"),
        Column("DID"),
        Column("TO", shrinks=True, keeps=NAMES),
        Column("WHAT", shrinks=True),
    )
    print_table(columns, [_row(entry, times) for entry in found])
    told = f"the newest {len(found):,} (--limit shows more)" if more else counted(len(found), "change")
    say(Cell(f"{told} · {times.words}", "dim"))
    return Exit.OK


def _known(client: SyncAtlasClient, subject: str) -> None:
    """Raise if nothing has, or had, this name."""
    with suppress(UnknownTaskError):
        client.task(subject)
        return
    if not client.audit(subject=subject, limit=1):
        known_job(client, subject)


def _row(entry: Entry, times: LocalTimes) -> tuple[str | Cell, ...]:
    return times.at(entry.at), entry.actor, entry.action, Cell(entry.subject, "bold"), what(entry)


def what(entry: Entry) -> str:
    """What changed, in short: the fields that differ, ``timeout_s 300 → 600``, or what is there now."""
    before, after = entry.before, entry.after
    if isinstance(before, dict) and isinstance(after, dict):
        names = [name for name in after if before.get(name) != after[name] and name != "paused_at"]
        text = ", ".join(
            f"{name} {_short(before[name])} → {_short(after[name])}" if name in before else _short(after[name])
            for name in names
        )
    elif isinstance(after, dict):
        told = {"summary", "revision", "function", "task", "schedule", "reason", "until"}
        text = ", ".join(f"{name} {_short(value)}" for name, value in after.items() if name in told and value)
    else:
        text = "" if after is None else _short(after)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _short(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
