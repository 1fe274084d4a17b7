"""`opened`: a jobs file's bytes, without waiting for anybody to write them."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
