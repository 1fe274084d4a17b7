"""Revisions of the config file, and what other processes ask for about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, insert, select, update

from atlas.scheduler.as_json import fields_as_json
from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.store.audit import Action, as_line, write_audit
from atlas.scheduler.store.statements import ONCE
from atlas.scheduler.store.tables import config_requests, revisions
from atlas.scheduler.store.task_rows import instant

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection

MAX_SUMMARY: Final = 2000
SUPERSEDED: Final = "the file was changed again before it was applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One accepted version of the config file; its text, which may have megabytes, is in `RevisionText`.

    Attributes:
        source: How it came: ``file``, ``cli``, ``web``, ``api``, ``code``.
        author: Who: ``file``, ``cli:root``, ``web``.
        summary: ``+a ~b -c``: what it added, changed and removed.
        checked: What it was checked against, as JSON; None when nobody knows.
    """

    number: int
    accepted_at: datetime
    source: str
    author: str
    digest: str
    summary: str
    checked: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything but its check, as JSON values; its text where it is a `RevisionText`."""
        return {name: value for name, value in fields_as_json(self).items() if name != "checked"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionText(Revision):
    """A revision with what it says."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Somebody replaced the config file and wants it in force.

    Attributes:
        action: ``apply`` or ``rollback``.
        digest: Hash of the text that is meant.
        detail: What to say of it: ``revision 3``.
        answered_at: When the scheduler answered, None until then.
        error: Why it did not.
    """

    id: int
    asked_at: datetime
    actor: str
    action: Action
    digest: str
    detail: str
    answered_at: datetime | None
    revision: int | None
    error: str | None


def latest_revision(connection: Connection, *, until: datetime | None = None) -> Revision | None:
    """The newest revision, or the one that was in force at ``until``; None if there was none."""
    statement = _NEWEST.limit(1)
    if until is not None:
        statement = statement.where(revisions.c.accepted_at <= until.timestamp())
    row = connection.execute(statement).first()
    return None if row is None else Revision(**_values(row))


def revision_numbered(connection: Connection, number: int) -> RevisionText | None:
    """One revision with its text, None if there is no such."""
    row = connection.execute(select(revisions).where(revisions.c.number == number)).first()
    return None if row is None else RevisionText(**_values(row), text=row.content)


def find_revisions(connection: Connection, *, limit: int = 20, before: int | None = None) -> list[Revision]:
    """Revisions, newest first, at most ``limit`` and only those numbered below ``before``."""
    statement = _NEWEST.limit(limit)
    if before is not None:
        statement = statement.where(revisions.c.number < before)
    return [Revision(**_values(row)) for row in connection.execute(statement)]


def keep_revision(
    connection: Connection,
    *,
    at: datetime,
    by: str,
    file: Path,
    digest: str,
    summary: str,
    text: str,
    asked: Request | None,
    checked: str | None = None,
) -> int:
    """Store an accepted version, the line in the audit, and the answers to those who asked; returns its number."""
    before = latest_revision(connection)
    if before is not None and (before.digest, before.accepted_at) == (digest, at):
        note_check(connection, before.number, checked)
        return int(before.number)  # the reply to COMMIT was lost, and this is the same work again
    summary = summary if len(summary) <= MAX_SUMMARY else summary[: MAX_SUMMARY - 1] + "…"
    result = connection.execute(
        insert(revisions),
        {
            "accepted_at": at.timestamp(),
            "source": by.partition(":")[0][:16],
            "author": as_line(by),
            "digest": digest,
            "summary": summary,
            "content": "",
            "checked": checked,
        },
        execution_options=ONCE,
    )
    number = int((result.inserted_primary_key or (0,))[0])
    for of, content in ((number, text), (None, "")):  # SQLite's driver keeps what a statement was given last
        connection.execute(_WRITE_CONTENT, {"b_number": of, "b_content": content}, execution_options=ONCE)
    after: dict[str, Any] = {"revision": number, "summary": summary}
    if asked is not None and asked.detail:
        after["detail"] = asked.detail
    write_audit(
        connection,
        Action.APPLY if asked is None else asked.action,
        str(file),
        by=by,
        at=at,
        before=None if before is None else {"revision": before.number},
        after=after,
    )
    reached(CrashPoint.APPLY_REVISION_WRITTEN)
    answer(connection, at=at, digest=digest, revision=number)
    reached(CrashPoint.APPLY_ANSWERED)
    return number


_WRITE_CONTENT: Final = (
    update(revisions).where(revisions.c.number == bindparam("b_number")).values(content=bindparam("b_content"))
)


def note_check(connection: Connection, number: int, checked: str | None) -> None:
    """Keep what revision ``number`` was checked against now."""
    connection.execute(update(revisions).where(revisions.c.number == number).values(checked=checked))


_NEWEST: Final = select(*(column for column in revisions.c if column.name != "content")).order_by(
    revisions.c.number.desc()
)


def ask(connection: Connection, *, at: datetime, by: str, action: Action, digest: str, detail: str = "") -> int:
    """Note that the text with this digest is to be in force; returns the request's number."""
    result = connection.execute(
        insert(config_requests).values(
            asked_at=at.timestamp(), actor=as_line(by), action=action.value, digest=digest, detail=as_line(detail)
        )
    )
    return int((result.inserted_primary_key or (0,))[0])


def open_requests(connection: Connection) -> list[Request]:
    """What nobody answered yet, oldest first."""
    statement = select(config_requests).where(config_requests.c.answered_at.is_(None)).order_by(config_requests.c.id)
    return [_request(row) for row in connection.execute(statement)]


def request_numbered(connection: Connection, number: int) -> Request | None:
    """One request, answered or not."""
    row = connection.execute(select(config_requests).where(config_requests.c.id == number)).first()
    return None if row is None else _request(row)


def answer(
    connection: Connection, *, at: datetime, digest: str, revision: int | None, error: str | None = None
) -> None:
    """Answer whoever asked for the text with this digest; older requests for another one are superseded."""
    still_open = open_requests(connection)
    newest = max((one.id for one in still_open if one.digest == digest), default=None)
    if newest is None:
        return
    for one in still_open:
        if one.id > newest:
            continue
        mine = one.digest == digest
        connection.execute(
            update(config_requests)
            .where(config_requests.c.id == one.id)
            .values(
                answered_at=at.timestamp(), revision=revision if mine else None, error=error if mine else SUPERSEDED
            )
        )


def withdraw(connection: Connection, number: int) -> None:
    """Take a request back: the file could not be replaced."""
    connection.execute(config_requests.delete().where(config_requests.c.id == number))


def _values(row: Any) -> dict[str, Any]:
    values: dict[str, Any] = row._asdict() | {"accepted_at": instant(row.accepted_at)}
    values.pop("content", None)
    return values


def _request(row: Any) -> Request:
    times = {"asked_at": instant(row.asked_at), "answered_at": instant(row.answered_at)}
    return Request(**row._asdict() | times | {"action": Action(row.action)})
