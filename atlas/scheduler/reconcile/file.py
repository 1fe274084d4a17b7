"""The config file on disk: what it holds, whether it changed, whether somebody still writes; replacing it whole.

Nothing here knows what the text means.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.errors import ConfigError, Problem
from atlas.scheduler.jobs_file.text import opened
from atlas.scheduler.message import Message, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from atlas.scheduler.clock import Clock

SETTLED_S: Final = 0.25
"""How long a changed text must stay the same before it counts."""
REPORTED_S: Final = 1.0
"""How long a text that is wrong, or no file at all, must stay so before anybody hears of it: it may be half a save."""
RACY_S: Final = 2.0
"""A change as fresh as this may hide another one behind the same times, so that the text is read again."""
REREAD_S: Final = 60.0
"""How often the text is read although nothing seems to have changed: not every file system keeps exact times."""
WRITTEN_S: Final = 30.0
"""How long a file that stays open for writing is waited for."""

Signature = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What stood in the file."""

    raw: bytes | None
    """The bytes; None if the file was missing or could not be read."""
    digest: str
    """Their hash, or what was wrong."""


class FileWatch:
    """Notices that a file has another content, whatever way it was saved; reads it only when it may have.

    Times of change (``ctime``) are what no editor sets back; a text that follows another within one tick of them is
    found by reading again until they are old. Links are followed at every look, and at most ``max_bytes`` and one more
    are read.
    """

    def __init__(self, path: Path, clock: Clock, *, max_bytes: int) -> None:
        self._path, self._clock, self._max_bytes = path, clock, max_bytes
        self._signature: Signature | None = None
        self._read_at_s = float("-inf")
        self._is_racy = False
        self._seen: Seen | None = None
        self._since_s = 0.0

    def look(self, known: str | None) -> tuple[Seen | None, float]:
        """What is new against the digest ``known``, or None, and for how long it has stood so, seconds."""
        now_s = self._clock.monotonic()
        signature = self._sign()
        may_have_changed = signature is None or signature != self._signature or self._is_racy
        seen = self._seen
        is_let_go = seen is not None and seen.raw is None and seen.digest != known
        if seen is None or is_let_go or may_have_changed or now_s - self._read_at_s >= REREAD_S:
            seen = self._read(signature, now_s)
        if seen.digest == known:
            self._seen = Seen(None, seen.digest)  # nobody asks for the text of what was dealt with
            return None, 0.0
        return seen, now_s - self._since_s

    def _sign(self) -> Signature | None:
        try:
            found = self._path.stat()
        except (OSError, ValueError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _read(self, signature: Signature | None, now_s: float) -> Seen:
        seen = read_content(self._path, self._max_bytes)
        if self._seen is None or seen.digest != self._seen.digest:
            self._since_s = now_s
        self._signature, self._read_at_s, self._seen = signature, now_s, seen
        changed_s = 0.0 if signature is None else signature[4] / 1e9
        self._is_racy = signature is not None and abs(self._clock.now().timestamp() - changed_s) < RACY_S
        return seen


def read_content(path: Path, max_bytes: int) -> Seen:
    """What stands in the file now."""
    try:
        with opened(path) as file:
            raw = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        return Seen(None, f"{type(error).__name__}: {error}")
    return Seen(raw, content_digest(raw))


def content_digest(raw: bytes) -> str:
    """Hash of a file's bytes."""
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def is_being_written(path: Path) -> bool:
    """True if some process has the file open for writing: what stands in it may be half of a save.

    Linux tells by refusing a lease. Where it cannot be told, it is False.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return False
    try:
        # Should another process open the file while the lease is held, the kernel sends a signal: one nobody dies of.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    except AttributeError:  # no Linux
        return False
    finally:
        os.close(handle)
    return False


@contextlib.contextmanager
def replacing(path: Path, text: str) -> Iterator[Callable[[], Path | None]]:
    """Write ``text`` beside the file; calling what is yielded puts it in the file's place, all at once.

    The call returns where the replaced text is kept, None if there was no file. A link stays a link, the file it leads
    to is replaced; its permissions stay.

    Raises:
        ConfigError: The folder or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    kept = target.with_name(target.name + ".bak")
    written: list[Path] = []

    def put_in_place() -> Path | None:
        try:
            old = target.read_bytes() if target.is_file() else None
            if old is not None and old != text.encode():
                written.append(_write(kept, old, like=target))
                written[-1].replace(kept)
            fresh.replace(target)
            reached(CrashPoint.APPLY_FILE_REPLACED)
            _flush_folder(target.parent)
        except OSError as error:
            raise _unwritable(path, error) from error
        return None if old is None else kept

    try:
        fresh = _write(target, text.encode(), like=target)
        reached(CrashPoint.APPLY_FILE_WRITTEN)
    except OSError as error:
        raise _unwritable(path, error) from error
    written.append(fresh)
    try:
        yield put_in_place
    finally:
        for one in written:
            one.unlink(missing_ok=True)


def _write(place: Path, raw: bytes, *, like: Path) -> Path:
    """``raw`` in a new file beside ``place``, on the disk, with the permissions of ``like``."""
    handle, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
            try:
                old = like.stat()
            except FileNotFoundError:
                os.fchmod(file.fileno(), 0o644)
            else:
                os.fchmod(file.fileno(), old.st_mode & 0o7777)
                with contextlib.suppress(OSError):  # only root may give a file away
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _flush_folder(folder: Path) -> None:
    """Make a new name in it outlast a power failure, where its file system can: the file stands there in any case."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _unwritable(path: Path, error: OSError) -> ConfigError:
    message = Message(
        "cannot be replaced: {why}; check the folder's owner, permissions and space", why=reason_of(error)
    )
    return ConfigError([Problem(file=path, path="", message=message)])
