"""Who schedules on a database: a row with a token tells who leads, an operating-system lock frees it at death."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import struct
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from loguru import logger
from sqlalchemy import bindparam, delete, insert, or_, select, text, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.errors import LeaseLostError, StoreHeldError
from atlas.scheduler.store.engine import file_of
from atlas.scheduler.store.statements import ONCE, Statement
from atlas.scheduler.store.tables import leases
from atlas.scheduler.store.task_rows import instant

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row

LEASE_S: Final = 20.0
"""How long a lease lasts. It outlasts a database lock of 12 s."""
RENEW_S: Final = 5.0
SCHEDULER: Final = "scheduler"
STANDBY: Final = "standby"
_ADVISORY_KEY: Final = 0x61746C61736C
_LEADER_KEY: Final = 0x61746C61


def new_owner() -> str:
    """A name for this process that no other has: host, process id, and chance with when it began."""
    return f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}-{_begun(os.getpid())}"


def owner_lives(owner: str) -> bool:
    """True unless the process of this name has ended for sure; one on another host may live.

    One that has its process id now is told from it by when it began: after a boot any daemon may have it.
    """
    host, pid, token = owner.rsplit(":", 2)
    if host != socket.gethostname()[:32]:
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    began, begins = token.partition("-")[2], _begun(int(pid))
    return began == begins or not (began and begins)


def _begun(pid: int) -> str:
    """When a process began, in ticks since the boot of this machine; "" where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A process's lease, as others see it.

    Attributes:
        token: The fencing token; the highest one leads. 0 for one that stands by.
        holder: Host, process id and command, for people.
        renewed_at: When it last said that it lives.
        expires_at: When it counts as dead unless it renews.
        stopped_at: When it stopped cleanly, None if it did not.
        figures: Its live figures: last tick, queue, abandoned threads.
        ended: True if the operating system says that its process runs no more, however long the lease still lasts;
            False where that cannot be asked (another host, PostgreSQL).
    """

    owner: str
    token: int
    holder: dict[str, Any]
    started_at: datetime
    renewed_at: datetime
    expires_at: datetime
    stopped_at: datetime | None
    figures: dict[str, Any]
    ended: bool = False

    def lives(self, now: datetime) -> bool:
        """True if the process counts as alive at ``now``."""
        return not self.ended and self.lasts(now)

    def lasts(self, now: datetime) -> bool:
        """True until it expires: another process may take over from one that ended, or the same one come back."""
        return self.stopped_at is None and now < self.expires_at

    @property
    def words(self) -> str:
        """The holder in words: ``process 4711 on atlas-01 since 2026-11-23T08:00:00+00:00``."""
        pid, host, since = (self.holder.get(name, "?") for name in ("pid", "host", "since"))
        return f"process {pid} on {host} since {since}"


class Claim:
    """The claim on a database: the newest scheduler's row, whose token fences older ones, and a lock that death frees.

    The row counts: whoever writes a higher token leads, and every transaction of the one before is refused from then
    on. The operating system's lock (SQLite: a byte of a file beside the database, PostgreSQL: an advisory lock; both
    numbered by the token) only tells at once that a leader died. A database in memory is nobody else's.

    Attributes:
        token: Higher than that of every leader before.
        died_at: Latest instant at which the leader before may have lived; None if it stopped cleanly.
    """

    def __init__(self, engine: Engine, owner: str, now: datetime) -> None:
        self._engine, self._owner = engine, owner
        self.holder = _this_process(now)
        self.token = 0
        self.died_at: datetime | None = None
        self._path = _lock_file(engine)
        self._file: int | None = None
        self._connection: Connection | None = None

    def enter(self, connection: Connection, now: datetime, silent: Lease | None = None) -> bool:
        """Write this process's row; True if the scheduler before it stopped cleanly.

        Args:
            connection: Within the writer's transaction.
            now: The instant.
            silent: The lease of a leader that was seen to renew nothing for `LEASE_S`: it counts as dead although its
                process still holds the lock.

        Raises:
            StoreHeldError: Another living process leads; the message names it.
        """
        if connection.dialect.name == "postgresql":  # one claimant at a time; SQLite's transactions are
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})
        last = last_lease(connection)
        clean = last is None or last.stopped_at is not None
        if last is not None and not clean and not _same_renewal(last, silent) and not self.is_dead(connection, last):
            raise StoreHeldError(self._engine.url.render_as_string(), last.words)
        self.token = 1 if last is None else last.token + 1
        self.died_at = None if last is None or clean else last.renewed_at + timedelta(seconds=RENEW_S)
        self._hold()
        gone = or_(leases.c.role == SCHEDULER, leases.c.owner == self._owner, leases.c.expires_at < now.timestamp())
        connection.execute(delete(leases).where(gone), execution_options=ONCE)
        row = _row(self._owner, SCHEDULER, self.holder, now, self.token)
        connection.execute(insert(leases).values(row), execution_options=ONCE)
        reached(CrashPoint.LEAD_CLAIMED)
        return clean

    def is_dead(self, connection: Connection, last: Lease) -> bool:
        """True if the process of ``last`` is known to have ended: nobody holds the lock of its token."""
        if self._path is not None:
            handle = self._open_file()
            try:
                return _lock_byte(handle, last.token)
            finally:
                os.close(handle)
        if connection.dialect.name != "postgresql":
            return True
        started = connection.execute(text("SELECT extract(epoch FROM pg_postmaster_start_time())")).scalar_one()
        if float(started) >= last.renewed_at.timestamp():
            return False  # the server forgot all locks since: only silence tells
        return bool(
            connection.execute(
                text("SELECT pg_try_advisory_xact_lock(:key, :token)"), {"key": _LEADER_KEY, "token": last.token}
            ).scalar()
        )

    def leave_behind(self) -> None:
        """In a fork: let go of the lock file, whose lock lasts while any process has it open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open_file(self) -> int:
        return os.open(str(self._path), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def _hold(self) -> None:
        """Hold the lock of the token; what it cannot get (a lock of a server that just restarted) it asks for later."""
        if self._path is not None:
            if self._file is None:
                self._file = self._open_file()
            _lock_byte(self._file, self.token)
        elif self._engine.dialect.name == "postgresql":
            if self._connection is not None:
                try:
                    self._connection.execute(text("SELECT 1"))
                except DBAPIError:
                    self.release()
                else:
                    return
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            numbers = {"key": _LEADER_KEY, "token": self.token}
            if not self._connection.execute(text("SELECT pg_try_advisory_lock(:key, :token)"), numbers).scalar():
                self.release()

    def release(self) -> None:
        """Give the lock up; does nothing when it is not held."""
        self.leave_behind()
        if self._connection is not None:
            self._connection.invalidate()  # a pooled connection would keep the lock
            self._connection.close()
            self._connection = None

    def check(self, connection: Connection) -> None:
        """Refuse the transaction unless this process still leads; nobody else can take the lead until it ends.

        Raises:
            LeaseLostError: Another process took over.
        """
        if _MINE.first(connection, (self._owner, SCHEDULER, self.token)) is None:
            raise LeaseLostError(self._engine.url.render_as_string())

    def renew(self, connection: Connection, now: datetime, figures: dict[str, Any]) -> None:
        """Say that this process lives, with its live figures."""
        now_s = now.timestamp()
        _RENEW.run(connection, [(now_s, now_s + LEASE_S, json.dumps(figures), self._owner)])
        try:
            self._hold()
        except SQLAlchemyError as error:  # no further connection is to be had; everything else must be written
            logger.debug("the lock that tells of this leader's death is not held: {}", error)

    def leave(self, connection: Connection, now: datetime) -> None:
        """Mark a clean stop: nothing was running and everything is written."""
        connection.execute(update(leases).where(leases.c.owner == self._owner).values(stopped_at=now.timestamp()))


def _mine(database: Any) -> Any:
    mine = select(leases.c.owner).where(
        leases.c.owner == bindparam("owner"), leases.c.role == bindparam("role"), leases.c.token == bindparam("token")
    )
    return mine.with_for_update(read=True) if database.__name__.endswith("postgresql") else mine


_RENEWED: Final = ("renewed_at", "expires_at", "figures")
_RENEW: Final = Statement(
    lambda _database: (
        update(leases)
        .where(leases.c.owner == bindparam("b_owner"))
        .values({name: bindparam(name, type_=leases.c[name].type) for name in _RENEWED})
    ),
    (*_RENEWED, "b_owner"),
)
_MINE: Final = Statement(_mine, ("owner", "role", "token"))


def _this_process(now: datetime) -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now.isoformat(timespec="seconds")}


