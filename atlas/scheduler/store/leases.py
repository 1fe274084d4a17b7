"""Who schedules on a database: an operating-system lock frees the claim at death, a row tells who holds it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, or_, select, text, update

from atlas.scheduler.errors import StoreHeldError
from atlas.scheduler.store.engine import file_of
from atlas.scheduler.store.tables import leases
from atlas.scheduler.store.task_rows import instant

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection, Engine

LEASE_S: Final = 20.0
"""How long a lease lasts. It outlasts a database lock of 12 s."""
RENEW_S: Final = 5.0
SCHEDULER: Final = "scheduler"
_ADVISORY_KEY: Final = 0x61746C61736C


def new_owner() -> str:
    """A name for this process that no other has: host, process id and chance."""
    return f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Lease:
    """A process's lease, as others see it.

    Attributes:
        owner: Its name.
        holder: Host, process id and command, for people.
        started_at: When it claimed.
        renewed_at: When it last said that it lives.
        expires_at: When it counts as dead unless it renews.
        stopped_at: When it stopped cleanly, None if it did not.
        figures: Its live figures: last tick, queue, abandoned threads.
    """

    owner: str
    holder: dict[str, Any]
    started_at: datetime
    renewed_at: datetime
    expires_at: datetime
    stopped_at: datetime | None
    figures: dict[str, Any]

    def lives(self, now: datetime) -> bool:
        """True if the process counts as alive at ``now``."""
        return self.stopped_at is None and now < self.expires_at

    @property
    def words(self) -> str:
        """The holder in words."""
        return describe_holder(self.holder)


def describe_holder(holder: dict[str, Any]) -> str:
    """``process 4711 on atlas-01 since 2026-11-23T08:00:00+00:00``."""
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"


class Claim:
    """The exclusive claim on a database, held from `take` until `release` or the death of the process.

    SQLite: `flock` on a file beside the database. PostgreSQL: an advisory lock of a connection of its own. A database
    in memory is nobody else's.
    """

    def __init__(self, engine: Engine, owner: str, now: datetime) -> None:
        """Describe the claimant; `take` does the work."""
        self._engine, self._owner = engine, owner
        self.holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now.isoformat(timespec="seconds")}
        self._file: int | None = None
        self._connection: Connection | None = None

    def take(self) -> None:
        """Claim the database.

        Raises:
            StoreHeldError: Another living process holds it; the message names it.
        """
        path = file_of(self._engine.url)
        if path is not None:
            self._take_file(path.with_name(path.name + ".lock"))
        elif self._engine.dialect.name == "postgresql":
            self._take_advisory()

    def _take_file(self, path: Path) -> None:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            try:
                holder = json.loads(os.pread(handle, 4096, 0) or b"{}")
            except ValueError:
                holder = {}
            os.close(handle)
            raise StoreHeldError(str(self._engine.url), describe_holder(holder)) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(self.holder).encode(), 0)
        self._file = handle

    def _take_advisory(self) -> None:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_KEY}).scalar():
            row = connection.execute(
                select(leases.c.holder)
                .where(leases.c.role == SCHEDULER, leases.c.stopped_at.is_(None))
                .order_by(leases.c.renewed_at.desc()),
            ).first()
            connection.close()
            raise StoreHeldError(
                self._engine.url.render_as_string(), describe_holder(json.loads(row.holder) if row else {})
            )
        self._connection = connection

    def release(self) -> None:
        """Give the claim up; does nothing when it is not held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._connection is not None:
            self._connection.invalidate()  # a pooled connection would keep the lock
            self._connection.close()
            self._connection = None

    # --- the row --------------------------------------------------------------------------------------------------

    def enter(self, connection: Connection, now: datetime) -> bool:
        """Write this process's row; True if every scheduler before it stopped cleanly.

        Rows of schedulers that died are marked as ended here: their claim is ours now.
        """
        died = connection.execute(
            select(func.count()).where(leases.c.role == SCHEDULER, leases.c.stopped_at.is_(None)),
        ).scalar_one()
        connection.execute(
            delete(leases).where(or_(leases.c.role == SCHEDULER, leases.c.expires_at < now.timestamp())),
        )
        connection.execute(
            insert(leases).values(
                owner=self._owner,
                role=SCHEDULER,
                holder=json.dumps(self.holder),
                started_at=now.timestamp(),
                renewed_at=now.timestamp(),
                expires_at=now.timestamp() + LEASE_S,
                figures="{}",
            ),
        )
        return died == 0

    def renew(self, connection: Connection, now: datetime, figures: dict[str, Any]) -> None:
        """Say that this process lives, with its live figures."""
        expires = now + timedelta(seconds=LEASE_S)
        connection.execute(
            update(leases)
            .where(leases.c.owner == self._owner)
            .values(renewed_at=now.timestamp(), expires_at=expires.timestamp(), figures=json.dumps(figures)),
        )

    def leave(self, connection: Connection, now: datetime) -> None:
        """Mark a clean stop: nothing was running and everything is written."""
        connection.execute(update(leases).where(leases.c.owner == self._owner).values(stopped_at=now.timestamp()))


def scheduler_lease(connection: Connection) -> Lease | None:
    """The latest scheduler's lease, living or not; None when none ever ran here."""
    row = connection.execute(
        select(leases).where(leases.c.role == SCHEDULER).order_by(leases.c.renewed_at.desc()).limit(1),
    ).first()
    if row is None:
        return None
    started, renewed, expires = instant(row.started_at), instant(row.renewed_at), instant(row.expires_at)
    if started is None or renewed is None or expires is None:
        return None
    return Lease(
        owner=row.owner,
        holder=json.loads(row.holder),
        started_at=started,
        renewed_at=renewed,
        expires_at=expires,
        stopped_at=instant(row.stopped_at),
        figures=json.loads(row.figures or "{}"),
    )
