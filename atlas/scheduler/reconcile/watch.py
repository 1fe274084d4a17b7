"""Watches the config file on a thread of its own, so that an edit is in force within two seconds."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from loguru import logger

from atlas.scheduler.clock import until_next_s
from atlas.scheduler.errors import AtlasError
from atlas.scheduler.jobs_file.text import MAX_BYTES
from atlas.scheduler.reconcile.file import SETTLED_S, WRITTEN_S, FileWatch, is_being_written

if TYPE_CHECKING:
    from atlas.scheduler.reconcile.reconciler import Reconciler
    from atlas.scheduler.store.store import Store

LOOK_S: Final = 1.0
"""How often the file is looked at: one `stat`, unless that shows a change."""


class ConfigWatch:
    """Tells a `Reconciler` of every other content of its file, once it stands still, and of requests about it."""

    def __init__(self, reconciler: Reconciler, store: Store) -> None:
        self._reconciler, self._store = reconciler, store
        self._watch = FileWatch(reconciler.path, store.clock, max_bytes=MAX_BYTES)
        self._ready = threading.Condition()
        self._closing = False
        self._asked = True
        self._is_ill = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start watching."""
        self._store.on_foreign(self._hear)
        self._thread = threading.Thread(target=self._loop, name="atlas-config", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a change that is being applied is waited for. Stopping twice does nothing."""
        self._store.off_foreign(self._hear)
        with self._ready:
            self._closing = True
            self._ready.notify()
        if self._thread is not None:
            self._thread.join()

    def _hear(self) -> None:
        """Another process committed. Runs on the writer's thread."""
        with self._ready:
            self._asked = True
            self._ready.notify()

    def _loop(self) -> None:
        wait_s = 0.0
        while True:
            with self._ready:
                if not self._closing and not self._asked and wait_s > 0:
                    self._store.clock.wait(self._ready, wait_s)
                if self._closing:
                    return
                asked, self._asked = self._asked, False
            try:
                wait_s = self._look(asked=asked)
                self._is_ill = False
            except Exception as error:  # noqa: BLE001 - the watch goes on, whatever the database or a foreign import did
                if not self._is_ill:
                    logger.opt(exception=not isinstance(error, AtlasError)).error(
                        "the config file could not be applied; it is tried again: {}", error
                    )
                self._is_ill, wait_s = True, LOOK_S

    def _look(self, *, asked: bool) -> float:
        """Look once; returns the seconds until the next look."""
        if asked:
            self._reconciler.look_for_requests()
        seen, stood_s = self._watch.look(self._reconciler.known)
        if seen is None:
            return until_next_s(self._store.clock, LOOK_S)
        if stood_s < SETTLED_S:
            return SETTLED_S
        if seen.raw is not None and stood_s < WRITTEN_S and is_being_written(self._reconciler.path):
            return SETTLED_S
        if not self._reconciler.notice(seen, stood_s):
            return SETTLED_S
        self._reconciler.refuse_stale_requests()
        return LOOK_S
