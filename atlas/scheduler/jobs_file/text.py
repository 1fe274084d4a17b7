"""The text of a jobs file: opened without waiting for anybody to write it, at most so large, and UTF-8."""

from __future__ import annotations

import codecs
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from atlas.scheduler.errors import ConfigError, Problem
from atlas.scheduler.jobs_file.json_faults import BACK
from atlas.scheduler.message import Message, reason_of
from atlas.scheduler.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES: Final = 20_000_000
"""Largest file that is read; ten thousand jobs with every field take about a quarter of it."""

_MARKS: Final = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_jobs_text(path: Path | str, *, or_pipe: bool = False) -> str:
    """The text of the file: UTF-8, at most `MAX_BYTES`; a byte order mark, as Windows editors write it, is dropped.

    Raises:
        ConfigError: Missing, unreadable, too large, or in another encoding (UTF-16, UTF-32 and GBK are told by name).
    """
    return decode_jobs_text(read_jobs_bytes(path, or_pipe=or_pipe), file=path)


def read_jobs_bytes(path: Path | str, *, or_pipe: bool = False) -> bytes:
    """What stands in the file, at most `MAX_BYTES` and one byte more.

    Args:
        path: The file.
        or_pipe: Somebody named this file now, and it is not the one of the settings; see `opened`.

    Raises:
        ConfigError: Missing, no file, or unreadable.
    """
    try:
        with opened(path, or_pipe=or_pipe) as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        meant = nearest(str(path), _files_beside(Path(path))) if or_pipe else None
        if meant is not None:
            raise unreadable(path, Message("no such file; did you mean {name}?", name=repr(meant))) from None
        if or_pipe:
            raise unreadable(path, Message("no such file")) from None
        message = Message(
            "no such file; {remedy}; another place is named as persistence.cron_config in config.yaml", remedy=BACK
        )
        raise unreadable(path, message) from None
    except IsADirectoryError:
        message = Message("this is a folder; name a file as persistence.cron_config in config.yaml")
        raise unreadable(path, message) from None
    except NoFileError:
        raise unreadable(path, Message("this is a pipe, a device or a socket; put a file in its place")) from None
    except (OSError, ValueError) as error:
        message = Message("cannot be read: {why}; check its owner and permissions", why=reason_of(error))
        raise unreadable(path, message) from None


def _files_beside(path: Path) -> list[str]:
    """What could have been meant by a path with a mistake in its name, or without the folder ``config``."""
    found: list[str] = []
    for folder in (path.parent, path.parent / "config"):
        with suppress(OSError):
            found += map(str, folder.glob("*.json"))
    return found


def decode_jobs_text(raw: bytes, *, file: Path | str) -> str:
    """The text of a jobs file's bytes, see `read_jobs_text`.

    Raises:
        ConfigError: They are too many, or no UTF-8.
    """
    if len(raw) > MAX_BYTES:
        message = Message(
            "larger than {n} bytes; is this the jobs file? If so, make fewer jobs of it", n=f"{MAX_BYTES:,}"
        )
        raise unreadable(file, message)
    for mark, name in _MARKS.items():
        if raw.startswith(mark):
            raise unreadable(file, Message("this is {name}; save the file as UTF-8", name=name), "")
    if b"\0" in raw[:4]:
        raise unreadable(file, Message("zero bytes: this looks like UTF-16 or UTF-32; save the file as UTF-8"), "")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte, guess = f"0x{raw[error.start]:02x}", _looks_like_gbk(raw)
        message = Message("byte {byte} is not UTF-8{guess}; save the file as UTF-8", byte=byte, guess=guess)
        raise unreadable(file, message, raw[: error.start].decode()) from None


def unreadable(path: Path | str, message: str, before: str | None = None) -> ConfigError:
    """An error of the file as a whole, or behind the text ``before``."""
    line = column = 0
    if before is not None:
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return ConfigError([Problem(file=path, path="", message=message, line=line, column=column)])


def _looks_like_gbk(raw: bytes) -> str:
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    return Message("; it looks like GBK")


class NoFileError(OSError):
    """What stands at the path is a pipe, a device or a socket."""


@contextmanager
def opened(path: Path | str, *, or_pipe: bool = False) -> Iterator[BinaryIO]:
    """The file at ``path``, links followed, open for reading.

    Opening a pipe that nobody writes into waits for ever, and so does reading one whose writer stalls: whoever watches
    a file would be stuck there. ``or_pipe`` takes such a pipe (``<(…)`` in a shell) and waits for what comes.

    Raises:
        NoFileError: It is no file, and ``or_pipe`` is false.
        OSError: Missing, a folder, or it must not be read.
        ValueError: A path that no file can have.
    """
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            if not or_pipe:
                raise NoFileError(str(path))
            os.set_blocking(file.fileno(), True)
        yield file


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
