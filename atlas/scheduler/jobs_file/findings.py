"""What a failed check of `JobsDocument` means in words: which value, what is wrong with it, what would be right."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from atlas.scheduler.errors import CronExpressionError
from atlas.scheduler.jobs_file.format import (
    NOT_IN_THIS_RELEASE,
    TRIGGERS_NOT_IN_THIS_RELEASE,
    CalendarEntry,
    DateTrigger,
    IntervalTrigger,
    JobEntry,
    JobsDocument,
    Policies,
)
from atlas.scheduler.jobs_file.values import NULL, did_you_mean
from atlas.scheduler.message import Message, message_of
from atlas.scheduler.task import MAX_ID

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from atlas.scheduler.jobs_file.located_json import Path


class Finding(NamedTuple):
    """One thing wrong with one value.

    Attributes:
        path: The value, or what is missing.
        on_key: The key is at fault, not its value.
        shown: Whether there is a source text to show.
        inside: 0-based position in the text value where the fault begins.
    """

    path: Path
    message: str
    on_key: bool = False
    shown: bool = True
    inside: int | None = None


_SYNONYMS: Final = {
    "cron": "cron_expression",
    "expression": "cron_expression",
    "schedule": "cron_expression",
    "func": "function",
    "handler": "function",
    "task": "function",
    "title": "name",
    "retries": "max_retries",
    "tz": "timezone",
    "time_zone": "timezone",
    "active": "enabled",
    "disabled": "enabled",
    "interval": "every",
    "run_date": "at",
    "date": "at",
    "jobs": "cron_jobs",
}
"""What other schedulers call our fields."""

_OPTIONS: Final = re.compile(r"'([^']*)'|(\d+)")


def findings(error: ValidationError) -> list[Finding]:
    """Every finding in ``error``."""
    return [_finding(one) for one in error.errors(include_url=False)]


def _finding(error: ErrorDetails) -> Finding:
    path, kind = error["loc"], error["type"]
    model = _model_at(path[:-1])
    if len(path) > 4 and path[2] == "triggers" and isinstance(path[3], int):
        path = path[:4] + path[5:]  # pydantic puts the kind of the trigger in between
    if kind == "extra_forbidden":
        return Finding(path, _unknown_key(str(path[-1]), model), on_key=True)
    if path[-1:] == ("[key]",):
        return Finding(path[:-1], _bad_id(error), on_key=True)
    if kind == "missing":
        return Finding(
            path, Message("missing; {remedy}", remedy=_EXAMPLES.get(str(path[-1]), Message("add it"))), shown=False
        )
    if kind == "union_tag_not_found":
        return Finding(path, Message('a trigger needs its type; add "type": "interval" or "type": "date"'))
    if kind == "union_tag_invalid":
        return Finding((*path, "type"), _bad_trigger(error["input"]))
    if error["input"] is NULL or error["input"] is None:
        return Finding(path, Message("null is no value here; leave the key out for the default"))
    return Finding(path, _message(error))


_EXAMPLES: Final = {
    "cron_jobs": Message("the smallest file is {example}", example='{"cron_jobs": {}}'),
    "every": Message('write "every": "10m"'),
    "at": Message('write "at": "2026-10-01T09:00"'),
}


@lru_cache(maxsize=1024)
def _unknown_key(key: str, here: type[BaseModel]) -> str:
    if key in NOT_IN_THIS_RELEASE:
        return Message("not in this release; remove it")
    if _SYNONYMS.get(key) in here.model_fields:
        return Message('unknown key; did you mean "{name}"?', name=_SYNONYMS[key])
    for model, place in _PLACES:
        if model is not here and key in model.model_fields and key not in here.model_fields:
            return Message("unknown key here; it belongs {place}", place=place)
    known = [field.alias or name for name, field in here.model_fields.items()]
    proposal = did_you_mean(key, known)
    if proposal:
        return Message("unknown key{proposal}", proposal=proposal)
    return Message("unknown key; known here: {names}; notes begin with x_", names=", ".join(known))


_PLACES: Final[tuple[tuple[type[BaseModel], str], ...]] = (
    (Policies, Message('in a job or in "defaults"')),
    (JobsDocument, Message("at the top of the file")),
    (JobEntry, Message("in a job")),
)


def _model_at(path: Path) -> type[BaseModel]:
    match path:
        case ("cron_jobs", _):
            return JobEntry
        case ("cron_jobs", _, "triggers", _, "interval"):
            return IntervalTrigger
        case ("cron_jobs", _, "triggers", _, "date"):
            return DateTrigger
        case ("defaults",):
            return Policies
        case ("calendars", _):
            return CalendarEntry
        case _:
            return JobsDocument


def _bad_id(error: ErrorDetails) -> str:
    match error["type"]:
        case "string_too_short":
            return Message("an empty id; give it a name")
        case "string_too_long":
            return Message("an id of {n} characters; at most {most} fit", n=f"{len(error['input']):,}", most=MAX_ID)
        case _:
            return _message(error)


def _bad_trigger(trigger: Any) -> str:
    kind = trigger.get("type") if isinstance(trigger, dict) else None
    if isinstance(kind, str) and kind in TRIGGERS_NOT_IN_THIS_RELEASE:  # it may be a list or an object as well
        return Message("triggers of type {kind} are not in this release; remove it", kind=kind)
    if kind == "cron":
        return Message('a cron text is no trigger; write it as "cron_expression" of the job')
    proposal = did_you_mean(kind, ("interval", "date"))
    return Message('no type of trigger; write "interval" or "date"{proposal}', proposal=proposal)


def _message(error: ErrorDetails) -> str:
    value, ctx = error["input"], error.get("ctx", {})
    match error["type"]:
        case "value_error":
            wrong = ctx["error"]
            return wrong.reason if isinstance(wrong, CronExpressionError) else message_of(wrong)
        case "string_type":
            wanted = json.dumps(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None
            return _wrong_type(value, Message("text in double quotes"), wanted)
        case "bool_type":
            return _wrong_type(value, Message("true or false, without quotes"), None)
        case "int_type" | "int_from_float" | "float_type":
            whole = error["type"] != "float_type"
            wanted = Message("a whole number") if whole else Message("a number")
            return _wrong_type(value, wanted, _as_number(value, whole=whole))
        case "list_type":
            better = json.dumps([value], ensure_ascii=False) if isinstance(value, str) else None
            return _wrong_type(value, Message("a list"), better)
        case "model_type" | "dict_type" | "model_attributes_type":
            return _wrong_type(value, Message("an object in {braces}", braces="{ }"), None)
        case "enum" | "literal_error":
            options = [text or number for text, number in _OPTIONS.findall(ctx["expected"])]
            if len(options) == 1:
                return Message("it must be {what}", what=options[0])
            proposal = did_you_mean(value, options)
            return Message("none of {names}{proposal}", names=", ".join(options), proposal=proposal)
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            word, bound = _BOUNDS[error["type"]]
            limit = Message("{word} {n}", word=word, n=f"{ctx[bound]:,.12g}")
            return Message("out of range; it must be {limit}", limit=_with_unit(limit, error["loc"][-1]))
        case "too_short":
            return Message("an empty list; put something into it, or leave the key out")
        case "string_pattern_mismatch":
            return Message('no name of an exception; write "TimeoutError" or "httpx.TransportError"')
        case _:
            return error["msg"]


_DURATIONS: Final = frozenset({"timeout", "every", "spread"})
_BOUNDS: Final = {
    "greater_than_equal": (Message("at least"), "ge"),
    "less_than_equal": (Message("at most"), "le"),
    "greater_than": (Message("above"), "gt"),
    "less_than": (Message("below"), "lt"),
}


def _with_unit(limit: str, field: str | int) -> str:
    return Message("{limit} seconds", limit=limit) if field in _DURATIONS else limit


def _wrong_type(value: Any, wanted: str, better: str | None) -> str:
    said = Message("this is {kind}; it must be {wanted}", kind=_kind_of(value), wanted=wanted)
    return Message("{said}: {better}", said=said, better=better) if better else said


def _kind_of(value: Any) -> str:
    match value:
        case bool():
            return json.dumps(value)
        case str():
            return Message("text")
        case int() | float():
            return Message("a number")
        case list():
            return Message("a list")
        case dict():
            return Message("an object")
        case _:
            return Message("something else")


def _as_number(value: Any, *, whole: bool) -> str | None:
    try:
        number = float(value) if isinstance(value, str | float) else None
    except ValueError:
        return None
    if number is None or not (-1e15 < number < 1e15) or (whole and number % 1):
        return None
    return f"{number:.0f}" if whole else f"{number:g}"
