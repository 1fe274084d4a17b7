"""The audit: every change somebody asked for, who asked, what was before and after; written with the change itself."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, select

from atlas.scheduler.as_json import fields_as_json
from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.store.tables import audit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

CODE: Final = "code"
"""Who acted where the call does not say: the program itself."""
MAX_VALUE: Final = 64_000
"""Characters of JSON text kept of a value before or after."""
MAX_NAME: Final = 200
"""Characters kept of who acted and on what."""


class Action(enum.StrEnum):
    """What was done."""

    RUN = "run"
    SUBMIT = "submit"
    CANCEL = "cancel"
    RETRY = "retry"
    PAUSE = "pause"
    RESUME = "resume"
    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"
    APPLY = "apply"
    """A config file was accepted; before and after name the revisions."""
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit.

    Attributes:
        id: Its number; later ones are larger.
        actor: Who: ``cli:root``, ``web``, ``api``, ``file``, ``code``.
        action: What was done.
        subject: To what: the id of a job or task, or the path of the config file.
        before: What was there, as JSON values; None for nothing.
    """

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    before: Any
    after: Any

    def to_json(self) -> dict[str, Any]:
        """The line as JSON values."""
        return fields_as_json(self)


def write_audit(
    connection: Connection,
    action: Action,
    subject: str,
    *,
    by: str,
    at: datetime,
    before: Any = None,
    after: Any = None,
) -> None:
    """Write one line, within the transaction of the change that it tells of.

    ``before`` and ``after`` are JSON values; an empty ``by`` is the program itself.
    """
    write_audits(connection, action, [(subject, before, after)], by=by, at=at)


def write_audits(
    connection: Connection, action: Action, changes: Sequence[tuple[str, Any, Any]], *, by: str, at: datetime
) -> None:
    """`write_audit` for several subjects of one change, each with what was before and after: a line for each.

    Raises:
        ArgumentsError: ``by`` is no text.
    """
    who: object = by  # a caller without type checks may give anything
    if not isinstance(who, str):
        raise ArgumentsError(f"by {who!r:.80} is no text")
    common = {"at": at.timestamp(), "actor": as_line(by or CODE), "action": action.value}
    values = {id(value): value for change in changes for value in change[1:]}  # many subjects often share one
    texts = {key: _text(value) for key, value in values.items()}
    rows = [
        {**common, "subject": as_line(subject), "before": texts[id(before)], "after": texts[id(after)]}
        for subject, before, after in changes
    ]
    if rows:
        connection.execute(insert(audit), rows)


def read_audit(
    connection: Connection,
    *,
    subject: str | None = None,
    actor: str | None = None,
    action: Action | str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """Lines of the audit from ``since`` on and before ``until``, newest first; ``before_id`` leads to the next page.

    The actor ``cli`` means everybody at the command line (``cli:…``).
    """
    statement = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if subject is not None:
        statement = statement.where(audit.c.subject == subject)
    if actor is not None:
        mine = audit.c.actor == actor
        statement = statement.where(mine | audit.c.actor.startswith(f"{actor}:", autoescape=True))
    if action is not None:
        statement = statement.where(audit.c.action == str(action))
    if since is not None:
        statement = statement.where(audit.c.at >= since.timestamp())
    if until is not None:
        statement = statement.where(audit.c.at < until.timestamp())
    if before_id is not None:
        statement = statement.where(audit.c.id < before_id)
    return [
        Entry(
            row.id,
            datetime.fromtimestamp(row.at, UTC),
            row.actor,
            row.action,
            row.subject,
            _value(row.before),
            _value(row.after),
        )
        for row in connection.execute(statement)
    ]


def as_line(text: str) -> str:
    """``text`` as a row can hold it, in one line."""
    line = text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    return line if len(line) <= MAX_NAME else line[: MAX_NAME - 1] + "…"


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = json.dumps(value, default=str)  # ASCII: lone surrogates and zero bytes fit into every database
    return text if len(text) <= MAX_VALUE else json.dumps({"cut": text[: MAX_VALUE // 2]})


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)
