"""What a JSON syntax error means in plain words, and the smallest repair that lets reading go on behind it.

A repair replaces characters one for one, so that offsets behind it stay true. Where no repair is sure to be what was
meant, there is none: a wrong guess would report errors that are not there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from atlas.scheduler.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable


class Diagnosis(NamedTuple):
    """A syntax error."""

    offset: int
    """Where it begins, 0-based."""
    end: int
    message: str
    mended: str | None
    """The text with the repair, of the same length; None if nothing behind the error can be trusted."""


CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that move the cursor, turn the direction of writing or break a line, and no text for people needs."""
_SPACES: Final = " \t\n\r"
_WORD: Final = re.compile(r"[^\W\d]\w*")
_NUMBER_LIKE: Final = re.compile(r"[-+.\w]+")
_COMMENT: Final = re.compile(r"//[^\r\n]*|#[^\r\n]*|/\*.*?\*/", re.DOTALL)
_SINGLE_QUOTED: Final = re.compile(r"""'([^'"\\\r\n]*)'""")
_CURLY_QUOTED: Final = re.compile(r'[“”„«]([^“”„«»"\\\r\n]*)[“”»]')
_WORDS: Final = {"true": "true", "false": "false", "null": "null", "none": "null"}
_HALF_WORDS: Final = frozenset({"t", "tr", "tru", "f", "fa", "fal", "fals", "n", "nu", "nul", "-"})
_SHOWN: Final = 20
_MERGE_MARK: Final = re.compile(r"^(?:<{7}|\|{7}|={7}|>{7})(?: [^\r\n]*)?$", re.MULTILINE)
BACK: Final = Message(
    "'atlas rollback N' writes an accepted version back, 'atlas revisions' lists them; {empty} would be no jobs",
    empty='{"cron_jobs": {}}',
)
"""What to do where the file holds nothing any more. An empty one must not be proposed: it would be obeyed."""


def printable(text: str) -> str:
    r"""``text`` with every control character written as ``\uXXXX``, so that no terminal obeys it."""
    return CONTROL.sub(lambda found: _escape(found[0]), text)


def _escape(one: str) -> str:
    return f"\\u{ord(one):04x}"


def diagnose(text: str, at: int, reason: str) -> Diagnosis:
    """Explain the error that the standard library's scanner met at ``at`` for ``reason`` (its own words)."""
    for explain in _CASES:
        found = explain(text, at, reason)
        if found is not None:
            return found
    shown = printable(text[at : at + _SHOWN].strip().partition("\n")[0])
    expected = {
        "Expecting ',' delimiter": Message("a comma or a closing bracket"),
        "Expecting ':' delimiter": Message("a colon after the key"),
        "Expecting property name enclosed in double quotes": Message("a key in double quotes"),
    }.get(reason, Message("a value"))
    message = Message("{shown} does not belong here; expected {expected}", shown=repr(shown), expected=expected)
    return Diagnosis(at, at + 1, message, None)


# Each case gets the text, the scanner's offset and its reason, and answers None when it is not the one.


def _empty(text: str, _at: int, _reason: str) -> Diagnosis | None:
    if text.strip(_SPACES):
        return None
    message = Message("the file is empty; {remedy}", remedy=BACK)
    return Diagnosis(0, 0, message, None)


def _merge_mark(text: str, at: int, _reason: str) -> Diagnosis | None:
    match = _MERGE_MARK.match(text, at)
    if match is None:
        return None
    message = Message("a merge left its marks here; keep one of the two versions, and remove the lines that mark them")
    return Diagnosis(at, match.end(), message, None)


def _bad_escape(text: str, at: int, reason: str) -> Diagnosis | None:
    if "escape" not in reason:
        return None
    start = text.rfind("\\", 0, at + 1)
    message = Message("this backslash begins no valid escape; for the backslash itself write two")
    return Diagnosis(start, start + 2, message, _replaced(text, start, "/"))


def _control_character(text: str, at: int, reason: str) -> Diagnosis | None:
    if not reason.startswith("Invalid control character"):
        return None
    if text[at] in "\r\n":
        message = Message(
            "quoted text that does not end on its line; add the closing quote, or write \\n for a new line"
        )
        return Diagnosis(at, at, message, None)
    short = {"\t": "\\t", "\b": "\\b", "\f": "\\f"}.get(text[at], _escape(text[at]))
    message = Message("a raw control character in quoted text; write {short}", short=short)
    return Diagnosis(at, at, message, _replaced(text, at, " "))


def _cut_off(text: str, at: int, reason: str) -> Diagnosis | None:
    end = len(text.rstrip(_SPACES))
    if at < end and not reason.startswith("Unterminated string") and text[at:end] not in _HALF_WORDS:
        return None
    message = Message("the text ends in the middle; the file is cut off, or a closing bracket is missing")
    return Diagnosis(end, end, message, None)


def _comment(text: str, at: int, _reason: str) -> Diagnosis | None:
    match = _COMMENT.match(text, at)
    if match is None:
        return None
    message = Message('JSON has no comments; put the note into a key that begins with x_, such as "x_note"')
    return Diagnosis(at, match.end(), message, _replaced(text, at, re.sub(r"[^\r\n]", " ", match[0])))


