"""Takes what a running task logs through loguru or `logging` (and prints, where asked) to the one who keeps it.

::

    logger.info ─┐                        first lines ──► kept at once
    logging     ─┼─► whose task is this? ─┤ limit reached: a note
    print       ─┘   (context variable)   last lines  ──► kept at the attempt's end, behind "… 97,123 left out"

Runs in the scheduler's process and, with the same code, in worker processes.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from loguru import logger

from atlas.scheduler.context import running_task
from atlas.scheduler.log_lines import REDACT, hide, one_line, traceback_lines, with_fields

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable

    from loguru import Message, Record

    from atlas.scheduler.context import LineKeeper, TaskContext

FORWARDED: Final = "forwarded"
"""A loguru record with this key was logged elsewhere and is captured there."""
NOTE: Final = "NOTE"
"""The level of what Atlas itself says between a task's lines."""
PRINT: Final = "PRINT"
"""The level of what a task printed."""
MAX_LINE: Final = 8_000
"""Characters of one line (its traceback included) that are kept."""
LINE_COST: Final = 40
"""Bytes a stored line takes besides its text; so that a million empty lines have a limit too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRules:
    """What is kept of the lines that tasks log.

    Attributes:
        level: Lines from this level up.
        max_bytes: Most that is kept of a task whose job says nothing else; an attempt may use half of what its task has
            left. 0 keeps nothing.
        prints: Keep what a task prints to stdout too, as lines of the level ``PRINT``.
        redact: What the first group of each matches is hidden; without a group all it matches.
    """

    level: str = "INFO"
    max_bytes: int = 1_000_000
    prints: bool = False
    redact: tuple[re.Pattern[str], ...] = REDACT


DEFAULT_RULES: Final = LogRules()


class AttemptLines:
    """Decides which lines of an attempt are kept: the first ones at once, the last ones at its end.

    Not locked; whoever owns it is.

    Args:
        max_bytes: Most that is kept: three quarters of the first lines, one of the last.
        keep: Called with time, level and text of each line that is kept.

    Attributes:
        used: Bytes kept.
    """

    __slots__ = ("_keep", "_last", "_last_bytes", "_left_out", "_max_first", "_max_last", "used")

    def __init__(self, max_bytes: int, keep: Callable[[float, str, str], None]) -> None:
        self._keep = keep
        self._max_last = max_bytes // 4
        self._max_first = max_bytes - self._max_last
        self.used = 0
        self._last: deque[tuple[float, str, str, int]] | None = None  # made when the limit is reached
        self._last_bytes = self._left_out = 0

    def add(self, at_s: float, level: str, message: str) -> None:
        """Take one line."""
        if len(message) > MAX_LINE:
            message = f"{message[:MAX_LINE]} … [{len(message) - MAX_LINE:,} characters cut]"
        size = LINE_COST + (len(message) if message.isascii() else len(message.encode("utf-8", "replace")))
        if self._last is None:
            if self.used + size <= self._max_first:
                self.used += size
                self._keep(at_s, level, message)
                return
            self._last = deque()
            self._keep(
                at_s, NOTE, f"… more than {self._max_first:,} bytes logged: of what follows the last lines are kept"
            )
        self._last.append((at_s, level, message, size))
        self._last_bytes += size
        while self._last_bytes > self._max_last:
            self._last_bytes -= self._last.popleft()[3]
            self._left_out += 1

    def end(self, unprinted: str, rules: LogRules) -> None:
        """The attempt is over, with the ``unprinted`` beginning of a line: what was held back is kept now.

        In front of it stands a note of what was not.
        """
        if unprinted:
            self.add(time.time(), PRINT, hide(one_line(unprinted), rules.redact))
        last, self._last = self._last, None
        if last is None:
            return
        if self._left_out:
            at_s = last[0][0] if last else time.time()
            self._keep(at_s, NOTE, f"… {self._left_out:,} lines left out: the limit of this task's log was reached")
        self.used += self._last_bytes
        for at_s, level, message, _size in last:
            self._keep(at_s, level, message)


class Capture:
    """Hands lines of those running tasks that name ``keeper`` to it, from this process's loguru, logging and stdout."""

    def __init__(self, keeper: LineKeeper, rules: LogRules) -> None:
        self._keeper, self._rules = keeper, rules
        self._keeping = threading.local()
        self._handler = logger.add(
            self._from_loguru,
            level=rules.level,
            format=lambda _record: "",  # the sink reads the record
            filter=self._is_wanted,
            backtrace=False,
            diagnose=False,
        )
        self._logging = _LoggingHandler(self)
        self._logging.setLevel(logger.level(rules.level).no)
        _ABOVE_ROOT.add(self._logging)
        self._stdout: _Stdout | None = None
        if rules.prints:
            self._stdout = _Stdout(sys.stdout, self)
            sys.stdout = cast("Any", self._stdout)

    def close(self) -> None:
        """Capture nothing more."""
        with suppress(ValueError):  # somebody removed all handlers
            logger.remove(self._handler)
        _ABOVE_ROOT.remove(self._logging)
        if self._stdout is not None and sys.stdout is cast("Any", self._stdout):
            sys.stdout = self._stdout.original

    def task(self) -> TaskContext | None:
        """The running task whose lines are wanted, None outside of one.

        What is logged while a line is kept, since keeping it fails, is no line of the task: it would be kept for ever.
        """
        if getattr(self._keeping, "line", False):
            return None
        context = running_task()
        return context if context is not None and context.logs is self._keeper else None

    def keep(self, context: TaskContext, at_s: float, level: str, text: str, error: BaseException | None) -> None:
        """One line, its traceback indented behind it."""
        lines = [text, *traceback_lines(error)]
        self._keeping.line = True
        try:
            self._keeper.add(context, at_s, one_line(level)[:16], hide("\n    ".join(lines), self._rules.redact))
        finally:
            self._keeping.line = False

    def _is_wanted(self, record: Record) -> bool:
        return FORWARDED not in record and self.task() is not None

    def _from_loguru(self, message: Message) -> None:
        record, context = message.record, self.task()
        if context is not None:
            error = record["exception"].value if record["exception"] else None
            text = with_fields(record["message"], record["extra"])
            self.keep(context, record["time"].timestamp(), record["level"].name, text, error)


