"""Turns the bytes of a document into text, believing the bytes before any header or declaration.

Order: byte order mark; the zero bytes of UTF-16; strict UTF-8; what header and document declare; gb18030 where the
bytes look Chinese. A declaration that the bytes contradict is a lie, and lies are common: UTF-8 declared, GBK sent.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ZEROS: Final = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))

# Browsers read these names as the larger set, since that is what pages are written in (WHATWG Encoding).
_LARGER: Final = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "cp936": "gb18030",
    "big5": "big5hkscs",
    "cp950": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
}
_SHIFTING: Final = {"iso2022_jp", "iso2022_kr", "hz"}
"""Encodings that look like ASCII: they must be believed before UTF-8 is tried."""

_BELIEVED: Final = re.compile(r"ascii|big5|cp\d|euc_|gb|hz$|iso|johab|koi8|kz|mac-|shift|tis|utf-8$")
"""Python knows codecs that no document is written in (``punycode``, ``unicode_escape``); some are slow by design."""

_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_DECLARED: Final = re.compile(
    rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})|<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w.:-]{1,40})",
    re.IGNORECASE,
)
_HIGH_RUN: Final = re.compile(rb"[\x80-\xff]+")

FEW_BAD: Final = 0.02
"""Share of broken characters up to which a text still counts as being in an encoding."""


def decode(body: bytes, content_type: str = "") -> str:
    """The text of ``body``; what cannot be read becomes U+FFFD."""
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    for start, encoding in _ZEROS:
        if body[:100].lstrip().startswith(start):
            return body.decode(encoding, "replace")
    declared = list(dict.fromkeys(_declared(body, content_type)))
    tries = [encoding for encoding in declared if encoding in _SHIFTING]
    tries += ["utf-8", *(encoding for encoding in declared if not encoding.startswith("cp125"))]
    if _looks_chinese(body):
        tries.append("gb18030")
    tries += [*declared, "cp1252"]
    return _first_strict(body, tries) or _best_of(body, tries)


def _first_strict(body: bytes, encodings: list[str]) -> str | None:
    for encoding in encodings:
        try:
            return body.decode(encoding)
        except UnicodeDecodeError:
            if encoding == "utf-8" and (text := _nearly(body, encoding)) is not None:
                return text  # a few broken bytes do not turn UTF-8 into something else
    return None


def _best_of(body: bytes, encodings: list[str]) -> str:
    texts = (_nearly(body, encoding) for encoding in encodings)
    return next((text for text in texts if text is not None), body.decode("utf-8", "replace"))


def _nearly(body: bytes, encoding: str) -> str | None:
    """The text if no more than a few of its characters beyond ASCII are broken."""
    text = body.decode(encoding, "replace")
    foreign = len(text) - sum(map(len, re.findall(r"[\0-\x7f]+", text)))
    return text if text.count("\ufffd") <= FEW_BAD * foreign else None


def _declared(body: bytes, content_type: str) -> Iterator[str]:
    header = _CHARSET.search(content_type)
    inside = _DECLARED.search(body[:4096])
    names = [header[1]] if header else []
    names += [(inside[1] or inside[2]).decode("ascii", "replace")] if inside else []
    for name in names:
        try:
            codec = codecs.lookup(name).name
        except (LookupError, ValueError):
            continue
        if _BELIEVED.match(codec):
            yield _LARGER.get(codec, codec)


def _looks_chinese(body: bytes) -> bool:
    """True if most bytes beyond ASCII stand side by side, as in pairs; in Western text they stand alone."""
    runs = [len(run) for run in _HIGH_RUN.findall(body)]
    return 2 * sum(run for run in runs if run > 1) > sum(runs)
