"""A bell for each process on a SQLite file: it hears of others' commits when they happen, and asks for nothing else.

::

    atlas.db.bells/ ├── 4711-9c1f   a named pipe of each process that hears
                    └── 4712-03ab
    another process ── COMMIT ──► a byte into every pipe ──► look
                                     └ nobody has it open: its process was killed, and the pipe is removed
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from atlas.scheduler.store.notifier import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection

GAP_S: Final = 0.02
"""Commits that follow each other faster than this are heard as one."""
CHECK_S: Final = 30.0
"""How often a bell looks whether it is still hung."""
_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW


class PipeNotifier(Notifier):
    """Rings other processes' bells behind this one's commits, and listens to its own.

    A process that is killed between its commit and the bells was not yet told that it has committed; whoever listens
    looks now and then all the same. They hang in a folder beside the ``database`` that only its user may enter.
    """

    safety_s = 6.0  # a scheduler is awake each five seconds for its lease

    def __init__(self, database: Path, heard: Callable[[], None]) -> None:
        super().__init__(heard)
        self._folder = database.with_name(database.name + ".bells")
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._own = str(self._folder / self._name)

    @property
    def listens(self) -> bool:
        """True while no commit of another process can go unheard: the bell hangs where others look for it."""
        return self._listens and os.access(self._own, os.W_OK)

    def tell(self, connection: Connection) -> None:
        """Nothing: others are told behind the commit."""

    def told(self) -> None:
        """Let every other process that listens hear of what was just committed."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - at each commit, and a Path takes twice as long
        except OSError:
            return  # nobody has ever listened
        for name in names:
            if name != self._name and not name.startswith("."):
                _ring(f"{self._folder}/{name}")

    def _listen(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        hidden = self._folder / f".{self._name}"  # one that nobody has open yet would be taken for a dead one's
        os.mkfifo(hidden, 0o600)
        try:
            # For writing too: a pipe without a writer can always be read from, and says that it has ended.
            pipe = os.open(hidden, os.O_RDWR | _FLAGS)
            try:
                hidden.rename(self._own)
                self._begun()
                while not self._closed and self.listens:
                    self._until(pipe, CHECK_S)
                    if _read(pipe):
                        self._heard()
                        self._until(None, GAP_S)
            finally:
                os.close(pipe)
        finally:
            for path in (hidden, self._own):
                with suppress(OSError):
                    os.unlink(path)  # noqa: PTH108 - one of them is a text
            with suppress(OSError):
                self._folder.rmdir()  # the last one takes it down


def _read(pipe: int) -> bool:
    """Take everything out; True if there was something."""
    try:
        return bool(os.read(pipe, 1 << 16))
    except BlockingIOError:
        return False


def _ring(path: str) -> None:
    try:
        pipe = os.open(path, os.O_WRONLY | _FLAGS)
    except OSError as error:
        if error.errno == errno.ENXIO:
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - see above
        return
    try:
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            return  # somebody else's file: nothing is written into it
        with suppress(OSError):  # it is full: there is enough to hear; or its process ended this moment
            os.write(pipe, b".")
    finally:
        os.close(pipe)