def _row(owner: str, role: str, holder: dict[str, Any], now: datetime, token: int) -> dict[str, Any]:
    seconds = now.timestamp()
    return {
        "owner": owner,
        "role": role,
        "token": token,
        "holder": json.dumps(holder),
        "started_at": seconds,
        "renewed_at": seconds,
        "expires_at": seconds + LEASE_S,
        "figures": "{}",
    }


def _same_renewal(last: Lease, silent: Lease | None) -> bool:
    return silent is not None and (last.token, last.renewed_at) == (silent.token, silent.renewed_at)


def _lock_file(engine: Engine) -> Path | None:
    path = file_of(engine.url)
    return None if path is None else path.with_name(path.name + ".lock")


def _has_ended(connection: Connection, lease: Lease) -> bool:
    """True if no process of this host holds the lock of a lease's token.

    The lock is only asked about, never taken, so that nobody who starts meanwhile finds it held. A scheduler has it
    before its row can be read.
    """
    path = _lock_file(connection.engine)
    asked = getattr(fcntl, "F_OFD_GETLK", None)
    if path is None or asked is None or lease.stopped_at is not None:
        return False
    if lease.holder.get("host") != socket.gethostname():  # a disk that hosts share may not share its locks
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        flock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, lease.token, 1, 0)
        kind: int = struct.unpack_from("h", fcntl.fcntl(handle, asked, flock))[0]
    except OSError:
        return False
    finally:
        os.close(handle)
    return kind == fcntl.F_UNLCK


