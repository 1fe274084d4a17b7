"""What is remembered of a source between two collections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import case, select

from atlas.scheduler.log_lines import REDACT, hide
from atlas.scheduler.store.statements import insert_into
from atlas.scheduler.store.tables import sources

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What a server gave us to ask "anything new since?" with."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        """The headers of a conditional request; none when nothing is known."""
        pairs = (("If-None-Match", self.etag), ("If-Modified-Since", self.last_modified))
        return {name: value for name, value in pairs if value is not None}


NOTHING: Final = Validators()


def recall(connection: Connection) -> dict[tuple[str, str], Validators]:
    """(name, address) of a source → its validators. A source that moved is asked anew."""
    rows = connection.execute(select(sources.c.name, sources.c.address, sources.c.etag, sources.c.last_modified))
    return {(row.name, row.address): Validators(etag=row.etag, last_modified=row.last_modified) for row in rows}


def remember_reading(connection: Connection, name: str, address: str, validators: Validators, at: datetime) -> None:
    """The source was read at ``at``."""
    values = {"etag": validators.etag, "last_modified": validators.last_modified}
    _upsert(connection, name, address, at, read_at=at.timestamp(), failures=0, last_error=None, **values)


def remember_unchanged(connection: Connection, name: str, address: str, at: datetime) -> None:
    """The source said at ``at`` that nothing changed."""
    _upsert(connection, name, address, at, failures=0, last_error=None)


def remember_failure(connection: Connection, name: str, address: str, reason: str, at: datetime) -> None:
    """The source failed at ``at``."""
    _upsert(connection, name, address, at, failures=sources.c.failures + 1, last_error=hide(reason, REDACT))


def _upsert(connection: Connection, name: str, address: str, at: datetime, **values: Any) -> None:
    # fetched_at is an answer; a failure is none.
    if values["last_error"] is None:
        values["fetched_at"] = at.timestamp()
    first = {**values, "name": name, "address": address, "failures": int(values["last_error"] is not None)}
    statement = insert_into(connection, sources).values(first)
    # The validators of another address mean nothing at this one.
    kept = {
        name: case((sources.c.address == address, column), else_=None)
        for name, column in (("etag", sources.c.etag), ("last_modified", sources.c.last_modified))
    }
    changes = {**kept, **values, "address": address}
    connection.execute(statement.on_conflict_do_update(index_elements=[sources.c.name], set_=changes))
