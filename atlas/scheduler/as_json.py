"""Values as JSON holds them: instants as text, members of an enum by their value, dataclasses by their fields."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any


def as_json(value: Any) -> Any:
    """``value`` with everything in it as JSON values."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {as_json(name): as_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return fields_as_json(value) if is_dataclass(value) else value


def fields_as_json(value: Any) -> dict[str, Any]:
    """The fields of a dataclass by name."""
    return {one.name: as_json(getattr(value, one.name)) for one in fields(value)}
