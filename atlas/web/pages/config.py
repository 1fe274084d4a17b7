"""Config: the file in force or a draft of it, what the draft would change in words, its diff, and the revisions."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from atlas.scheduler.config.plan import make_plan
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.forecast.jobs import ForecastJob
from atlas.scheduler.forecast.making import forecast
from atlas.scheduler.jobs import parse_jobs
from atlas.scheduler.store.tables import revisions
from atlas.scheduler.store.task_rows import instant
from atlas.web.pages.view import View
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from atlas.scheduler.config.plan import Plan
    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.errors import Problem
    from atlas.scheduler.forecast.result import Forecast
    from atlas.scheduler.jobs import JobsFile
    from atlas.web.rendering import Shown
    from atlas.web.site import Visit

MAX_TEXT: Final = 2_000_000
MAX_EDITED: Final = 100_000
"""Characters above which the file is not edited here: the page would be too heavy."""
MOST_CHANGES: Final = 60
MOST_LINES: Final = 800
MOST_COMPARED: Final = 200_000
"""Characters of each text beyond which no diff is made."""
MANY_JOBS: Final = 500
"""Jobs above which the two forecasts of a draft are left out."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a diff: ``a`` added, ``d`` removed, ``h`` a heading, "" unchanged; parts are (text, is it marked)."""

    kind: str
    old: int | None
    new: int | None
    parts: tuple[tuple[str, bool], ...]


@dataclass(slots=True)
class Change:
    """What the draft does to one job."""

    kind: str
    job_id: str
    title: str
    words: list[str] = field(default_factory=list)
    next_at: datetime | None = None


def config(visit: Visit) -> Shown:
    """The config file; a POST brings a draft to be checked, which changes nothing."""
    view = View.of(visit)
    store, atlas = view.desk.store, visit.atlas
    path = atlas.settings.persistence.cron_config
    kept = store.read(
        lambda connection: connection.execute(
            select(*(revisions.c[name] for name in ("number", "accepted_at", "source", "author", "summary")))
            .order_by(revisions.c.number.desc())
            .limit(20)
        ).all()
    )
    in_force = _text_of(view, kept[0].number) if kept else ""
    on_disk = _read(path)
    wanted, label = in_force, ""
    number = view.asked("revision", 9)
    if "text" in visit.form:
        wanted, label = visit.form["text"].replace("\r\n", "\n")[:MAX_TEXT], view.say("draft")
    elif number.isdigit() and any(row.number == int(number) for row in kept):
        wanted, label = _text_of(view, int(number)), f"r{number}"
    elif on_disk is not None and on_disk != in_force:
        wanted, label = on_disk, view.say("file on disk")
    draft = _look(view, in_force, wanted, path) if label and wanted != in_force else None
    editing = (bool(view.asked("edit")) or label == view.say("draft")) and len(wanted) <= MAX_EDITED
    return view.shown(
        "config.html",
        view.say("Config"),
        "config",
        path=path,
        error=atlas.config_error(),
        label=label,
        draft=draft,
        text=wanted if editing else "",
        too_large=len(wanted) > MAX_EDITED,
        editing=editing,
        wanted=wanted,
        in_force=in_force,
        back_to=int(number) if label == f"r{number}" else None,
        kept=[
            {
                "number": row.number,
                "at": instant(row.accepted_at),
                "author": row.author,
                "summary": row.summary,
                "in_force": place == 0,
            }
            for place, row in enumerate(kept)
        ],
        lines=[] if draft else _numbered(in_force),
        next_number=(kept[0].number if kept else 0) + 1,
        same=bool(label) and wanted == in_force,
    )


def _text_of(view: View, number: int) -> str:
    statement = select(revisions.c.content).where(revisions.c.number == number)
    return str(view.desk.store.read(lambda connection: connection.execute(statement).scalar()) or "")


def _read(path: Any) -> str | None:
    try:
        return str(path.read_text(encoding="utf-8-sig"))[:MAX_TEXT]
    except (OSError, UnicodeDecodeError):
        return None


@dataclass(slots=True)
class Draft:
    """A text that is not in force: its problems, or what it would change."""

    problems: list[Problem]
    warnings: list[Problem] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    more_changes: int = 0
    unchanged: int = 0
    jobs: int = 0
    diff: list[Line] = field(default_factory=list)
    is_cut: bool = False
    added_lines: int = 0
    removed_lines: int = 0
    before: Forecast | None = None
    after: Forecast | None = None


def _look(view: View, old: str, new: str, path: Any) -> Draft:
    atlas = view.visit.atlas
    draft = Draft([])
    draft.diff, draft.added_lines, draft.removed_lines, draft.is_cut = diff_lines(old, new)
    jobs = atlas.cron.sync.running.jobs
    try:
        wanted = parse_jobs(new, file=path, defaults=atlas.policy_defaults(), registry=atlas.registry)
        plan = make_plan(jobs.records(), [parked.id for parked in jobs.parked()], wanted, file=path)
    except ConfigError as error:
        draft.problems = list(error.problems)[:50]
        return draft
    draft.warnings, draft.jobs, draft.unchanged = list(wanted.warnings)[:20], len(wanted.definitions), plan.unchanged
    changes = list(_changes(view, plan))
    draft.changes, draft.more_changes = changes[:MOST_CHANGES], max(0, len(changes) - MOST_CHANGES)
    if len(wanted.definitions) <= MANY_JOBS:
        draft.before, draft.after = view.desk.forecast(view.now), _forecast(view, wanted)
    return draft


