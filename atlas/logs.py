"""Log lines through loguru to the terminal and to rotating files: no line can be forged, no secret is shown.

A line is ``2026-03-01 09:00:00.123 | INFO     | atlas.service | message | job=daily_report attempt=1``, and what the
standard library logs looks the same. A traceback follows its line, indented, so that nothing in it passes for a line.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import sys
import time
from contextlib import suppress
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from loguru import logger
from loguru._file_sink import FileSink

from atlas.scheduler.context import running_task
from atlas.scheduler.errors import ConfigError, Problem
from atlas.scheduler.log_lines import TOGETHER, Together, hide, one_line, said, traceback_lines, with_fields
from atlas.scheduler.tasks.capture import FORWARDED

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from loguru import Record

    from atlas.settings import Settings

QUIET: Final = ("apscheduler", "httpcore", "httpx")
"""Libraries that log each of their steps; only their warnings are wanted."""

_LINE: Final = (
    "<green>{time:YYYY-MM-DD HH:mm:ss.SSS}</green> | <level>{level: <8}</level> | <cyan>{name}</cyan> | {text}\n"
)
_JSON: Final = "{json}\n"
_TOLD_EVERY_S: Final = 60.0
"""A disk that is nearly full takes one line and refuses the next; that is not told each time."""

_undo_last: Callable[[], None] | None = None


def configure_logging(settings: Settings, *, console: bool = True) -> Callable[[], None]:
    """Send every log line where ``settings.logging`` says, and return the function that undoes it.

    A further call replaces what the last one set up. Files are open to this user alone (0600); `prepare_folders` made
    their folders. Handlers that others added to loguru or to the standard library stay. ``console``: lines also go to
    stderr, in colour where that is a terminal.

    Raises:
        ConfigError: A log file cannot be written.
    """
    global _undo_last  # noqa: PLW0603 - loguru has one logger per process, so there is one set-up of it
    if _undo_last is not None:
        _undo_last()
    with suppress(ValueError):
        logger.remove(0)  # loguru's own handler shows the values of local variables
    wanted, layout = settings.logging, _Layout(settings.logging.redact)
    handlers: list[int] = []
    restore_standard_library = _intercept(wanted.level)

    def undo() -> None:
        restore_standard_library()
        while handlers:
            with suppress(ValueError):  # somebody removed them all
                logger.remove(handlers.pop())

    _undo_last = undo
    always: dict[str, Any] = {"level": wanted.level, "backtrace": False, "diagnose": False}
    if console:
        colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        handlers.append(logger.add(sys.stderr, format=layout.line, colorize=colour, **always))
    for key, file, form in (("file", wanted.file, layout.line), ("json_file", wanted.json_file, layout.json)):
        if file is None:
            continue
        try:
            handlers.append(
                logger.add(
                    _LogFile(
                        file,
                        rotation=_fuller_than(wanted.rotation),
                        retention=timedelta(seconds=wanted.retention),
                        watch=True,  # another process may have rotated it
                        encoding="utf-8",
                        opener=_open_private,
                    ),
                    format=form,
                    **always,
                )
            )
        except OSError as error:
            undo()
            message = f"cannot be written: {error.strerror}"
            raise ConfigError(
                [Problem(file=settings.file, path=f"logging.{key}", value=str(file), message=message)]
            ) from error
    return undo


class _LogFile(FileSink):
    """loguru's file, which keeps an error of the disk to itself: a handler that fails shows the whole record on stderr.

    What cannot be written is left out, and the next line is tried again; stderr is told when that begins and ends.
    """

    def __init__(self, path: Path, **how: Any) -> None:
        super().__init__(path, **how)  # type: ignore[no-untyped-call]
        self._left_out, self._told, self._told_at = 0, False, -math.inf

    def write(self, message: str) -> None:
        """Append a line, or count one that is left out."""
        try:
            super().write(message)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller has nothing to do with it
            self._left_out += 1
            if time.monotonic() - self._told_at > _TOLD_EVERY_S:
                self._told, self._told_at = True, time.monotonic()
                why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
                self._tell(f"cannot be written: {why}; lines are left out there until it can")
        else:
            if self._told:
                self._tell(f"is written again; up to {self._left_out} lines are missing in it")
                self._told = False
            self._left_out = 0

    def _close_file(self) -> None:
        """Close it although its end finds no room: a file that was deleted keeps its own as long as it is open."""
        file = cast("TextIO", self._file)
        try:
            super()._close_file()  # type: ignore[no-untyped-call]
        except OSError:
            with suppress(OSError):
                file.close()
            self._file = self._file_path = None

    def _tell(self, words: str) -> None:
        with suppress(OSError, ValueError, AttributeError):  # stderr is full, closed or none
            sys.stderr.write(f"atlas: {one_line(self._path)} {words}\n")


class _Layout:
    """A record as one line of text or of JSON, with what is to be hidden hidden."""

    def __init__(self, redact: tuple[re.Pattern[str], ...]) -> None:
        self._redact = redact

    def line(self, record: Record) -> str:
        """The template for loguru; message, fields and traceback are put together here, once for all handlers."""
        values = cast("dict[str, Any]", record)
        if "text" not in values and TOGETHER in values:
            # Each of its lines is safe already; all begin like the first, whose beginning the template writes.
            values["text"] = self._hide(record["message"]).replace("\n", f"\n{_beginning(record)}")
        elif "text" not in values:
            text = with_fields(record["message"], _with_task(record["extra"]))
            values["text"] = "\n    ".join([self._hide(text), *self._traceback(record)])
        return _LINE

    def json(self, record: Record) -> str:
        """The template for JSON objects, one a line."""
        values = cast("dict[str, Any]", record)
        together: Together | None = values.get(TOGETHER)
        if together is None:
            entries = [self._entry(record, record["message"], _with_task(record["extra"]))]
        else:
            entries = [self._entry(record, together.message, fields) for fields in together.fields]
        values["json"] = "\n".join([json.dumps(entry, ensure_ascii=False) for entry in entries])
        return _JSON

    def _entry(self, record: Record, message: str, fields: Mapping[str, object]) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "time": record["time"].astimezone(UTC).isoformat(),
            "level": record["level"].name,
            "name": record["name"],
            "message": self._hide(one_line(message)),
        }
        if fields:
            entry["fields"] = {one_line(key): self._plain(value) for key, value in fields.items()}
        if trace := self._traceback(record):
            entry["traceback"] = trace
        return entry

    def _hide(self, text: str) -> str:
        return hide(text, self._redact)

    def _plain(self, value: object) -> str | int | float | None:
        """``value`` as JSON can hold it."""
        if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            return value
        return self._hide(one_line(said(value)))

    def _traceback(self, record: Record) -> list[str]:
        """The lines of the record's traceback; none without an exception."""
        found = record["exception"]
        return [self._hide(line) for line in traceback_lines(None if found is None else found.value)]


