"""Config: the file in force or a draft of it, what the draft would change in words, its diff, and the revisions."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from atlas.scheduler.definition_text import digest_of
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.jobs_file.text import read_jobs_text
from atlas.scheduler.store.revisions import find_revisions, latest_revision
from atlas.scheduler.store.tables import revisions
from atlas.web.pages.view import View, number_in
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from atlas.scheduler.errors import Problem
    from atlas.scheduler.forecast.result import Forecast
    from atlas.scheduler.reconcile.preview import JobPreview
    from atlas.web.rendering import Shown
    from atlas.web.site import Visit

LISTED: Final = 20
"""Revisions in the list."""
MAX_SUMMARY: Final = 300
MAX_EDITED: Final = 100_000
"""Characters above which the file is not edited here: the page would be too heavy."""
MOST_CHANGES: Final = 60
MOST_LINES: Final = 800
MOST_WIDE: Final = 500
"""Characters of a line that are shown."""
MOST_ALIKE: Final = 200_000
"""Pairs of equal lines beyond which the most frequent ones, such as empty lines, are not looked for."""
MOST_COMPARED: Final = 200_000
"""Characters of each text beyond which no diff is made."""


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
    will_not_run: str | None = None


def config(visit: Visit) -> Shown:
    """The config file; a POST brings a draft to be checked, which changes nothing."""
    view = View.of(visit)
    store, atlas = view.desk.store, visit.atlas
    path = atlas.settings.persistence.cron_config
    newest, before = store.read(latest_revision), number_in(view.asked("before"))
    kept = store.read(lambda connection: find_revisions(connection, limit=LISTED + 1, before=before))
    in_force = _text_of(view, newest.number) or "" if newest else ""
    wanted, label, digest = in_force, "", newest.digest if newest else ""
    leads = not atlas.stands_by  # whoever leads checks and applies
    number = number_in(view.asked("revision")) if leads else None
    on_disk = _read(path) if leads and number is None and "text" not in visit.form else None
    if leads and "text" in visit.form:
        wanted, label = visit.form["text"].replace("\r\n", "\n"), view.say("draft")
    elif number is not None and (old := _text_of(view, number)) is not None:
        wanted, label = old, f"r{number}"
    elif on_disk is not None and digest_of(on_disk) != digest:
        wanted, label = on_disk, view.say("file on disk")
    same = bool(label) and digest_of(wanted) == digest
    draft = _look(view, in_force, wanted) if label and not same else None
    editing = (bool(view.asked("edit")) or label == view.say("draft")) and len(wanted) <= MAX_EDITED
    editing = editing and leads
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
        posted="text" in visit.form,
        on_disk=bool(label) and wanted == on_disk,
        wanted=wanted,
        back_to=number if label == f"r{number}" else None,
        kept=kept[:LISTED],
        most_summary=MAX_SUMMARY,
        in_force=newest.number if newest else 0,
        older=visit.here(before=kept[LISTED - 1].number) if len(kept) > LISTED else "",
        newest=visit.here(before=None) if before is not None else "",
        lines=() if draft else _numbered(in_force),
        next_number=(newest.number if newest else 0) + 1,
        same=same,
    )


def _text_of(view: View, number: int) -> str | None:
    statement = select(revisions.c.content).where(revisions.c.number == number)
    return view.desk.store.read(lambda connection: connection.execute(statement).scalar())


def _read(path: Path) -> str | None:
    try:
        return read_jobs_text(path)
    except ConfigError:
        return None


@dataclass(slots=True)
class Draft:
    """A text that is not in force: its problems, or what it would change; ``is_known`` once that is reckoned."""

    problems: list[Problem] = field(default_factory=list)
    is_known: bool = True
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


_WORD: Final = re.compile(r"\w+|\W")
_ORDER: Final = ("changed", "added", "removed")


def _look(view: View, old: str, new: str) -> Draft:
    draft = Draft()
    draft.diff, draft.added_lines, draft.removed_lines, draft.is_cut = diff_lines(old, new)
    preview = view.desk.preview(new, digest_of(new))
    if preview is None:
        draft.is_known = False
        return draft
    if isinstance(preview, ConfigError):
        draft.problems = list(preview.problems)[:50]
        return draft
    draft.warnings, draft.unchanged = list(preview.warnings)[:20], preview.unchanged
    draft.jobs = preview.unchanged + preview.count("added") + preview.count("changed")
    jobs = sorted(preview.jobs, key=lambda job: (job.will_not_run is None, _ORDER.index(job.kind)))
    draft.changes = [_change(view, job) for job in jobs[:MOST_CHANGES]]
    draft.more_changes = max(0, len(preview.jobs) - MOST_CHANGES)
    draft.before, draft.after = preview.before, preview.after
    return draft


def _change(view: View, job: JobPreview) -> Change:
    say, language = view.say, view.visit.language
    if job.kind == "changed":
        return Change(
            "edit",
            job.id,
            job.title,
            [one.words(language) for one in job.differences],
            job.next_after,
            job.will_not_run,
        )
    if job.kind == "added":
        words = say("is new: {schedule}", schedule=job.words[language])
        return Change("add", job.id, job.title, [words], job.next_after)
    return Change("remove", job.id, job.title, [say("is removed; its history stays")])


def _numbered(text: str) -> Iterator[Line]:
    """The first lines of a file, made as they are drawn: all at once they are a megabyte of small pieces."""
    start = end = 0
    for number in range(1, MOST_LINES + 1):
        if end < 0:
            return
        end = text.find("\n", start)
        yield Line("", None, number, ((text[start : len(text) if end < 0 else end][:MOST_WIDE], False),))
        start = end + 1


def diff_lines(old: str, new: str) -> tuple[list[Line], int, int, bool]:
    """The lines that differ with three around them, how many were added and removed, and whether lines are left out."""
    if max(len(old), len(new)) > MOST_COMPARED:
        return [], 0, 0, True
    import difflib  # few processes ever compare

    a, b = old.split("\n"), new.split("\n")
    found: list[Line] = []
    added = removed = 0
    lines_of_b = Counter(b)
    alike = sum(count * lines_of_b[line] for line, count in Counter(a).items())
    for group in difflib.SequenceMatcher(None, a, b, autojunk=alike > MOST_ALIKE).get_grouped_opcodes(3):
        found.append(Line("h", None, None, ((f"@@ {group[0][1] + 1} → {group[0][3] + 1}", False),)))
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                found += [Line("", i + 1, j1 + i - i1 + 1, ((a[i][:MOST_WIDE], False),)) for i in range(i1, i2)]
                continue
            removed, added = removed + i2 - i1, added + j2 - j1
            pairs = i2 - i1 == j2 - j1 and i2 - i1 <= 20
            for place in range(max(i2 - i1, j2 - j1) if pairs else 0):
                before, after = _marked(a[i1 + place][:MOST_WIDE], b[j1 + place][:MOST_WIDE])
                found.append(Line("d", i1 + place + 1, None, before))
                found.append(Line("a", None, j1 + place + 1, after))
            if not pairs:
                found += [Line("d", i + 1, None, ((a[i][:MOST_WIDE], False),)) for i in range(i1, i2)]
                found += [Line("a", None, j + 1, ((b[j][:MOST_WIDE], False),)) for j in range(j1, j2)]
    return found[:MOST_LINES], added, removed, len(found) > MOST_LINES


Parts = tuple[tuple[str, bool], ...]


def _marked(old: str, new: str) -> tuple[Parts, Parts]:
    """Two lines with the words that differ between them marked, from the first to the last."""
    before, after = _WORD.findall(old), _WORD.findall(new)
    head = 0
    while head < min(len(before), len(after)) and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1

    def cut(words: list[str]) -> Parts:
        end = len(words) - tail
        parts = ((words[:head], False), (words[head:end], True), (words[end:], False))
        return tuple(("".join(part), marked) for part, marked in parts if part)

    return cut(before), cut(after)


CONFIG: Final = Page(
    "config",
    "/config",
    config,
    # The page of a draft that was sent, and the field it is edited in, carry none of these but the revisions.
    live={
        "c-head": "config/head.html",
        "c-state": "config/state.html",
        "c-file": "config/file.html",
        "c-checks": "config/checks.html",
        "c-revisions": "config/revisions.html",
    },
    methods=("GET", "POST"),
)
