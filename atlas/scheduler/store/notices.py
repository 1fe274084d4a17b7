"""PostgreSQL's LISTEN and NOTIFY: a process hears of others' commits when they happen, and asks for nothing meanwhile.

::

    another process ── BEGIN … pg_notify COMMIT ──► one connection that listens ──► look
                                                        │ lost            ▲
                                                        └── connect again ┘ and look: what was told meanwhile is gone
"""

from __future__ import annotations

import os
import selectors
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from loguru import logger
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

CHANNEL: Final = "atlas"
GAP_S: Final = 0.1
"""Commits that follow each other faster than this are told as one."""
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 30.0
_TELL: Final = text("SELECT pg_notify(:channel, :owner), txid_current()")
_STATUS: Final = text("SELECT txid_status(:xid)")


class Notices:
    """Tells other processes of this one's commits, and hears of theirs.

    Args:
        engine: A PostgreSQL database.
        owner: This process's name; what it told itself it does not hear.
        heard: Called after another process committed, and whenever listening begins or ends.
    """

    def __init__(self, engine: Engine, owner: str, heard: Callable[[], None]) -> None:
        """Prepare; `start` starts to listen."""
        self._engine, self._owner, self._heard = engine, owner, heard
        self._listens = self._closed = False
        self._thread: threading.Thread | None = None
        self._ended, self._end = -1, -1

    @property
    def listens(self) -> bool:
        """True while no commit of another process can go unheard."""
        return self._listens

    def tell(self, connection: Connection) -> int:
        """Let others hear of the transaction on ``connection`` once it is committed; returns its number."""
        return int(connection.execute(_TELL, {"channel": CHANNEL, "owner": self._owner}).one()[1])

    @staticmethod
    def was_committed(connection: Connection, number: int) -> bool:
        """What became of a transaction whose reply to COMMIT was lost.

        Raises:
            OSError: It is not decided yet.
        """
        status = connection.execute(_STATUS, {"xid": number}).scalar()
        if status == "in progress":
            raise OSError("the server has not decided yet about a commit whose reply was lost")
        return bool(status == "committed")

    def start(self) -> None:
        """Listen on a thread and a connection of their own. Starting twice does nothing."""
        if self._thread is None:
            self._ended, self._end = os.pipe()
            self._thread = threading.Thread(target=self._loop, name="atlas-notices", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End both."""
        if self._thread is None or self._closed:
            return
        self._closed = True
        os.write(self._end, b".")
        self._thread.join()
        os.close(self._ended)
        os.close(self._end)

    def _loop(self) -> None:
        wait_s = RETRY_FIRST_S
        while not self._closed:
            try:
                connection = self._engine.raw_connection()
                driver: Any = connection.driver_connection
                connection.detach()  # the pool would hand it out again
                with closing(driver):
                    self._begin(driver)
                    wait_s = RETRY_FIRST_S
                    self._listen(driver)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
                logger.debug("other processes' commits cannot be heard of, and are asked for: {}", error)
            if self._listens:
                self._listens = False
                self._heard()  # from now on somebody has to ask
            self._pause(wait_s)
            wait_s = min(RETRY_MAX_S, wait_s * 2)

    def _begin(self, driver: Any) -> None:
        driver.autocommit = True
        driver.execute(f"LISTEN {CHANNEL}")
        self._listens = True
        self._heard()

    def _listen(self, driver: Any) -> None:
        with selectors.DefaultSelector() as selector:
            # The driver's own wait looks ten times a second whether it is to end.
            selector.register(driver.fileno(), selectors.EVENT_READ)
            selector.register(self._ended, selectors.EVENT_READ)
            while not self._closed:
                selector.select()
                if any(notice.payload != self._owner for notice in driver.notifies(timeout=0)):
                    self._heard()
                self._pause(GAP_S)

    def _pause(self, wait_s: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._ended, selectors.EVENT_READ)
            selector.select(wait_s)
