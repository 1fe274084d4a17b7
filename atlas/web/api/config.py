"""The config file: schema, check, plan, apply, revisions, diff, rollback."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from atlas.scheduler.errors import ConfigError
from atlas.scheduler.jobs_file.format import schema_text
from atlas.scheduler.store.revisions import find_revisions
from atlas.web.api.verb import MAX_NUMBER, Call, Paged, Taken, Verb, listed

if TYPE_CHECKING:
    from atlas.scheduler.reconcile.plan import Plan


class Text(Taken):
    """A whole config file."""

    text: str


class RevisionPage(Paged):
    """A page of the revisions, newest first."""

    before: int | None = Field(None, ge=1, le=MAX_NUMBER, description="Older than this one.")


class Two(Taken):
    """Two revisions."""

    a: int = Field(ge=1, le=MAX_NUMBER)
    b: int = Field(ge=1, le=MAX_NUMBER)


class Wanted(Taken):
    """A revision."""

    number: int = Field(ge=1, le=MAX_NUMBER)


def schema(call: Call) -> dict[str, Any]:
    """The JSON Schema of the config file."""
    del call
    return dict(json.loads(schema_text()))


def check(call: Call) -> dict[str, Any]:
    """What is wrong, and what is probably not meant, with a text; nothing is applied."""
    reconciler, scheduler = call.atlas.reconciler, call.site.settings.scheduler
    try:
        wanted = reconciler.parse(call.taken(Text).text)
        reconciler.plan(wanted)
    except ConfigError as error:
        return {"ok": False, "jobs": [], "problems": [one.to_json() for one in error.problems]}
    from atlas.scheduler.reconcile.advice import advise  # few processes are ever asked

    advised = advise(
        wanted, file=reconciler.path, now=call.store.clock.now(), slots=scheduler.max_workers, limits=scheduler.limits
    )
    found = sorted((*wanted.warnings, *advised), key=lambda one: (one.line, one.column))
    return {"ok": True, "jobs": list(wanted.definitions), "problems": [one.to_json() for one in found]}


def plan(call: Call) -> dict[str, Any]:
    """What a text would change; nothing is applied."""
    return call.atlas.reconciler.preview(call.taken(Text).text).to_json()


def apply(call: Call) -> dict[str, Any]:
    """Put a text in the file's place and in force."""
    return _applied(call, call.atlas.reconciler.replace(call.taken(Text).text, by=call.by))


def revisions(call: Call) -> dict[str, Any]:
    """Accepted versions of the file, newest first."""
    asked = call.taken(RevisionPage)
    found = call.store.read(lambda one: find_revisions(one, limit=asked.limit + 1, before=asked.before))
    shown = found[: asked.limit]
    return listed([one.to_json() for one in shown], shown[-1].number if len(found) > asked.limit else None)


def revision(call: Call) -> dict[str, Any]:
    """One accepted version, with its text."""
    found = call.atlas.reconciler.revision(_number(call.path["number"]))
    return found.to_json()


def diff(call: Call) -> dict[str, Any]:
    """What is different between two revisions: in words, then line by line."""
    import difflib  # few processes ever compare

    from atlas.scheduler.reconcile.changes import changed_jobs

    asked, reconciler = call.taken(Two), call.atlas.reconciler
    old, new = (reconciler.revision(number) for number in (asked.a, asked.b))
    names = f"revision {asked.a}", f"revision {asked.b}"
    try:
        jobs = changed_jobs(reconciler.parse(old.text).definitions, reconciler.parse(new.text).definitions)
    except ConfigError:  # what was good then: a function or a zone may be gone since
        jobs = []
    return {
        "a": asked.a,
        "b": asked.b,
        "jobs": [{"id": job_id, "kind": kind, "words": words} for kind, job_id, words in jobs],
        "lines": list(difflib.unified_diff(old.text.splitlines(), new.text.splitlines(), *names, lineterm="")),
    }


def rollback(call: Call) -> dict[str, Any]:
    """Bring an earlier revision back; it becomes a new one."""
    return _applied(call, call.atlas.reconciler.rollback(call.taken(Wanted).number, by=call.by))


def _applied(call: Call, done: Plan) -> dict[str, Any]:
    latest = call.atlas.reconciler.latest_revision()
    return {
        "revision": None if latest is None else latest.number,
        "summary": done.summary,
        "added": len(done.added),
        "changed": len(done.changed),
        "removed": len(done.removed),
        "unchanged": done.unchanged,
    }


def _number(text: str) -> int:
    return min(int(text[:12]), MAX_NUMBER) if text.isascii() and text.isdecimal() else 0  # nothing has the number 0


VERBS: Final = (
    Verb("GET", "/schema", schema),
    Verb("POST", "/check", check, Text, is_long=True),
    Verb("POST", "/plan", plan, Text, is_long=True),
    Verb("POST", "/apply", apply, Text, is_long=True),
    Verb("POST", "/rollback", rollback, Wanted, is_long=True),
    Verb("GET", "/revisions", revisions, RevisionPage),
    Verb("GET", "/revisions/{number}", revision),
    Verb("GET", "/diff", diff, Two, is_long=True),
)