def _forecast(view: View, wanted: JobsFile) -> Forecast:
    """The next 24 hours if the draft were in force."""
    desk = view.desk
    lately = desk.recent.of([job_id for job_id in wanted.definitions if desk.record(job_id) is not None], view.now)
    states = desk.atlas.cron.sync.running.states
    jobs = [
        ForecastJob.of(
            definition,
            duration_s=lately[job_id].duration_s(0.5) if job_id in lately else None,
            fires=states.pause_of(job_id) is None,
        )
        for job_id, definition in wanted.definitions.items()
    ]
    return forecast(jobs, now=view.now, slots=desk.slots, zone=desk.zone)


def _changes(view: View, plan: Plan) -> Iterable[Change]:
    say, language = view.say, view.visit.language
    for definition in plan.changed:
        record = view.desk.record(definition.id)
        change = Change("edit", definition.id, definition.title, next_at=_next(view, definition))
        if record is not None:
            change.words = list(_differences(view, record.definition, definition))
        yield change
    for definition in plan.added:
        words = say(
            "is new: {schedule}, function {function}",
            schedule=definition.schedule.describe(language),
            function=definition.function,
        )
        yield Change("add", definition.id, definition.title, [words], _next(view, definition))
    for job_id in plan.removed:
        record = view.desk.record(job_id)
        yield Change(
            "remove",
            job_id,
            job_id if record is None else record.definition.title,
            [say("is removed; its history stays")],
        )


def _next(view: View, definition: JobDefinition) -> datetime | None:
    return definition.schedule.next_after(view.now) if definition.enabled else None


def _differences(view: View, old: JobDefinition, new: JobDefinition) -> Iterable[str]:
    language = view.visit.language
    if old.schedule != new.schedule:
        yield f"{old.schedule.describe(language)} → {new.schedule.describe(language)}"
    for name, words in FIELDS.items():
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{view.say(words)}: {_short(view, before)} → {_short(view, after)}"
    if old.retry != new.retry:
        for name in type(old.retry).__slots__:
            before, after = getattr(old.retry, name), getattr(new.retry, name)
            if before != after:
                yield f"{name}: {_short(view, before)} → {_short(view, after)}"


FIELDS: Final = {
    "title": "Name",
    "enabled": "Enabled",
    "function": "Function",
    "arguments": "Arguments",
    "description": "Description",
    "priority": "Priority",
    "timeout_s": "Timeout",
    "executor": "Executor",
    "overlap": "Overlap",
    "max_instances": "Instances",
    "catchup": "Missed fires",
    "catchup_window_s": "Catch-up window",
    "catchup_limit": "Catch-up limit",
    "on_crash": "After a crash",
    "keep_days": "Days kept",
    "keep_tasks": "Tasks kept",
    "tags": "Tags",
    "owner": "Owner",
    "runbook": "Runbook",
}


def _short(view: View, value: Any) -> str:
    if value is None:
        return view.say("not set")
    if isinstance(value, bool):
        return view.say("yes") if value else view.say("no")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(str(one) for one in value) or "–"
    name = getattr(value, "name", None)
    return str(name if name and not isinstance(value, str) else value)[:80] or "–"


def _numbered(text: str) -> list[Line]:
    lines = text.split("\n")[:MOST_LINES]
    return [Line("", None, number, ((line[:500], False),)) for number, line in enumerate(lines, 1)]


def diff_lines(old: str, new: str) -> tuple[list[Line], int, int, bool]:
    """The lines that differ with three around them, how many were added and removed, and whether lines are left out."""
    if max(len(old), len(new)) > MOST_COMPARED:
        return [], 0, 0, True
    a, b = old.split("\n"), new.split("\n")
    found: list[Line] = []
    added = removed = 0
    for group in difflib.SequenceMatcher(None, a, b, autojunk=len(a) > 2000).get_grouped_opcodes(3):
        found.append(Line("h", None, None, ((f"@@ {group[0][1] + 1} → {group[0][3] + 1}", False),)))
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                found += [Line("", i + 1, j1 + i - i1 + 1, ((a[i][:500], False),)) for i in range(i1, i2)]
                continue
            removed, added = removed + i2 - i1, added + j2 - j1
            pairs = i2 - i1 == j2 - j1 and i2 - i1 <= 20
            for place in range(max(i2 - i1, j2 - j1) if pairs else 0):
                before, after = _marked(a[i1 + place][:500], b[j1 + place][:500])
                found.append(Line("d", i1 + place + 1, None, before))
                found.append(Line("a", None, j1 + place + 1, after))
            if not pairs:
                found += [Line("d", i + 1, None, ((a[i][:500], False),)) for i in range(i1, i2)]
                found += [Line("a", None, j + 1, ((b[j][:500], False),)) for j in range(j1, j2)]
    return found[:MOST_LINES], added, removed, len(found) > MOST_LINES


Parts = tuple[tuple[str, bool], ...]


def _marked(old: str, new: str) -> tuple[Parts, Parts]:
    """Two lines with what differs between them marked."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1

    def cut(text: str) -> Parts:
        middle = text[head : len(text) - tail]
        return tuple(
            part for part in ((text[:head], False), (middle, True), (text[len(text) - tail :], False)) if part[0]
        )

    return cut(old), cut(new)


CONFIG: Final = Page("config", "/config", config, methods=("GET", "POST"))