class _LoggingHandler(logging.Handler):
    """The standard library's records."""

    def __init__(self, capture: Capture) -> None:
        super().__init__()
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        context = self._capture.task()
        if context is None:
            return
        try:
            error = record.exc_info[1] if record.exc_info else None
            text = one_line(record.getMessage())
            self._capture.keep(context, record.created, record.levelname, text, error)
        except Exception:  # noqa: BLE001 - a line that cannot be formatted fails no task; `logging` tells of it on stderr
            self.handleError(record)


class _AboveRoot(logging.Logger):
    """The parent of the root logger while lines are captured: what the root gets goes on to its handlers.

    A handler of the root itself would be in the way of the program around: `logging.basicConfig` does nothing where the
    root has one, with ``force`` it takes it away, as `logging.config.dictConfig` does, and what nobody set up handlers
    for would no longer be shown on stderr.
    """

    def __init__(self) -> None:
        super().__init__("atlas")
        self._lock = threading.Lock()
        self.handlers = [_LastResort(self)]

    def add(self, handler: logging.Handler) -> None:
        """Hand what is logged to ``handler`` too."""
        root = logging.getLogger()
        with self._lock:
            self.handlers = [*self.handlers, handler]  # never changed in place: somebody may be going through it
            if root.parent is None:
                root.parent = self

    def remove(self, handler: logging.Handler) -> None:
        """Hand it nothing more; without handlers the root stands alone again."""
        root = logging.getLogger()
        with self._lock:
            self.handlers = [other for other in self.handlers if other is not handler]
            if len(self.handlers) == 1 and root.parent is self:
                root.parent = None


class _LastResort(logging.Handler):
    """Does what `logging` does with a record that no handler gets, which ours hide from it."""

    def __init__(self, above: _AboveRoot) -> None:
        super().__init__()
        self._above = above

    def emit(self, record: logging.LogRecord) -> None:
        last = logging.lastResort
        if last is None or record.levelno < last.level:
            return
        asked: logging.Logger | None = logging.getLogger(record.name)
        while asked is not None and asked is not self._above:
            if asked.handlers:
                return
            asked = asked.parent
        last.handle(record)


_ABOVE_ROOT: Final = _AboveRoot()


class _Stdout:
    """The process's stdout, which passes everything on and keeps whole lines that tasks print.

    No `io.TextIOBase`: that one closes itself, and so the real stdout, when it is forgotten.
    """

    def __init__(self, original: Any, capture: Capture) -> None:
        self.original, self._capture = original, capture

    def write(self, text: str) -> int:
        context = self._capture.task()
        if context is not None:
            *lines, context.unprinted = (context.unprinted + text).split("\n")
            if len(context.unprinted) > MAX_LINE:
                lines, context.unprinted = [*lines, context.unprinted], ""
            for line in lines:
                self._capture.keep(context, time.time(), PRINT, one_line(line), None)
        return int(self.original.write(text))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)  # encoding, buffer, fileno, isatty …
