"""A sentence that keeps what it was made of: English as it stands, and ready for another language."""

from __future__ import annotations

from typing import Any, Self


class Told(str):
    """English text, with its pattern and the values in it.

    It is a text like any other; whoever shows it in another language looks up ``pattern`` and puts ``values`` in, which
    may themselves be such texts.

    >>> one = Told("{n} of {total} running", n=2, total=Told("at most {m}", m=5))
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


def told_of(error: Exception) -> str:
    """What an error says, with what it was made of where it keeps that."""
    said = error.args[0] if len(error.args) == 1 else None
    return said if isinstance(said, Told) else str(error)


def joined(separator: str, parts: list[str]) -> str:
    """The parts with ``separator`` between them; each keeps what it was made of."""
    if len(parts) < 2:
        return parts[0] if parts else ""
    names = [f"part{number}" for number in range(len(parts))]
    pattern = separator.join(f"{{{name}}}" for name in names)
    return Told(pattern, **dict(zip(names, parts, strict=True)))
