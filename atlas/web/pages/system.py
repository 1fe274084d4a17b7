"""System: health, clock, store, owner, threads, and who changed what."""

from __future__ import annotations

import platform
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from atlas import __version__
from atlas.scheduler.store.audit import read_audit
from atlas.scheduler.store.tables import leases
from atlas.scheduler.store.task_rows import instant
from atlas.web.pages.view import View, breaking, number_in, short_json
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from atlas.web.rendering import Shown
    from atlas.web.site import Visit

LINES: Final = 50
MOST: Final = 90
"""Characters of what an audit line keeps that are shown at once."""


def system(visit: Visit) -> Shown:
    """The state of the whole."""
    view = View.of(visit)
    atlas, store, say, said = visit.atlas, view.desk.store, view.say, view.said
    before = number_in(view.asked("before"))
    lines = store.read(lambda connection: read_audit(connection, before_id=before, limit=LINES + 1))
    tick_s = atlas.last_tick_s()
    figures = atlas.get_queue_status()
    owners = store.read(
        lambda connection: connection.execute(select(leases).order_by(leases.c.renewed_at.desc()).limit(8)).all()
    )
    size = store.path.stat().st_size if store.path is not None and store.path.exists() else None
    facts = [
        (
            say("Last tick"),
            say("none yet")
            if tick_s is None
            else said.ago(view.now)
            if tick_s < 0.5
            else say("{s} ago", s=said.rough(tick_s)),
        ),
        (say("Store"), breaking(store.url)),
        (say("Size"), "" if size is None else said.size(size)),
        (say("Config file"), breaking(str(atlas.settings.persistence.cron_config))),
        (say("Zone"), atlas.timezone),
        (say("Slots"), f"{figures['running_tasks']} / {view.desk.slots}"),
        (say("Abandoned threads"), str(figures.get("abandoned_threads", 0))),
        (say("Held tasks"), str(figures.get("held_tasks", 0))),
        (say("Process"), store.owner),
        (say("Version"), f"Atlas {__version__}, Python {platform.python_version()}, {platform.system()}"),
    ]
    return view.shown(
        "system.html",
        say("System"),
        "system",
        health=view.desk.health(),
        facts=[(words, value) for words, value in facts if value],
        owners=[
            {
                "owner": row.owner,
                "role": row.role,
                "started_at": instant(row.started_at),
                "renewed_at": instant(row.renewed_at),
                "stopped_at": instant(row.stopped_at),
                "mine": row.owner == store.owner,
            }
            for row in owners
        ],
        lines=lines[:LINES],
        older=visit.here(before=lines[LINES - 1].id) if len(lines) > LINES else "",
        short_json=short_json,
        in_words=partial(kept_in_words, view),
        metrics=store.totals.metrics(),
    )


def kept_in_words(view: View, value: Any) -> str:
    """What an audit line keeps: a revision by its number, a pause by its reason and end, else names and values."""
    say = view.say
    match value:
        case None:
            return "–"
        case {"revision": int() as number, **more}:
            old = str(more.get("detail", "")).rpartition("revision ")[2]
            parts = f"r{number}", f"← r{old}" if old else "", say.told(str(more.get("summary", "")))
            return short_json(" ".join(filter(None, parts)), MOST)
        case {"paused_at": str(), "reason": str() as reason, "until": str() | None as until}:
            ends = until and say("until {when}", when=view.said.moment(datetime.fromisoformat(until), seconds=False))
            return short_json(say(", ").join(filter(None, (reason or say("no reason given"), ends))), MOST)
        case {"task": str() as named, **more} | {"function": str() as named, **more} if more.keys() <= {"arguments"}:
            return short_json(" ".join((named, *map(short_json, more.values()))), MOST)
        case dict():
            return short_json(", ".join(f"{name} {short_json(one)}" for name, one in value.items()), MOST)
        case _:
            return short_json(value, MOST)


SYSTEM: Final = Page(
    "system",
    "/system",
    system,
    live={"s-health": "system/health.html", "s-facts": "system/facts.html", "s-audit": "system/audit.html"},
)
