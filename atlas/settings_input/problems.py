"""What a failed check of a pydantic model means in words: what is wrong, and what would be right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, get_args

from pydantic import BaseModel

from atlas.scheduler.nearest import nearest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    Place = tuple[str | int, ...]

LIKE: Final = 0.7
"""How like a known key another one must be to be taken for it, 0 to 1; sections have similar keys."""
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    """What ``error``, which a check by ``model`` gave, means; our own checks say themselves what would be right."""
    if error["type"] == "extra_forbidden":
        return unknown_key(error["loc"], model)
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    reason = "keys and values should stand here" if error["type"] == "model_type" else error["msg"]
    field = _field_at(error["loc"], model)
    reason = reason[:1].lower() + reason[1:]
    return f"{reason} ({field.description})" if field and field.description else reason


def unknown_key(place: Place, model: type[BaseModel]) -> str:
    """What to write in place of the last step of ``place``, which ``model`` does not know."""
    *above, key = place
    section = _model_at(tuple(above), model)
    known = list(section.model_fields) if section else []
    if near := nearest(key, known, cutoff=LIKE):
        return f"unknown key; did you mean {near}?"
    for name, field in model.model_fields.items():
        inner = model_of(field)
        if inner and (near := nearest(key, inner.model_fields, cutoff=LIKE)):
            return f"unknown key; did you mean {name}.{near}?"
    return f"unknown key; known here: {', '.join(known)}"


def shorten(text: str, limit: int = 60) -> str:
    """The first line of ``text``, fit to be shown: no control characters, no user and password of an address."""
    lines = text.strip().splitlines() or [""]
    first = _CREDENTIALS.sub("***", lines[0])
    first = first if first.isprintable() else repr(first)[1:-1]
    return first if len(first) <= limit and len(lines) == 1 else first[: limit - 1] + "…"


def _field_at(place: Place, model: type[BaseModel]) -> FieldInfo | None:
    """The innermost field on the way to ``place``."""
    field: FieldInfo | None = None
    inner: type[BaseModel] | None = model
    for step in place:
        if isinstance(step, int) or inner is None:
            continue
        found = inner.model_fields.get(step)
        field, inner = found or field, model_of(found) if found else None
    return field


def _model_at(place: Place, model: type[BaseModel]) -> type[BaseModel] | None:
    """The model that checks what stands at ``place``."""
    if not place:
        return model
    field = _field_at(place, model)
    return model_of(field) if field else None


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model ``field`` holds, alone or in a list."""
    candidates = (field.annotation, *get_args(field.annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
