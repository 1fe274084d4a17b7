"""Long work on the store in short commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from atlas.scheduler.store.store import Store

BATCH: Final = 1000
"""Rows of one commit: 90,000 at once block everybody for 765 ms."""

Cursor = TypeVar("Cursor")
Done = TypeVar("Done")


def nothing() -> None:
    """What happens between two batches unless somebody wants to look around or stop."""


def in_batches(
    store: Store,
    step: Callable[[Connection, Cursor | None], tuple[int, Cursor | None]],
    *,
    dry_run: bool = False,
    between: Callable[[], None] = nothing,
) -> int:
    """Run ``step`` until it has no cursor to go on from, each time in its own commit; returns the sum of its counts.

    ``step`` takes a connection and where the last one ended (None at first), and returns a count and where it ended.
    ``between`` is called after each and may raise to stop; ``dry_run`` reads instead of writing.
    """
    total, cursor, more = 0, None, True
    while more:
        run = store.read if dry_run else store.write
        count, cursor = run(_after(step, cursor))
        total, more = total + count, cursor is not None
        between()
    return total


def _after(step: Callable[[Connection, Cursor | None], Done], cursor: Cursor | None) -> Callable[[Connection], Done]:
    return lambda connection: step(connection, cursor)
