"""`read_json`: JSON text → its value and everything that is wrong with it.

::

    text ──► C scanner of the standard library ──► value                      the whole cost of a good file
               │ hooks see doubled keys, NaN, 1e999, huge integers
               │ a syntax error is named, repaired in place, and reading goes on
               └──► faults, each with its place

A repair never changes the length of the text, so every offset stays true. RFC 8259 is the rule; beyond it what Python
would accept is refused: doubled keys, numbers that do not fit, nesting deeper than `MAX_DEPTH`, halves of surrogate
pairs.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from atlas.scheduler.jobs_file.json_faults import diagnose
from atlas.scheduler.jobs_file.located_json import Fault, LocatedJson, Member
from atlas.scheduler.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atlas.scheduler.jobs_file.located_json import Path

MAX_DEPTH: Final = 64
"""Objects and arrays inside each other; a jobs file needs six and what its arguments hold."""
MAX_REPAIRS: Final = 20
"""Syntax errors reported at once; each costs one more reading of the text."""
_OPENING: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(text: str) -> LocatedJson:
    """Read ``text``; never raises, whatever it holds."""
    faults: list[Fault] = []
    repaired = text
    while len(faults) < MAX_REPAIRS:
        hooks = _Hooks()
        try:
            value = hooks.load(repaired)
        except json.JSONDecodeError as error:
            offset, end, message, mended = diagnose(repaired, error.pos, error.msg)
            faults.append(Fault(offset, end, message))
            if mended is None:
                break
            repaired = mended
        except RecursionError:
            faults.append(_too_deep(repaired))
            break
        else:
            if _is_deeper(value, MAX_DEPTH):
                faults.append(_too_deep(repaired))
                break
            return _examined(LocatedJson(text, value, tuple(faults), complete=True, repaired=repaired), hooks)
    return LocatedJson(text, None, tuple(faults), complete=False, repaired=repaired)


def _examined(document: LocatedJson, hooks: _Hooks) -> LocatedJson:
    """``document`` with the faults that no scanner reports."""
    halves = _HALF.search(document.repaired) is not None and not _is_encodable(document.value)
    if not hooks.seen and not halves:
        return document
    holder = [document.value]
    faults = [*document.faults, *_faults_inside(document, holder, 0, ())]
    faults.sort(key=lambda fault: fault.offset)
    return replace(document, value=None if halves else holder[0], faults=tuple(faults), complete=not halves)


# --- what the C scanner lets pass ------------------------------------------------------------------------------------


class _Unusable(NamedTuple):
    """Stands for a value that was refused, until its place is known."""

    message: str


class _Doubled(dict[str, Any]):
    """An object with a key that stands in it more than once."""


class _Hooks:
    """Called by the C scanner for what it would let pass; ``seen`` tells whether there was anything."""

    def __init__(self) -> None:
        self.seen = False
        self._texts: dict[str, str] = {}  # equal values are one object: jobs have many in common

    def load(self, text: str) -> Any:
        return json.loads(
            text,
            object_pairs_hook=self.pairs,
            parse_int=self.integer,
            parse_float=self.number,
            parse_constant=self.constant,
        )

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        texts = self._texts
        value = {key: texts.setdefault(one, one) if isinstance(one, str) else one for key, one in pairs}
        if len(value) == len(pairs):
            return value
        self.seen = True
        return _Doubled(value)

    def integer(self, text: str) -> int | _Unusable:
        if len(text) < 19 or (len(text) < 21 and -(2**63) <= int(text) < 2**63):
            return int(text)
        self.seen = True
        return _Unusable(
            Message("this integer does not fit in 64 bits; write a smaller one, or put it in quotes as text")
        )

    def number(self, text: str) -> float | _Unusable:
        value = float(text)
        if math.isfinite(value):
            return value
        self.seen = True
        return _Unusable(Message("this number is too large for a float (about 1.8e308); write a smaller one"))

    def constant(self, text: str) -> _Unusable:
        self.seen = True
        return _Unusable(Message("{text} is not JSON; write a finite number, or leave the key out", text=text))


def _faults_inside(document: LocatedJson, holder: Any, key: Any, path: Path) -> Iterator[Fault]:
    """The faults in ``holder[key]``, which stands at ``path``; what is unusable becomes None."""
    value = holder[key]
    if isinstance(value, _Unusable):
        at = document.member(path)
        holder[key] = None
        yield Fault(at.start, at.end, value.message, path)
    elif isinstance(value, str) and not _is_encodable(value):
        at = document.member(path)
        yield Fault(at.start, at.end, _HALF_MESSAGE, path)
    elif isinstance(value, dict):
        if isinstance(value, _Doubled):
            yield from _doubled_keys(document, path)
        for name in value:
            if not _is_encodable(name):
                at = document.member((*path, name))
                yield Fault(at.key_start, document.key_end(at.key_start), _HALF_MESSAGE)
            yield from _faults_inside(document, value, name, (*path, name))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from _faults_inside(document, value, index, (*path, index))


_HALF_MESSAGE: Final = Message(
    "half of a surrogate pair (\\ud800 to \\udfff alone) is no character; write the character itself"
)


def _doubled_keys(document: LocatedJson, path: Path) -> Iterator[Fault]:
    first: dict[str | int, Member] = {}
    for member in document.members(document.member(path).start):
        if member.key in first:
            line, column = document.position(first[member.key].key_start)
            message = Message(
                "this key stands here a second time, first at {line}:{column}; keep one of them",
                line=line,
                column=column,
            )
            end = document.key_end(member.key_start)
            yield Fault(member.key_start, end, message, (*path, member.key))
        else:
            first[member.key] = member


def _is_encodable(value: Any) -> bool:
    try:
        (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


_DEEP: Final = Message("nested deeper than {n} levels; flatten the value", n=MAX_DEPTH)


def _too_deep(text: str) -> Fault:
    depth = 0
    for match in _OPENING.finditer(text):
        if match[0] in ("{", "["):
            depth += 1
            if depth > MAX_DEPTH:
                return Fault(match.start(), match.end(), _DEEP)
        elif match[0] in ("}", "]"):
            depth -= 1
    return Fault(0, 0, _DEEP)  # pragma: no cover
