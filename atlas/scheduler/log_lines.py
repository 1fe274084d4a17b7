"""Log records as text that is safe to keep and to show: nothing in it forges a line, nothing secret is left in it."""

from __future__ import annotations

import json
import re
import traceback
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HIDDEN: Final = "[hidden]"

REDACT: Final = (
    re.compile(r"://([^/@\s]+)@"),
    re.compile(r"[Bb]earer ([\w.~+/=-]+)"),
    re.compile(r"(?i)=(?:(?<=token=)|(?<=password=)|(?<=secret=)|(?<=api_key=)|(?<=apikey=))([^\s&]+)"),
)
"""What is hidden unless the settings say otherwise: the first group of each pattern, without a group all it matches.

Each begins with what is rare in a line: names of secrets in front of the ``=`` would be tried at every letter, which
takes ten times as long.
"""

TOGETHER: Final = "together"
"""The key of a loguru record whose message holds its fields already; its value is a `Together`."""


class Together(NamedTuple):
    """Lines that say the same, one of each thing, logged as one record: loguru takes 15 µs for a record, 1 for a line.

    The record's message holds them all, as `with_fields` writes them, one behind the other.
    """

    message: str
    fields: list[dict[str, Any]]


_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NUMBERS: Final = frozenset({int, float})
_SPLITS: Final = re.compile(r'[\s"=|]')


def one_line(text: str) -> str:
    """``text`` with line ends, escape sequences and other tricks of a terminal written out."""
    return text if text.isprintable() else _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def hide(text: str, patterns: Iterable[re.Pattern[str]]) -> str:
    """``text`` without what the patterns match."""
    for pattern in patterns:
        text = pattern.sub(_hidden, text)
    return text


def with_fields(message: str, fields: Mapping[str, object]) -> str:
    """The message in one line, its bound fields behind it: ``message | job=daily_report attempt=1``."""
    text = one_line(message)
    if fields:
        text += " | " + " ".join(f"{one_line(key)}={_shown(value)}" for key, value in fields.items())
    return text


def traceback_lines(error: BaseException | None) -> list[str]:
    """The lines of an error's traceback, none without an error. They show no values of variables."""
    if error is None:
        return []
    text = "".join(traceback.format_exception(error))
    return [one_line(line) for line in text.rstrip().split("\n")]


def said(value: object) -> str:
    """``str(value)``, or the kind of what raises when it is asked: its line is wanted all the same."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - whatever somebody's __str__ raises
        return f"<{type(value).__name__}>"


def _shown(value: object) -> str:
    """``value`` as a field shows it: quoted where it would not be one word."""
    if type(value) in _NUMBERS:
        return str(value)
    text = one_line(said(value))
    return json.dumps(text, ensure_ascii=False) if not text or _SPLITS.search(text) else text


def _hidden(found: re.Match[str]) -> str:
    start, end = found.span(1 if found.re.groups else 0)
    return found.string[found.start() : start] + HIDDEN + found.string[end : found.end()]
