"""Makes a feed's text fit to parse: entity tricks are refused, common slips are mended, what makes parsers slow is cut.

Every step looks at a character a bounded number of times. The parser behind it does not: a hundred kilobytes of line
breaks before the first element hold feedparser for eighty seconds, a start tag with ten thousand attributes for eight.
"""

from __future__ import annotations

import html.entities
import re
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from atlas.collectors.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ATTRIBUTES: Final = 200
MAX_WORD: Final = 2000

_REFERENCE: Final = re.compile(r"&(?:#(\d{1,7}|[xX][0-9a-fA-F]{1,6});|([a-zA-Z][a-zA-Z0-9]{1,31});)?")
_XML_NAMES: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})
_ILLEGAL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_LONG_WORD: Final = re.compile(rf"(?<![\w.+-])([\w.+-]{{{MAX_WORD}}})[\w.+-]+", re.ASCII)
_TAG: Final = re.compile(r"<[^<>]+")
_CATEGORY: Final = re.compile(r"</?(?:category|keywords)\b[^<>]*>", re.IGNORECASE)
"""Not stored, and feedparser compares each with all before it."""


def root_at(text: str) -> int:
    """Where the first element begins, −1 if there is none.

    Raises:
        SourceError: Entities are declared before it: nothing a feed needs, and how parsers are blown up.
    """
    at = text.find("<")
    while at >= 0:
        if text.startswith("<!--", at):
            at = text.find("-->", at)
        elif text.startswith("<?", at):
            at = text.find("?>", at)
        elif text[at + 1 : at + 8].upper() == "!ENTITY":
            raise SourceError("its DOCTYPE declares entities, which are not read")
        elif text[at + 1 : at + 2].isalpha() or text[at + 1 : at + 2] == "_":
            return at
        at = text.find("<", at + 1) if at >= 0 else at
    return at


def mended(document: str) -> bytes:
    """A feed's text from its first element on, as UTF-8.

    Raises:
        SourceError: It is made to be slow.
    """
    text = "".join(_mended_parts(_LONG_WORD.sub(r"\1", _ILLEGAL.sub("", document))))
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + text.encode()


def _mended_parts(text: str) -> Iterator[str]:
    first, *others = text.split("<![CDATA[")
    yield _outside(first)
    for other in others:
        inside, end, after = other.partition("]]>")
        yield "<![CDATA[" + inside + end
        yield _outside(after)


def _outside(text: str) -> str:
    """A stretch outside of CDATA."""
    text = _CATEGORY.sub("", text)
    if any(tag.count("=") > MAX_ATTRIBUTES for tag in _TAG.findall(text)):
        raise SourceError(f"an element has more than {MAX_ATTRIBUTES} attributes")
    return _REFERENCE.sub(_reference, text)


def _reference(match: re.Match[str]) -> str:
    number, name = match[1], match[2]
    if number:
        code = int(number[1:], 16) if number[0] in "xX" else int(number)
        return "\ufffd" if code > 0x10FFFF or _ILLEGAL.match(chr(code)) else match[0]
    if name in _XML_NAMES:
        return match[0]
    if name and (known := html.entities.html5.get(name + ";")):
        return escape(known)
    return "&amp;" + match[0][1:]
