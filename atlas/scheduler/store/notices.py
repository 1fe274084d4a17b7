"""PostgreSQL's LISTEN and NOTIFY: a process hears of others' commits when they happen, and asks for nothing meanwhile.

::

    another process ── BEGIN … pg_notify COMMIT ──► one connection that listens ──► look
                                                        │ lost            ▲
                                                        └── connect again ┘ and look: what was told meanwhile is gone
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from atlas.scheduler.store.hearing import Hearing

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

CHANNEL: Final = "atlas"
GAP_S: Final = 0.1
"""Commits that follow each other faster than this are told as one."""
_TELL: Final = text("SELECT pg_notify(:channel, :owner), txid_current()")
_STATUS: Final = text("SELECT txid_status(:xid)")


class Notices(Hearing):
    """Tells other processes of this one's commits, and hears of theirs.

    Args:
        engine: A PostgreSQL database.
        owner: This process's name; what it told itself it does not hear.
        heard: Called after another process committed, and whenever listening begins or ends.
    """

    def __init__(self, engine: Engine, owner: str, heard: Callable[[], None]) -> None:
        """Prepare; `start` starts to listen."""
        super().__init__(heard)
        self._engine, self._owner = engine, owner

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

    def _listen(self) -> None:
        connection = self._engine.raw_connection()
        driver: Any = connection.driver_connection
        connection.detach()  # the pool would hand it out again
        with closing(driver):
            driver.autocommit = True
            driver.execute(f"LISTEN {CHANNEL}")
            self._begun()
            while not self._closed:
                self._until(driver.fileno(), None)  # the driver's own wait looks ten times a second whether to end
                if any(notice.payload != self._owner for notice in driver.notifies(timeout=0)):
                    self._heard()
                self._until(None, GAP_S)