def _needless_comma(text: str, at: int, reason: str) -> Diagnosis | None:
    before = _last_before(text, at)
    if text[at] in "]}," and before >= 0 and text[before] == ",":
        comma = before if text[at] != "," else at
    elif text[at] == "," and (text[before] in "[{" or reason.startswith("Illegal trailing comma")):
        comma = at
    else:
        return None
    return Diagnosis(comma, comma + 1, Message("a comma too many; remove it"), _replaced(text, comma, " "))


def _foreign_character(text: str, at: int, _reason: str) -> Diagnosis | None:
    quoted = _CURLY_QUOTED.match(text, at)
    if quoted is not None:
        mended = _replaced(text, at, f'"{quoted[1]}"')
        return Diagnosis(at, quoted.end(), Message('curly quotes; JSON needs straight ones (")'), mended)
    plain = ""
    while at + len(plain) < len(text) and (one := _plain(text[at + len(plain)])):
        plain += one
    if not plain:
        return None
    end = at + len(plain)
    if not plain.strip():
        message = Message("an invisible character ({code}); use plain spaces", code=f"U+{ord(text[at]):04X}")
    else:
        message = Message(
            "full-width {wide}; JSON needs {plain}", wide=f"{text[at:end]!r:.{_SHOWN}}", plain=f"{plain!r:.{_SHOWN}}"
        )
    return Diagnosis(at, end, message, _replaced(text, at, plain))


def _plain(one: str) -> str:
    """The ASCII character a full-width or invisible one stands for; empty if it is neither."""
    if one.isascii():
        return ""
    import unicodedata  # its tables are half a megabyte, and most files have no such fault

    plain = unicodedata.normalize("NFKC", one)
    if len(plain) == 1 and plain.isascii():
        return plain
    return " " if unicodedata.category(one) in {"Zs", "Cf", "Zl", "Zp"} else ""


def _single_quotes(text: str, at: int, _reason: str) -> Diagnosis | None:
    match = _SINGLE_QUOTED.match(text, at)
    if match is None:
        return None
    message = Message('single quotes; JSON needs double ones (")')
    return Diagnosis(at, match.end(), message, _replaced(text, at, f'"{match[1]}"'))


def _bare_word(text: str, at: int, reason: str) -> Diagnosis | None:
    match = _WORD.match(text, at)
    if match is None or reason == "Extra data":
        return None
    word = match[0]
    shown = f"{word:.{_SHOWN}}"
    if reason == "Expecting value" and (right := _WORDS.get(word.lower())):
        message = Message("JSON writes {right}, in small letters", right=right)
        return Diagnosis(at, match.end(), message, _replaced(text, at, right))
    if reason.startswith("Expecting property name"):
        message = Message('keys stand in double quotes; write "{shown}"', shown=shown)
        return Diagnosis(at, match.end(), message, None)
    if reason == "Expecting value":
        message = Message('text stands in double quotes; write "{shown}", or true, false or a number', shown=shown)
        return Diagnosis(at, match.end(), message, None)
    return None


def _number_like(text: str, at: int, reason: str) -> Diagnosis | None:
    start = at
    while start and _NUMBER_LIKE.match(text[start - 1]):
        start -= 1
    match = _NUMBER_LIKE.match(text, start)
    if match is None or match.end() <= at or not re.match(r"[-+.]?\d|[-+]", match[0]):
        return None
    if reason == "Extra data" or (start == at and reason != "Expecting value"):
        return None  # a good number in a wrong place
    message = Message(
        "no JSON number; write digits, a decimal point only between digits, no leading zero or plus; or quote it"
    )
    return Diagnosis(start, match.end(), message, None)


def _missing_separator(text: str, at: int, reason: str) -> Diagnosis | None:
    if not reason.startswith("Expecting '"):
        return None
    wanted, name = (",", Message("comma")) if "','" in reason else (":", Message("colon"))
    if text[at] in {",": ";", ":": "="}[wanted]:
        return Diagnosis(at, at + 1, Message("expected a {name} here", name=name), _replaced(text, at, wanted))
    gap = _last_before(text, at) + 1
    if gap == at or text[at] not in '"{[-0123456789tfn':
        return None
    return Diagnosis(gap, gap, Message("a {name} is missing here", name=name), _replaced(text, gap, wanted))


def _extra(text: str, at: int, reason: str) -> Diagnosis | None:
    if reason != "Extra data":
        return None
    if text[at] in "]}":
        return Diagnosis(at, at + 1, Message("one closing bracket too many, or one closed too early above"), None)
    return Diagnosis(at, at + 1, Message("something stands behind the end of the JSON text; remove it"), None)


def _last_before(text: str, at: int) -> int:
    """Offset of the last character before ``at`` that is no space, or -1."""
    return len(text[:at].rstrip(_SPACES)) - 1


def _replaced(text: str, at: int, plain: str) -> str:
    return text[:at] + plain + text[at + len(plain) :]


_CASES: Final[tuple[Callable[[str, int, str], Diagnosis | None], ...]] = (
    _empty,
    _bad_escape,
    _control_character,
    _cut_off,
    _comment,
    _needless_comma,
    _foreign_character,
    _merge_mark,
    _single_quotes,
    _bare_word,
    _number_like,
    _missing_separator,
    _extra,
)
