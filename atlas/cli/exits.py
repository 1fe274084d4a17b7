"""How a command ends: exit codes, and what an error means among them.

::

    0 ok · 1 it ran and failed, or was refused · 2 usage or bad config · 3 no such thing
    4 --wait and no scheduler runs · 5 timed out waiting · 130 interrupted
"""

from __future__ import annotations

import enum
import sys
import traceback

from atlas.scheduler.errors import (
    ArgumentsError,
    AtlasError,
    ConfigError,
    CronExpressionError,
    ResultNotReadyError,
    ScheduleError,
    UnknownFunctionError,
    UnknownJobError,
    UnknownRevisionError,
    UnknownTaskError,
)
from atlas.scheduler.log_lines import one_line


class Exit(enum.IntEnum):
    """What the shell learns."""

    OK = 0
    FAILED = 1
    """It ran and failed, or was refused."""
    USAGE = 2
    """Wrong arguments, or a file that cannot be used."""
    UNKNOWN = 3
    """No such job, task or function."""
    NO_SCHEDULER = 4
    """``--wait``, and no scheduler runs."""
    TIMED_OUT = 5
    """The wait's limit has passed; the task goes on."""
    INTERRUPTED = 130


class NoSchedulerError(AtlasError):
    """Nobody serves the store, so there is nothing to wait for."""


_MEANING: tuple[tuple[type[AtlasError], Exit], ...] = (
    (ConfigError, Exit.USAGE),
    (CronExpressionError, Exit.USAGE),
    (ScheduleError, Exit.USAGE),
    (ArgumentsError, Exit.USAGE),
    (UnknownFunctionError, Exit.UNKNOWN),
    (UnknownJobError, Exit.UNKNOWN),
    (UnknownTaskError, Exit.UNKNOWN),
    (UnknownRevisionError, Exit.UNKNOWN),
    (NoSchedulerError, Exit.NO_SCHEDULER),
    (ResultNotReadyError, Exit.TIMED_OUT),
)


def explain_error(error: BaseException, *, verbose: bool) -> Exit:
    """Say on stderr what went wrong, in one message, and return what the shell should learn.

    A traceback is shown only for an error nobody foresaw, and only with ``verbose``.
    """
    if isinstance(error, KeyboardInterrupt):
        print("atlas: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    if isinstance(error, ConfigError):
        for problem in error.problems:
            print(one_line(str(problem)), file=sys.stderr)
    elif isinstance(error, AtlasError):
        print(f"atlas: {one_line(str(error))}", file=sys.stderr)
    elif verbose:
        print("".join(traceback.format_exception(error)).rstrip(), file=sys.stderr)
    else:
        words = one_line(" ".join(f"{type(error).__name__}: {error}".split()))
        print(f"atlas: unexpected {words} (--verbose shows the traceback)", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(f"atlas: {one_line(note)}", file=sys.stderr)
    return next((code for kind, code in _MEANING if isinstance(error, kind)), Exit.FAILED)
