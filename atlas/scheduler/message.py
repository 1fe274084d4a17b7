"""A sentence that keeps what it was made of: English as it stands, and ready for another language."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_INSTANT: Final = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[+-]\d\d:\d\d|Z)")


class Message(str):
    """English text, with its pattern and the values in it.

    It is a text like any other; whoever shows it in another language looks up ``pattern`` and puts ``values`` in, which
    may themselves be such texts.

    >>> one = Message("{n} of {total} running", n=2, total=Message("at most {m}", m=5))
    >>> one, one.pattern, one.values["total"].pattern
    ('2 of at most 5 running', '{n} of {total} running', 'at most {m}')
    """

    __slots__ = ("pattern", "values")

    pattern: str
    values: dict[str, Any]

    def __new__(cls, pattern: str, **values: Any) -> Self:
        """The text of ``pattern`` with ``values`` in its braces."""
        made = super().__new__(cls, pattern.format(**values))
        made.pattern, made.values = pattern, values
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Another process gets the English text alone."""
        return str, (str(self),)

    def __deepcopy__(self, _memo: object) -> Self:
        """Itself: it never changes."""
        return self


def reason_of(error: Exception) -> str:
    """Why the operating system refused something, ready for another language; any other error as it stands."""
    reason = getattr(error, "strerror", None)
    return Message(reason) if isinstance(reason, str) and not {"{", "}"} & set(reason) else str(error)


def with_instants(text: str, shown: Callable[[datetime], str]) -> str:
    """``text`` with each instant in it, which the engine writes in ISO 8601 with its offset, as ``shown`` says it.

    >>> with_instants("paused until 2026-11-30T12:11+00:00: why not", lambda at: f"{at:%d %b}")
    'paused until 30 Nov: why not'
    """

    def said(found: re.Match[str]) -> str:
        try:
            return shown(datetime.fromisoformat(found[0]))
        except ValueError:  # a thirteenth month: it only looks like one
            return found[0]

    return _INSTANT.sub(said, text)


def parts_of(text: str) -> Any:
    """``text`` as a JSON value that keeps what it was made of: a text, or a pattern with its values.

    >>> parts_of(Message("{n} of {total}", n=2, total=Message("at most {m}", m=5)))
    ['{n} of {total}', {'n': '2', 'total': ['at most {m}', {'m': '5'}]}]
    """
    if not isinstance(text, Message):
        return text
    return [
        text.pattern,
        {name: parts_of(one if isinstance(one, str) else str(one)) for name, one in text.values.items()},
    ]


def from_parts(parts: Any) -> str:
    """The text that `parts_of` took apart.

    Raises:
        ValueError: It is nothing that `parts_of` makes.
    """
    match parts:
        case str():
            return parts
        case [str() as pattern, dict() as values]:
            try:
                return Message(pattern, **{name: from_parts(one) for name, one in values.items()})
            except (KeyError, IndexError) as error:
                raise ValueError(f"the pattern {pattern!r} has no such value: {error}") from None
        case _:
            raise ValueError(f"not the parts of a text: {parts!r:.80}")


class Both(str):
    """English text that comes with its Chinese, for what has no pattern: a schedule in words."""

    __slots__ = ("zh",)

    zh: str

    def __new__(cls, en: str, zh: str) -> Self:
        """``en``, with ``zh`` beside it."""
        made = super().__new__(cls, en)
        made.zh = zh
        return made


def message_of(error: Exception) -> str:
    """What an error says, with what it was made of where it keeps that."""
    said = error.args[0] if len(error.args) == 1 else None
    return said if isinstance(said, Message) else str(error)


def joined(separator: str, parts: Sequence[str]) -> str:
    """The parts with ``separator`` between them; each keeps what it was made of."""
    if len(parts) < 2:
        return parts[0] if parts else ""
    names = [f"part{number}" for number in range(len(parts))]
    pattern = separator.join(f"{{{name}}}" for name in names)
    return Message(pattern, **dict(zip(names, parts, strict=True)))
