"""The kinds of single values in the jobs file: how each is checked, what its error says, and its JSON Schema."""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from atlas.scheduler.durations import parse_duration
from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.jobs_file.json_faults import CONTROL
from atlas.scheduler.message import Message
from atlas.scheduler.nearest import nearest
from atlas.scheduler.task import MAX_ID, TaskPriority
from atlas.scheduler.zones import zone_named

if TYPE_CHECKING:
    from collections.abc import Iterable

NOTE: Final = "x_"
"""Keys that begin so are notes for people."""
NULL: Final = object()
"""Stands for ``null``, so that an optional field does not take it for "not set"."""


def without_notes(raw: Any) -> Any:
    """``raw`` without notes, if it is an object, and with `NULL` for ``null``."""
    if not isinstance(raw, dict):
        return raw
    return {key: NULL if value is None else value for key, value in raw.items() if not key.startswith(NOTE)}


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """A proposal to put behind a message, quoted as the file has to: the name in ``known`` most like ``word``."""
    meant = nearest(word, known)
    return "" if meant is None else Message("; did you mean {name}?", name=json.dumps(meant, ensure_ascii=False))


def _line(text: str) -> str:
    if CONTROL.search(text):
        raise ArgumentsError(Message("a control character; write plain text in one line"))
    if not text.strip():
        raise ArgumentsError(Message("empty text; write something, or leave the key out"))
    return text


def _paragraphs(text: str) -> str:
    if CONTROL.search(text.replace("\n", "").replace("\t", "")):
        raise ArgumentsError(Message("a control character; write plain text"))
    return text


def _id(text: str) -> str:
    if CONTROL.search(text) or text != text.strip():
        raise ArgumentsError(Message("an id with a control character or with spaces around it; write plain text"))
    return text


def _priority(value: Any) -> TaskPriority:
    if not isinstance(value, str) or value.upper() not in TaskPriority.__members__:
        names = [priority.name for priority in TaskPriority]
        raise ArgumentsError(
            Message("none of {names}{proposal}", names=", ".join(names), proposal=did_you_mean(value, names))
        )
    return TaskPriority[value.upper()]


def _version(value: Any) -> Any:
    if type(value) is not int and value is not NULL:  # True and 1.0 are equal to 1
        raise ArgumentsError(Message("it must be 1"))
    return value


def _zone(name: str) -> str:
    return zone_named(name).key


def _duration(value: Any) -> float:
    return _duration_text(value) if isinstance(value, str) else parse_duration(value)


_duration_text = lru_cache(maxsize=1024)(parse_duration)


def _one_or_many(value: Any) -> Any:
    if not isinstance(value, str | list) and value is not NULL:
        raise ArgumentsError(
            Message('no cron text; write one in double quotes, such as "0 9 * * mon-fri", or a list of them')
        )
    return [value] if isinstance(value, str) else value


_MOMENT: Final = re.compile(r"(\d{4})-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?", re.ASCII)
_SPAN: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:/(\d{4}-\d\d-\d\d))?", re.ASCII)


def _moment(value: Any) -> datetime:
    found = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ArgumentsError(
            Message('no date with time; write "2026-10-01T09:00", or with an offset "2026-10-01T09:00+08:00"')
        )
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise ArgumentsError(Message("no such date or time: {error}", error=error)) from None
    if not 1970 <= moment.year <= 2199:
        raise ArgumentsError(Message("year {year} is out of range; years are 1970 to 2199", year=found[1]))
    return moment


def _span(value: Any) -> tuple[date, date]:
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ArgumentsError(Message('no date; write "2026-10-01", or "2026-10-01/2026-10-07" for first and last day'))
    try:
        first = date.fromisoformat(found[1])
        last = date.fromisoformat(found[2] or found[1])
    except ValueError as error:
        raise ArgumentsError(Message("no such date: {error}", error=error)) from None
    if last < first:
        raise ArgumentsError(Message("ends before it begins; write {last}/{first}", last=last, first=first))
    return first, last


_DURATION_SCHEMA: Final[dict[str, list[Any]]] = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([A-Za-z]+(\s*\d+(\.\d+)?\s*[A-Za-z]+)*)?\s*$"},
    ],
    "examples": [300, "5m", "1h30m"],
}
_POSITIVE_SCHEMA: Final = _DURATION_SCHEMA | {
    "anyOf": [{"type": "number", "exclusiveMinimum": 0}, *_DURATION_SCHEMA["anyOf"][1:]]
}
_PRIORITY_SCHEMA: Final = {
    "anyOf": [
        {"enum": [priority.name for priority in TaskPriority]},
        {"pattern": "^(" + "|".join("".join(f"[{one}{one.lower()}]" for one in p.name) for p in TaskPriority) + ")$"},
    ]
}
_CRON_SCHEMA: Final = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
    "examples": ["0 9 * * mon-fri", "*/15 * * * *", "@hourly", ["0 9 * * mon-fri", "0 11 * * sat,sun"]],
}
_MOMENT_SCHEMA: Final = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?$",
    "examples": ["2026-10-01T09:00", "2026-10-01T09:00:00+08:00"],
}
_SPAN_SCHEMA: Final = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\d(/\d{4}-\d\d-\d\d)?$",
    "examples": ["2026-10-10", "2026-10-01/2026-10-07"],
}

Line = Annotated[str, AfterValidator(_line)]
Paragraphs = Annotated[str, AfterValidator(_paragraphs)]
Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
PositiveDuration = Annotated[float, BeforeValidator(_duration), Field(gt=0), WithJsonSchema(_POSITIVE_SCHEMA)]
Priority = Annotated[TaskPriority, BeforeValidator(_priority), WithJsonSchema(_PRIORITY_SCHEMA)]
CronTexts = Annotated[list[str], BeforeValidator(_one_or_many), Field(min_length=1), WithJsonSchema(_CRON_SCHEMA)]
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema(_MOMENT_SCHEMA)]
Span = Annotated[tuple[date, date], BeforeValidator(_span), WithJsonSchema(_SPAN_SCHEMA)]
Version = Annotated[Literal[1], BeforeValidator(_version)]
Zone = Annotated[str, AfterValidator(_zone), Field(examples=["Asia/Shanghai", "Europe/Berlin", "UTC"])]
ErrorName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID), AfterValidator(_id)]
Named = Field(strict=False)  # an enum member by its value, as it stands in the file
