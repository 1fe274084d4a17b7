"""Arguments of functions as the JSON text that rows hold, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from atlas.scheduler.errors import ArgumentsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def encode_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Arguments as the JSON text a row holds.

    Raises:
        ArgumentsError: They are not equal to their JSON round trip (objects, NaN, sets, keys that are not text).
    """
    given = {"args": list(args), "kwargs": dict(kwargs)}
    try:
        text = json.dumps(given, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if not _fits_a_row(text):
            text = json.dumps(given, allow_nan=False, separators=(",", ":"))
        same = _same(json.loads(text), given)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"arguments are not JSON: {error}"
        raise ArgumentsError(msg) from None
    if not same:
        msg = "arguments change on their way through JSON (tuples, enums and keys that are not text do)"
        raise ArgumentsError(msg)
    return text


def _fits_a_row(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, as `os.fsdecode` makes them; escaped they are fine
        return False
    return True


def decode_arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that `encode_arguments` wrote."""
    raw = json.loads(text)
    return raw["args"], raw["kwargs"]


def _same(left: object, right: object) -> bool:
    # == would take True for 1 and 1 for 1.0; the types must agree as well.
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right
