"""What a task returned, for people: in a line, or in full with what went wrong first."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from atlas.cli.tables import LOOK, Cell, Column, first_line, print_facts, print_table, say
from atlas.scheduler.error_text import error_line
from atlas.scheduler.task import Task, TaskStatus

LONGEST_LINE: Final = 200
SAID: Final = frozenset({"error", "timeout", "cancelled"})
"""Causes that the status itself tells."""
FINE: Final = frozenset({"ok", "unchanged"})
"""Values of ``status`` with nothing to tell; such parts are shown only when asked for."""
_MODULES: Final = re.compile(r"^(?:[a-z_]\w*\.)+(?=[A-Z]\w*(?::|$))")
_STYLES: Final = {"ok": "green", "degraded": "yellow", "failing": "bold red", "failed": "bold red"}


def outcome_text(task: Task) -> str:
    """What came of a task, in a line."""
    if task.status is TaskStatus.SUCCESS:
        return "(result not kept)" if task.result_omitted else summary(task.value)
    if task.error:
        return error_text(task)
    if task.cancel_requested and not task.status.is_final:
        return "asked to end"
    return "" if task.cause is None or task.cause.value in SAID else task.cause.value


def summary(value: Any) -> str:
    """A result in a line: ``fetched 40, new 3, failed 1``, without what is zero, empty or an object."""
    match value:
        case None:
            text = ""
        case dict():
            flat = {name: one for name, one in value.items() if not isinstance(one, dict) and one is not None}
            told = {name: one for name, one in flat.items() if one or isinstance(one, str)} or flat
            text = ", ".join(f"{name} {_short(one)}" for name, one in told.items())
        case str():
            text = first_line(value)
        case _:
            text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"


def print_result(value: Any, *, verbose: bool) -> None:
    """A result on stdout: values as facts, lists of objects as tables; of these only what is not fine, or all."""
    if value is None:
        return
    if not isinstance(value, dict):
        for line in json.dumps(value, ensure_ascii=False, indent=2).splitlines():
            say(line)
        return
    tables = {name: rows for name, one in value.items() if (rows := _rows(one)) is not None}
    print_facts((name, _text(one)) for name, one in value.items() if name not in tables and one not in ({}, []))
    for name, rows in tables.items():
        shown = rows if verbose else [row for row in rows if row.get("status") not in FINE]
        if shown:
            say()
            _print_rows(name, shown)
        if len(shown) < len(rows):
            say(Cell(f"{name}: {len(rows) - len(shown)}{' more' * bool(shown)} fine (--verbose shows them)", "dim"))


def print_verdict(task: Task, label: str) -> None:
    """Say on stdout how a final task ended."""
    glyph, style = LOOK[task.status.value]
    took = "" if task.duration_s is None else f" in {_length(task.duration_s)}"
    attempts = f"{task.attempt} attempt{'s' * (task.attempt != 1)}"
    say(Cell(glyph, style), f" {label} {_VERDICTS[task.status]}{took}, {attempts}, task ", Cell(task.id, "cyan"))


_VERDICTS: Final = {
    TaskStatus.SUCCESS: "succeeded",
    TaskStatus.FAILED: "failed",
    TaskStatus.TIMEOUT: "timed out",
    TaskStatus.CANCELLED: "was cancelled",
}


def failure_text(task: Task) -> str:
    """Why a final task is no success, in a line: ``quarantined: …``."""
    cause = f"{task.cause.value}: " if task.cause is not None and task.cause.value != "error" else ""
    return cause + (error_text(task) or "no error text")


def error_text(task: Task) -> str:
    """The line that names its error, the class without its modules: ``TimeoutError: …``."""
    return _MODULES.sub("", error_line(task.error))


def _length(seconds: float) -> str:
    from atlas.scheduler.durations import format_duration

    return format_duration(max(0.0, seconds))


def _rows(value: Any) -> list[dict[str, Any]] | None:
    """``value`` as rows if it is a table: a list of objects, or an object of objects, whose names come first."""
    if isinstance(value, dict) and value and all(isinstance(one, dict) for one in value.values()):
        return [{"name": name, **one} for name, one in value.items()]
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return value
    return None


def _print_rows(name: str, rows: list[dict[str, Any]]) -> None:
    heads = [head for head in dict.fromkeys(head for row in rows for head in row) if any(row.get(head) for row in rows)]
    numbers = {head for head in heads if all(isinstance(row.get(head, 0), int | float) for row in rows)}
    title = name.removeprefix("by_").upper()
    columns = [
        Column(
            title if head == "name" else head.upper(),
            right=head in numbers,
            shrinks=head not in numbers | {"name", "status"},
        )
        for head in heads
    ]
    print_table(
        columns, [[Cell(_short(row.get(head)), _STYLES.get(str(row.get(head)), "")) for head in heads] for row in rows]
    )


def _short(value: Any) -> str:
    if isinstance(value, list | dict):
        return str(len(value))
    return _text(value)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "yes" if value else "no"
        case list() if all(isinstance(one, str) for one in value):
            return "\n".join(value) or "none"
        case float():
            return f"{value:,.2f}".rstrip("0").rstrip(".")
        case int():
            return f"{value:,}"
        case _:
            return json.dumps(value, ensure_ascii=False)
