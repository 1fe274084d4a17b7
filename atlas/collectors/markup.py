"""Plain text from markup, in time that grows with its length alone.

The standard library's HTML parser is not used: on 3.11 forty kilobytes of ``<a <a <a`` hold it, and every other thread,
for twenty seconds. Here a tag never reaches beyond the next ``<``, so nothing is looked at twice.
"""

from __future__ import annotations

import html
import re
from typing import Final

MAX_TEXT: Final = 200_000
"""Longest text of one article in characters; what is cut off is marked with ``…``."""

_TAG: Final = re.compile(r"""<(/?)([a-zA-Z][\w:-]*)(?:(?:[^<>"']|"[^"<]*"|'[^'<]*')*+>|[^<>]*>)|<[!?][^<>]*>""")
_HIDDEN: Final = frozenset({"script", "style", "template", "head", "svg", "iframe", "noscript", "object"})
_INLINE: Final = re.compile(
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|img|ins|kbd|mark|nobr|q|rp|rt|ruby|s|samp|small|span"
    "|strike|strong|sub|sup|time|tt|u|var|wbr"
)
_LONG_REFERENCE: Final = re.compile(r"&#(?:\d{8,}|[xX][0-9a-fA-F]{7,});?")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u200b\u2028\u2029\ufeff]")
"""Characters no text needs: databases refuse some, terminals obey others."""


def clean(text: str) -> str:
    """``text`` on one line: no control characters, single spaces."""
    return " ".join(_CONTROL.sub("", text).split())


def text_of(markup: str) -> str:
    r"""The text of an HTML fragment: a line per block, no empty lines, at most `MAX_TEXT` characters.

    >>> text_of("<p>Fish &amp; <b>chips</b></p><script>alert(1)</script><p>Peas")
    'Fish & chips\nPeas'
    """
    pieces: list[str] = []
    hidden: str | None = None
    at = 0
    markup = _without_comments(markup)
    for tag in _TAG.finditer(markup):
        if hidden is None:
            pieces.append(markup[at : tag.start()])
        at = tag.end()
        name = (tag[2] or "").lower()
        if hidden is not None:
            if name == hidden and tag[1]:
                hidden = None
        elif name in _HIDDEN and not tag[1] and not tag[0].endswith("/>"):
            hidden = name
        elif name and not _INLINE.fullmatch(name):
            pieces.append("\n")
    if hidden is None:
        pieces.append(markup[at:])
    return plain("".join(piece if piece == "\n" else _spaced(piece) for piece in pieces), unescape=True)


def plain(text: str, *, unescape: bool = False) -> str:
    """Text whose lines are kept: each one is cleaned, empty ones are dropped, at most `MAX_TEXT` characters."""
    if unescape:
        text = html.unescape(_LONG_REFERENCE.sub("\ufffd", text))
    lines = "\n".join(line for line in map(clean, text.splitlines()) if line)
    return lines if len(lines) <= MAX_TEXT else lines[: MAX_TEXT - 1] + "…"


def _spaced(piece: str) -> str:
    # A line break in HTML source is a space.
    return piece.replace("\r", " ").replace("\n", " ")


def _without_comments(markup: str) -> str:
    first, *others = markup.split("<!--")
    return first + "".join(rest.partition("-->")[2] for rest in others)
