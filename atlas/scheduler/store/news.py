"""Waiting for what other processes commit."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atlas.scheduler.store.store import Store

LOOK_S: Final = 0.5
"""How often somebody who waits looks for himself."""
TOLD_LOOK_S: Final = 5.0
"""The same where the database tells of commits (PostgreSQL)."""


class News:
    """Waits for a commit of another process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._told = False

    def tell(self) -> None:
        """Somebody committed."""
        with self._changed:
            self._told = True
            self._changed.notify()

    def seen(self) -> None:
        """What was told so far is about to be looked at."""
        with self._changed:
            self._told = False

    def wait(self, timeout_s: float) -> None:
        """Wait until somebody committed, or it is time to look all the same."""
        look_s = TOLD_LOOK_S if self._store.hears else LOOK_S
        with self._changed:
            if not self._told:
                self._store.clock.wait(self._changed, min(look_s, timeout_s))


@contextmanager
def news_of(store: Store) -> Iterator[News]:
    """What other processes commit to ``store`` meanwhile."""
    news = News(store)
    store.on_foreign(news.tell)
    try:
        yield news
    finally:
        store.off_foreign(news.tell)
