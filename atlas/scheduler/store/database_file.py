"""The SQLite file as the operating system sees it: whether it still is the one that was opened, and getting it aside.

Nothing here opens the file while it is in use: closing any handle of it would free SQLite's locks (fcntl(2)).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.message import Message

if TYPE_CHECKING:
    from datetime import datetime

_MAGIC: Final = b"SQLite format 3\0"
_IDENTITY: Final = slice(60, 64)
"""Where a header has PRAGMA user_version, which Atlas draws by chance for each database it makes."""
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FORBIDDEN: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
_DISK: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_NO_ROOM_BYTES: Final = 1_000_000
_PARTS: Final = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Loss:
    """A database that was lost and made anew.

    Attributes:
        at: When it was noticed, aware UTC.
        aside: Where the old file is now; None if nothing was left of it.
        kept: What memory still had, in words.
    """

    at: datetime
    why: str
    aside: Path | None
    kept: str

    @property
    def words(self) -> str:
        """All of it in one line."""
        told = Message("{why}: made anew with {kept}, the history before is lost", why=self.why, kept=self.kept)
        return Message("{told}; what was found is kept in {file}", told=told, file=self.aside) if self.aside else told


class DatabaseFile:
    """One database file in use; without a ``path`` it is no file, of which nothing is ever lost here."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._name = "" if path is None else str(path)
        self._id: tuple[int, int] | None = None
        self._looked: tuple[int, int] | None = None
        self._header: bytes | None = None
        self._handle: int | None = None

    def remember(self) -> None:
        """The file that is there now is the one that is meant."""
        if self.path is not None:
            found = self.path.stat()
            self._id, self._looked = (found.st_dev, found.st_ino), (found.st_size, found.st_mtime_ns)
            self._header = self._read_header()

    def lost(self) -> str | None:
        """What happened to the file, in words; None while it is the one that was opened."""
        if self.path is None or self._id is None:
            return None
        try:
            found = os.stat(self._name)  # noqa: PTH116 - at each commit, and a Path takes twice as long
        except FileNotFoundError:
            return Message("the database file {path} was deleted", path=self.path)
        if (found.st_dev, found.st_ino) != self._id:
            return Message("the database file {path} was replaced by another one", path=self.path)
        looked = (found.st_size, found.st_mtime_ns)
        if looked != self._looked:
            header = self._read_header()
            if header is not None and not self._is_mine(header):
                return Message("the database file {path} was overwritten", path=self.path)
            self._looked = looked
        return None

    def _is_mine(self, header: bytes) -> bool:
        if not header.startswith(_MAGIC):
            return False
        known = self._header
        return known is None or not any(known[_IDENTITY]) or header[_IDENTITY] == known[_IDENTITY]

    def _read_header(self) -> bytes | None:
        """The first bytes of the file, through a handle that SQLite has open already; None if none is to be found."""
        with suppress(OSError):
            if self._handle is None or not self._is_of_mine(self._handle):
                self._handle = self._find_handle()
            if self._handle is not None:
                return os.pread(self._handle, 100, 0)
        return None

    def _find_handle(self) -> int | None:
        for handle in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                if handle.readlink() == self.path and self._is_of_mine(int(handle.name)):
                    return int(handle.name)
        return None

    def _is_of_mine(self, handle: int) -> bool:
        """True if this number still belongs to the file: SQLite may have closed it since."""
        with suppress(OSError):
            found = os.fstat(handle)
            return (found.st_dev, found.st_ino) == self._id
        return False

    def set_aside(self, now: datetime) -> Path | None:
        """Rename what is there, its write-ahead log included; returns the new name, None if there was nothing.

        SQLite sees that a file which is still open has moved, and then leaves the new one's log alone.
        """
        if self.path is None:
            return None
        aside = self.path.with_name(f"{self.path.name}.lost-{now:%Y%m%dT%H%M%S}")
        number = 1
        while any(Path(f"{aside}{part}").exists() for part in _PARTS):
            number += 1
            aside = self.path.with_name(f"{self.path.name}.lost-{now:%Y%m%dT%H%M%S}-{number}")
        was_there = self.path.exists()
        for part in _PARTS:
            with suppress(FileNotFoundError):
                Path(f"{self.path}{part}").rename(f"{aside}{part}")
        self._id = None
        return aside if was_there else None


def is_corrupt(error: BaseException) -> bool:
    """True if SQLite says that the file is damaged, or no database at all."""
    return _code(error) in _CORRUPT


def with_remedy(error: BaseException, path: Path) -> str:
    """What SQLite says of a file that it cannot open, and what to do. Of a full disk it may say "disk I/O error"."""
    said, code = str(getattr(error, "orig", error)), _code(error)
    if code in _CORRUPT:
        return (
            f"{said}; put a backup in its place, or move it away with its -wal and -shm: 'atlas serve' makes a new one,"
            " with the jobs of the jobs file and without the history"
        )
    if code in _FORBIDDEN:
        return f"{said}; give this user the right to write the file, what begins with its name, and its folder"
    if code in _DISK:
        full = shutil.disk_usage(path.parent).free < _NO_ROOM_BYTES
        return f"{said}; {'its disk is full: free space on it' if full else 'see whether its disk is well (dmesg)'}"
    return said


def _code(error: BaseException) -> int:
    cause: Any = getattr(error, "orig", error)
    return (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF
