"""Durations as people write them, ``90``, ``"5m"``, ``"1h30m"``, and as they read them, ``4m 33s``."""

from __future__ import annotations

import math
import re
from typing import Final

from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.message import Message, message_of

UNITS_S: Final = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
"""Seconds in one unit, longest first: the order in which a text may name them."""

LONGEST_S: Final = 100 * 366 * 86_400.0
"""A hundred years; more is a slip of the pen, and would overflow dates."""

_WORDS: Final = {
    word: unit
    for unit, words in {
        "w": "w week weeks",
        "d": "d day days",
        "h": "h hr hour hours",
        "m": "m min minute minutes",
        "s": "s sec second seconds",
        "ms": "ms",
    }.items()
    for word in words.split()
}
_PART: Final = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]+)", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII)
_HINT: Final = Message('write seconds (300) or units from week to ms, longest first: "5m", "1h30m", "14 days"')


def parse_duration(value: object) -> float:
    """Seconds that ``value`` stands for, 0 included.

    Numbers are seconds. Text is a number of seconds or parts of number and unit (w, d, h, m, s, ms, or the words),
    longest unit first, each once, in any case, with or without spaces.

    >>> parse_duration("1h30m"), parse_duration("4m 33s"), parse_duration(2.5), parse_duration("14 days")
    (5400.0, 273.0, 2.5, 1209600.0)

    Raises:
        ArgumentsError: Not a number or text, negative, not finite, over a hundred years, or not in the form above.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ArgumentsError(Message("a duration is a number or text; {hint}", hint=_HINT))
    seconds = _read(value) if isinstance(value, str) else value
    if not 0 <= seconds <= LONGEST_S:  # also refuses NaN
        raise ArgumentsError(Message("a duration lies between 0 and a hundred years"))
    return float(seconds)


def _read(text: str) -> float:
    """Seconds in ``text``, which may be out of bounds."""
    rest = text.strip().lower()
    if _NUMBER.fullmatch(rest):
        return float(rest)
    total, units = 0.0, list(UNITS_S)
    while rest:
        part = _PART.match(rest)
        unit = _WORDS.get(part[2]) if part else None
        if part is None or unit is None:
            raise ArgumentsError(
                Message("cannot read this duration at {text}; {hint}", text=f"{rest.strip()!r:.40}", hint=_HINT)
            )
        if unit not in units:
            raise ArgumentsError(
                Message("unit {unit} stands after a shorter one or twice; {hint}", unit=repr(part[2]), hint=_HINT)
            )
        del units[: units.index(unit) + 1]
        total += float(part[1]) * UNITS_S[unit]
        rest = rest[part.end() :].strip()
    if len(units) == len(UNITS_S):
        raise ArgumentsError(Message("an empty text is no duration; {hint}", hint=_HINT))
    return total


def seconds(name: str, value: object) -> float:
    """A duration given as seconds or text.

    Raises:
        ArgumentsError: It is neither; ``name`` is in the message.
    """
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ArgumentsError(Message("{name}: {what}", name=name, what=message_of(error))) from None


def format_duration(seconds: float) -> str:
    """``seconds`` for people: the two largest units, or seconds with a fraction below a minute.

    What is cut off is less than half of the last unit shown, so the text parses back to nearly the same time.

    >>> [format_duration(s) for s in (0, 0.0042, 0.41, 11.8, 58.24, 273, 362, 4500, 33840, 86400, 2592000)]
    ['0s', '4ms', '0.41s', '11.8s', '58.2s', '4m 33s', '6m 02s', '1h 15m', '9h 24m', '1d', '30d']

    Raises:
        ArgumentsError: ``seconds`` is negative or not finite.
    """
    if not math.isfinite(seconds) or seconds < 0:
        raise ArgumentsError(f"no duration: {seconds}")
    if seconds < 0.0995:
        return f"{round(seconds * 1000)}ms" if seconds >= 0.0005 else "0s"
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 0.995 else 1}f}".rstrip("0").rstrip(".") + "s"
    large, small = ("m", "s") if seconds < 3_599.5 else ("h", "m") if seconds < 86_370 else ("d", "h")
    count, rest = divmod(round(seconds / UNITS_S[small]), round(UNITS_S[large] / UNITS_S[small]))
    return f"{count}{large}" + (f" {rest:{'02' if small == 's' else ''}}{small}" if rest else "")
