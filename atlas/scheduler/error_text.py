"""Finds in the text of an error what names it: a message may have many lines, and notes and links behind it."""

from __future__ import annotations

import re
from typing import Final

_TRACEBACK: Final = re.compile(
    r"^(?:Traceback|(?P<group>  \+ Exception Group Traceback)) \(most recent call last\):$", re.MULTILINE
)
_MEMBER: Final = re.compile(
    r"^ +\| (?!\s|(?:Exception Group )?Traceback \(|\w*ExceptionGroup: .*\(\d+ sub-exceptions?\)$)(.+)$", re.MULTILINE
)
_CUT: Final = re.compile(r"^… [\d,]+ bytes cut …$")


def named_error(text: str) -> str | None:
    r"""The line of a traceback that says class and message of the error; None for a text without a traceback.

    Of errors that led to each other it is the last one, of a group its own line and that of the first error in it.

    >>> named_error('Traceback (most recent call last):\n  File "x.py", line 1\nlib.Refused: no table\n(see https://x)')
    'lib.Refused: no table'
    """
    starts = list(_TRACEBACK.finditer(text))
    if not starts:
        return None
    told = text[starts[-1].end() + 1 :]
    if starts[-1]["group"]:
        head, found, rest = told.partition("\n  +-+--")
        lines = [line.removeprefix("  | ") for line in head.split("\n")]
        member = _MEMBER.search(rest) if found else None
        named = _first_named(lines)
        return f"{named}: {member[1]}" if named and member else named
    return _first_named(told.split("\n"))


def error_line(text: str | None) -> str:
    """`named_error`, else the last line that says something; empty where none does."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return named_error(text or "") or (lines[-1] if lines else "")


def _first_named(lines: list[str]) -> str | None:
    cut = False
    for number, line in enumerate(lines):
        if cut:
            cut = False  # what is left of a line names nothing
        elif _CUT.match(line):
            cut = True
        elif line and not line[0].isspace():
            follows = next((more.strip() for more in lines[number + 1 :] if more.strip()), "")
            return f"{line.rstrip()} {follows}".rstrip() if line.rstrip().endswith(":") else line.rstrip()
    return None
