"""Replacing the jobs file and asking the scheduler for it: the request stands before the file does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.scheduler.config.file import read_content, replacing
from atlas.scheduler.definition import digest_of
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.store.audit import CODE, Action
from atlas.scheduler.store.revisions import ask, withdraw

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.scheduler.store.store import Store


def request_replace(
    store: Store, path: Path, text: str, *, by: str, action: Action = Action.APPLY, detail: str = ""
) -> int:
    """Put a checked ``text`` in the file's place and ask the scheduler for it; returns the request's number.

    The request stands first: wherever the process dies, the file holds the old text or the new one, and the new one
    counts, at once or at the next start. A file that holds the text already is left alone.

    Raises:
        ConfigError: The file cannot be replaced; nothing changed.
        StoreUnavailableError: The database did not take the request; nothing changed.
    """
    digest, now = text_digest(text), store.clock.now()

    def put(connection: Connection) -> int:
        return ask(connection, at=now, by=by or CODE, action=action, digest=digest, detail=detail)

    if read_content(path, len(text.encode())).raw == text.encode():
        return store.write(put)
    with replacing(path, text) as put_in_place:
        asked = store.write(put)
        try:
            put_in_place()
        except ConfigError:
            store.write(lambda connection: withdraw(connection, asked))
            raise
    return asked


def text_digest(text: str) -> str:
    """The digest by which a text is asked for and remembered."""
    return digest_of(text.removeprefix("\ufeff"))
