"""Printing that never fails: a reader that left, or an encoding that lacks a character, is no error of ours."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


def never_fail_to_print() -> None:
    """Let a terminal or pipe that is not UTF-8 show ``?`` for what it lacks; a closed stream shows nothing."""
    if sys.stdout is None or sys.stderr is None:
        _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _open_closed_streams() -> None:
    """Let the descriptors 0, 1 and 2 that are closed lead nowhere: the next file opened, a database, would get them."""
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(nowhere, True)
    os.close(nowhere)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def flushed(code: int) -> int:
    """``code``, once everything printed has left; a reader that is gone changes nothing about it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        close_stdout()
    return code


def close_stdout() -> None:
    """Send what is still to be printed nowhere, so that Python's own flush at exit finds somebody who listens."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
