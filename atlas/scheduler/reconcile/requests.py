"""Replacing the jobs file and asking the scheduler for it: the request stands before the file does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.definition_text import digest_of
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.reconcile.file import read_content, replacing
from atlas.scheduler.store.audit import CODE, Action
from atlas.scheduler.store.foreign_commits import ForeignCommits, listening
from atlas.scheduler.store.revisions import Request, ask, request_numbered, withdraw

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.scheduler.store.store import Store


ANSWER_S: Final = 15.0
"""How long the process that leads has to answer."""


def request_replace(store: Store, path: Path, text: str, *, by: str, action: Action, detail: str) -> int:
    """Put a checked ``text`` in the file's place and ask the scheduler for it; returns the request's number.

    The request stands first: wherever the process dies, the file holds the old text or the new one, and the new one
    counts, at once or at the next start. A file that holds the text already is left alone.

    Raises:
        ConfigError: The file cannot be replaced; nothing changed.
        StoreUnavailableError: The database did not take the request; nothing changed.
    """
    if read_content(path, len(text.encode())).raw == text.encode():
        return request(store, text, by=by, action=action, detail=detail)
    with replacing(path, text) as put_in_place:
        reached(CrashPoint.APPLY_BEFORE_REQUEST)
        asked = request(store, text, by=by, action=action, detail=detail)
        reached(CrashPoint.APPLY_REQUESTED)
        try:
            put_in_place()
        except ConfigError:
            store.write(lambda connection: withdraw(connection, asked))
            raise
    return asked


def request(store: Store, text: str, *, by: str, action: Action, detail: str) -> int:
    """Ask the scheduler for a checked ``text`` that the file holds; returns the request's number.

    Raises:
        StoreUnavailableError: The database did not take the request.
    """
    digest, now = text_digest(text), store.clock.now()

    def put(connection: Connection) -> int:
        return ask(connection, at=now, by=by or CODE, action=action, digest=digest, detail=detail)

    return store.write(put)


def await_answer(store: Store, number: int) -> Request | None:
    """The request once the process that leads has answered it; None if it has not within `ANSWER_S`."""
    end_s = store.clock.monotonic() + ANSWER_S
    with listening(ForeignCommits(store)) as foreign:
        while True:
            foreign.seen()
            found = store.read(lambda connection: request_numbered(connection, number))
            if found is not None and found.answered_at is not None:
                return found
            left_s = end_s - store.clock.monotonic()
            if left_s <= 0:
                return None
            foreign.wait(left_s)


def text_digest(text: str) -> str:
    """The digest by which a text is asked for and remembered."""
    return digest_of(text.removeprefix("\ufeff"))