def _lock_byte(handle: int, token: int) -> bool:
    """Lock byte ``token`` of an open file until it is closed; False if somebody else has."""
    try:
        if hasattr(fcntl, "F_OFD_SETLK"):  # of the open file, so that two stores of one process are two
            flock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, token, 1, 0)
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, flock)
        else:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, token)
    except (BlockingIOError, PermissionError):
        return False
    return True


def stand_by(connection: Connection, owner: str, now: datetime) -> None:
    """Write or renew the row of a process that waits for its turn."""
    renewed = {"renewed_at": now.timestamp(), "expires_at": now.timestamp() + LEASE_S}
    if connection.execute(update(leases).where(leases.c.owner == owner).values(**renewed)).rowcount == 0:
        connection.execute(insert(leases).values(_row(owner, STANDBY, _this_process(now), now, 0)))


def leave_standby(connection: Connection, owner: str) -> None:
    """Forget a process that waits no more."""
    connection.execute(delete(leases).where(leases.c.owner == owner, leases.c.role == STANDBY))


def standbys(connection: Connection) -> list[Lease]:
    """The processes that wait for their turn, oldest first; see `Lease.lives`."""
    rows = connection.execute(select(leases).where(leases.c.role == STANDBY).order_by(leases.c.started_at))
    return [_lease_of(row) for row in rows]


def scheduler_lease(connection: Connection) -> Lease | None:
    """The latest scheduler's lease, living or not; None when none ever ran here."""
    lease = last_lease(connection)
    return replace(lease, ended=True) if lease is not None and _has_ended(connection, lease) else lease


def living_lease(connection: Connection, now: datetime) -> Lease | None:
    """The lease of the scheduler that serves this store; None when none does."""
    lease = scheduler_lease(connection)
    return lease if lease is not None and lease.lives(now) else None


def last_lease(connection: Connection) -> Lease | None:
    """`scheduler_lease` as it was written, without a look at its process (15 µs); for what that one told."""
    row = connection.execute(
        select(leases).where(leases.c.role == SCHEDULER).order_by(leases.c.token.desc()).limit(1)
    ).first()
    return None if row is None else _lease_of(row)


def _lease_of(row: Row[Any]) -> Lease:
    return Lease(
        owner=row.owner,
        token=row.token,
        holder=json.loads(row.holder),
        started_at=datetime.fromtimestamp(row.started_at, UTC),
        renewed_at=datetime.fromtimestamp(row.renewed_at, UTC),
        expires_at=datetime.fromtimestamp(row.expires_at, UTC),
        stopped_at=instant(row.stopped_at),
        figures=json.loads(row.figures or "{}"),
    )
