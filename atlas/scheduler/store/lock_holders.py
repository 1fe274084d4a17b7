"""Who keeps others from writing: the processes that hold a database's locks, in words."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import text

from atlas.scheduler.message import Message

if TYPE_CHECKING:
    from sqlalchemy import Connection

_LOCKS: Final = Path("/proc/locks")
_WAL_WRITE: Final = 120
"""The byte of the -shm file that a writer locks (sqlite.org/walformat.html, 2.3.1)."""
MAX_COMMAND: Final = 100


class Holder(NamedTuple):
    """A process that holds a lock."""

    pid: int
    """Its number, on this machine or on the database's."""
    words: str
    remedy: str


def sqlite_holder(path: Path) -> Holder | None:
    """The other process of this machine that writes to a SQLite file now; None where none is seen (proc(5))."""
    with suppress(OSError):
        inodes = {Path(f"{path}-shm").stat().st_ino: _WAL_WRITE, path.stat().st_ino: None}
        for line in _LOCKS.read_text().splitlines():
            # 3: POSIX  ADVISORY  WRITE 4711 08:01:131337 120 120
            fields = line.split()
            if len(fields) != 8 or fields[1] != "POSIX" or fields[3] != "WRITE":
                continue
            pid, inode = int(fields[4]), int(fields[5].rpartition(":")[2])
            if pid in {0, os.getpid()} or inode not in inodes:
                continue
            byte, last = inodes[inode], float("inf") if fields[7] == "EOF" else int(fields[7])
            if byte is None or int(fields[6]) <= byte <= last:
                return _process(pid)
    return None


def _process(pid: int) -> Holder:
    command, state = "", ""
    with suppress(OSError):
        started = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").split()
        command = "".join(one for one in " ".join(started)[:MAX_COMMAND] if one.isprintable())
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    if state in {"T", "t"}:
        return Holder(
            pid,
            Message("process {pid} ({command}), which is stopped, holds its lock", pid=pid, command=command or "?"),
            Message(
                "'kill -CONT {pid}' lets it go on, 'kill -9 {pid}' frees the database for another process", pid=pid
            ),
        )
    words = Message("process {pid} ({command}) holds its lock", pid=pid, command=command or "?")
    return Holder(pid, words, Message("look at what it does; 'kill {pid}' ends it", pid=pid))


_BLOCKERS: Final = text(
    """
    SELECT a.pid, a.application_name, a.client_addr::text AS address, a.state,
           extract(epoch FROM now() - a.xact_start) AS since_s
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.granted AND l.locktype = 'relation' AND l.mode IN ('ExclusiveLock', 'AccessExclusiveLock')
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND a.pid <> pg_backend_pid()
    ORDER BY a.xact_start LIMIT 1
    """
)


def postgres_holder(connection: Connection) -> Holder | None:
    """The oldest session that has locked a whole table of this database; None if there is none."""
    row = connection.execute(_BLOCKERS).first()
    if row is None:
        return None
    who = f"session {row.pid}" + (f" of {row.application_name!r}" if row.application_name else "")
    where = "" if row.address is None else f" from {row.address}"
    return Holder(
        row.pid,
        Message(
            "{who} ({state}) has locked a table for {s} s",
            who=f"{who}{where}",
            state=row.state,
            s=f"{float(row.since_s or 0):.0f}",
        ),
        Message("'SELECT pg_terminate_backend({pid})' ends it", pid=row.pid),
    )
