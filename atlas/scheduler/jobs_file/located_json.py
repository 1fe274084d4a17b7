r"""`LocatedJson`: a JSON text that was read, with the line and column of every key and value.

Positions are worked out only for the containers on the way to a path that somebody asks for: a good file costs nothing.
Lines and columns count from 1, columns in characters; ``\n``, ``\r\n`` and ``\r`` end a line.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from atlas.scheduler.errors import Problem
from atlas.scheduler.jobs_file.json_faults import CONTROL, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path as FilePath

Path = tuple[str | int, ...]
"""Keys and indexes from the root to a value."""

MAX_SHOWN: Final = 60
"""Characters of the source text in a `Problem`."""
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_LINE_END: Final = re.compile(r"\r\n?|\n")
_ONE_CHARACTER: Final = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|.", re.DOTALL)
_PLAIN_KEY: Final = re.compile(r"[\w-]+")
_SKIPPER: Final = json.JSONDecoder(object_pairs_hook=len, parse_int=len, parse_float=len, parse_constant=len)
"""Finds the end of a value and keeps nothing of it."""


class Fault(NamedTuple):
    """One thing wrong with the text itself."""

    offset: int
    """Where it begins, 0-based."""
    end: int
    message: str
    path: Path = ()
    """The value it makes unusable; empty when it lies between values."""


class Member(NamedTuple):
    """One member of an object or array: its key or index, and where they stand."""

    key: str | int
    key_start: int
    start: int
    end: int


@dataclass(frozen=True)
class LocatedJson:
    """A JSON text that was read.

    Attributes:
        value: What it says; None stands where a fault made a value unusable.
        faults: Everything wrong with the text, in order.
        complete: False if a fault hides the rest, so that ``value`` says nothing.
        repaired: The text with its repairs, as long as ``text``.
    """

    text: str
    value: Any
    faults: tuple[Fault, ...]
    complete: bool
    repaired: str

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def member(self, path: Path) -> Member:
        """Where the value at ``path`` stands; where the path leads on beyond the text, the last value on it."""
        start = _skip(self.repaired, 0)
        # An incomplete text cannot be walked; its root is all that is known.
        found = Member("", start, start, len(self.repaired.rstrip(" \t\r\n")))
        for part in path if self.complete else ():
            inner = self._index(found.start).get(part)
            if inner is None:
                break
            found = inner
        return found

    def problem(
        self,
        file: FilePath | str | None,
        path: Path,
        message: str,
        *,
        on_key: bool = False,
        shown: bool = True,
        inside: int | None = None,
        severity: str = "error",
    ) -> Problem:
        """A `Problem` of the value at ``path``.

        Args:
            file: The file as the user named it.
            path: The value; it may lead beyond the text, for what is missing.
            message: What is wrong and what would be right.
            on_key: The key is at fault, not its value.
            shown: Whether the source text belongs in the message.
            inside: 0-based position in the text value where the fault begins, escapes counted as the one character they
                stand for.
            severity: ``"error"`` or ``"warning"``.
        """
        at = self.member(path)
        offset, end = (at.key_start, self.key_end(at.key_start)) if on_key else (at.start, at.end)
        value = self._shown(offset, end) if shown else None
        if inside is not None and self.repaired.startswith('"', offset):
            offset = self._offset_inside(offset, end, inside)
        line, column = self.position(offset)
        return Problem(
            file=file,
            path=path_text(path),
            message=message if CONTROL.search(message) is None else printable(message),  # it may be a `Message`
            value=value,
            line=line,
            column=column,
            severity=severity,
        )

    def problems(self, file: FilePath | str | None) -> Iterator[Problem]:
        """The faults as problems."""
        for fault in self.faults:
            line, column = self.position(fault.offset)
            path, value = path_text(fault.path), self._shown(fault.offset, fault.end) or None
            yield Problem(file=file, path=path, message=fault.message, value=value, line=line, column=column)

    def members(self, start: int) -> list[Member]:
        """The members of the object or array at offset ``start``, doubled ones too; none of a plain value."""
        text = self.repaired
        found: list[Member] = []
        opened = text[start : start + 1]
        if opened not in ("{", "["):
            return []
        at = _skip(text, start + 1)
        while text[at] not in "]}":
            key: str | int = len(found)
            key_start = at
            if opened == "{":
                key, at = _SKIPPER.raw_decode(text, at)
                at = _skip(text, _skip(text, at) + 1)
            value_start = at
            _, at = _SKIPPER.raw_decode(text, at)
            found.append(Member(key, key_start, value_start, at))
            at = _skip(text, at)
            if text[at] == ",":
                at = _skip(text, at + 1)
        return found

    def key_end(self, start: int) -> int:
        """Where the key that begins at offset ``start`` ends."""
        return _SKIPPER.raw_decode(self.repaired, start)[1] if self.repaired.startswith('"', start) else start + 1

    def _index(self, start: int) -> dict[str | int, Member]:
        index = self._indexes.get(start)
        if index is None:
            index = self._indexes[start] = {member.key: member for member in self.members(start)}
        return index

    @cached_property
    def _indexes(self) -> dict[int, dict[str | int, Member]]:
        return {}

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in _LINE_END.finditer(self.text))]

    def _offset_inside(self, start: int, end: int, inside: int) -> int:
        at = start + 1
        for _ in range(inside):
            match = _ONE_CHARACTER.match(self.repaired, at, end)
            if match is None or match.end() >= end:
                break
            at = match.end()
        return at

    def _shown(self, offset: int, end: int) -> str:
        source = " ".join(self.text[offset : min(end, offset + 10 * MAX_SHOWN)].split())
        return printable(source if len(source) <= MAX_SHOWN else source[: MAX_SHOWN - 1] + "…")


def path_text(path: Path) -> str:
    """``path`` for people: ``cron_jobs.a.triggers[0]``; keys that are not plain words in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part) and len(part) <= MAX_SHOWN:
            text += f".{part}" if text else part
        else:
            shown = part if len(part) <= MAX_SHOWN else part[: MAX_SHOWN - 1] + "…"
            text += f"[{printable(json.dumps(shown, ensure_ascii=False))}]"
    return text


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