def _beginning(record: Record) -> str:
    """What `_LINE` writes before the text."""
    time = record["time"]
    return f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d} | {record['level'].name: <8} | {record['name']} | "


def _with_task(fields: Mapping[str, object]) -> Mapping[str, object]:
    """The bound fields, and in a running task which one it is."""
    task = running_task()
    if task is None or task.logs is None or "task_id" in fields:
        return fields
    return {**fields, "task_id": task.task_id, "attempt": task.attempt}


def _fuller_than(limit: int) -> Callable[[str, TextIO], bool]:
    """A test for loguru whether a log file holds ``limit`` bytes; it looks at every 50th line, for looking is slow."""
    lines = itertools.count()
    return lambda _message, file: next(lines) % 50 == 0 and os.fstat(file.fileno()).st_size >= limit


class _Interceptor(logging.Handler):
    """Hands what the standard library logs to loguru, under the name of the logger that was used."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log ``record`` again; one that cannot be formatted harms nobody, `logging` tells of it on stderr."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - whatever an argument raises
            self.handleError(record)
            return
        name = one_line(record.name)
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        origin = {"name": name, "function": record.funcName, "line": record.lineno, FORWARDED: True}
        logger.patch(lambda new: cast("dict[str, Any]", new).update(origin)).opt(exception=record.exc_info).log(
            level, text
        )


def _intercept(level: str) -> Callable[[], None]:
    """Route the standard library's log lines from ``level`` up to loguru; returns the function that undoes it."""
    handler, number = _Interceptor(), logger.level(level).no
    levels = {logging.getLogger(): number} | {logging.getLogger(name): max(number, logging.WARNING) for name in QUIET}
    before = {changed: changed.level for changed in levels}
    logging.getLogger().addHandler(handler)
    for changed, new in levels.items():
        changed.setLevel(new)

    def undo() -> None:
        logging.getLogger().removeHandler(handler)
        while before:
            changed, old = before.popitem()
            changed.setLevel(old)

    return undo


def _open_private(path: str, flags: int) -> int:
    """Open a log file that only this user can read."""
    return os.open(path, flags, 0o600)
