"""Arguments of functions as the JSON text that rows hold, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_TEXT: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_VALUE: Final = json.JSONDecoder().decode
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_SIMPLE: Final = frozenset({str, int})


def encode_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Arguments as the JSON text a row holds.

    Raises:
        ArgumentsError: They are not equal to their JSON round trip (objects, NaN, sets, keys that are not text).
    """
    given: dict[str, Any]
    try:
        if not kwargs and _SIMPLE.issuperset(map(type, args)):  # for a dict the library makes an encoder at each call
            text = f'{{"args":[{",".join(map(_simple_text, args))}],"kwargs":{{}}}}'
            if text.isascii():
                return text
        given = {"args": list(args), "kwargs": dict(kwargs)}
        text = _TEXT(given)
        if text.isascii() and _are_plain(args) and _are_plain(kwargs.values()) and _are_text(kwargs):
            return text
        if not _fits_a_row(text):
            text = json.dumps(given, allow_nan=False, separators=(",", ":"))
        same = _same(_VALUE(text), given)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentsError(Message("arguments are not JSON: {error}", error=error)) from None
    if not same:
        msg = Message("arguments change on their way through JSON (tuples, enums and keys that are not text do)")
        raise ArgumentsError(msg)
    return text


def _simple_text(value: str | int) -> str:
    return _TEXT(value) if type(value) is str else str(value)


def _are_plain(values: Iterable[object]) -> bool:
    """True if each comes back from JSON as it went; within lists and objects that must be tried."""
    return _PLAIN.issuperset(map(type, values))


def _are_text(keys: Iterable[object]) -> bool:
    return all(type(key) is str for key in keys)


def _fits_a_row(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, as `os.fsdecode` makes them; escaped they are fine
        return False
    return True


def decode_arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that `encode_arguments` wrote."""
    raw = _VALUE(text)
    return raw["args"], raw["kwargs"]


def _same(left: object, right: object) -> bool:
    # == would take True for 1 and 1 for 1.0; the types must agree as well.
    kind = type(left)
    if kind is not type(right):
        return False
    if kind in _PLAIN:
        return left == right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right
