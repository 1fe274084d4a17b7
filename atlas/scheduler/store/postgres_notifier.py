"""PostgreSQL's LISTEN and NOTIFY: a process hears of others' commits when they happen, and asks for nothing meanwhile.

::

    another process ── BEGIN … pg_notify COMMIT ──► one connection that listens ──► look
                                                        │ lost            ▲
                                                        └── connect again ┘ and look: what was told meanwhile is gone
"""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import select, text

from atlas.scheduler.store.notifier import Notifier
from atlas.scheduler.store.tables import commits

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from atlas.scheduler.clock import Clock

CHANNEL: Final = "atlas"
GAP_S: Final = 0.1
"""Commits that follow each other faster than this are told as one."""
KEPT_S: Final = 86_400.0
"""How long the last commit of a process that ended stays."""
_TELL: Final = text("""
    WITH mark AS (
        INSERT INTO commits (owner, number, at) VALUES (:owner, :number, :at)
        ON CONFLICT (owner) DO UPDATE SET number = excluded.number, at = excluded.at
    )
    SELECT pg_notify(:channel, :owner), txid_current()
""")
# Of a number that lies ahead it would not say anything but an error: the server has forgotten it in a crash.
_RUNS: Final = text("SELECT CASE WHEN :xid < txid_current() THEN txid_status(:xid) = 'in progress' ELSE false END")
_FORGET: Final = text("""
    DELETE FROM commits
    WHERE owner IN (SELECT owner FROM commits WHERE at < :before ORDER BY owner FOR UPDATE SKIP LOCKED)
""")


class Told(NamedTuple):
    """A transaction that others will hear of."""

    owner: str
    xid: int
    """PostgreSQL's number for it. A server that crashes forgets those of which its disk has nothing, and gives them to
    other transactions: it says whether this one may still run, not what became of it."""
    number: int
    """Our own, in ``commits``: it is there if this one was committed."""

    def was_committed(self, connection: Connection) -> bool:
        """See `Sent.was_committed`."""
        if connection.execute(_RUNS, {"xid": self.xid}).scalar():
            raise OSError("the server has not decided yet about a commit whose reply was lost")
        last = connection.execute(select(commits.c.number).where(commits.c.owner == self.owner)).scalar()
        return last == self.number


class PostgresNotifier(Notifier):
    """Tells and hears by NOTIFY and LISTEN; what ``owner``, itself, has told is not heard."""

    def __init__(self, engine: Engine, owner: str, clock: Clock, heard: Callable[[], None]) -> None:
        super().__init__(heard)
        self._engine, self._owner, self._clock = engine, owner, clock
        self._numbers = itertools.count(1)

    def tell(self, connection: Connection) -> Told:
        """Let others hear of the transaction on ``connection`` once it is committed."""
        number, now_s = next(self._numbers), self._clock.now().timestamp()
        if number == 1:
            connection.execute(_FORGET, {"before": now_s - KEPT_S})
        mark = {"channel": CHANNEL, "owner": self._owner, "number": number, "at": now_s}
        return Told(self._owner, int(connection.execute(_TELL, mark).one()[1]), number)

    def told(self) -> None:
        """Nothing: the server tells with the commit."""

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
