"""What commands print: tables by rich on a terminal, aligned plain text in a pipe, or JSON."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.text import Text

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

LOOK: Final[Mapping[str, tuple[str, str]]] = {
    "PENDING": ("○", "dim"),
    "RUNNING": ("▶", "blue"),
    "SUCCESS": ("✓", "green"),
    "FAILED": ("✗", "bold red"),
    "TIMEOUT": ("◷", "bold magenta"),
    "CANCELLED": ("⊘", "dim"),
    "RETRYING": ("↻", "yellow"),
    "ACTIVE": ("●", "green"),
    "PAUSED": ("‖", "yellow"),
    "DISABLED": ("–", "dim"),
    "UNBOUND": ("!", "bold red"),
    "ENDED": ("∎", "dim"),
    "PARKED": ("!", "bold red"),
}
"""Glyph and style of each task status and job state; the glyph tells them apart without colour."""

SHORTEST: Final = 12
"""Cells that a column which shrinks keeps."""


class Cell(NamedTuple):
    """A text and, on a terminal, its style.

    Attributes:
        text: The text.
        style: Of all of it.
        spans: Instead, the style of each of its characters.
    """

    text: str
    style: str = ""
    spans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        title: Its head.
        right: Whether its texts end on one line, as figures do.
        shrinks: Whether it may be cut on a narrow terminal; the others never are.
        yields: Whether it is left out on a terminal that is too narrow for all.
    """

    title: str
    right: bool = False
    shrinks: bool = False
    yields: bool = False


def printable(text: str) -> str:
    """``text`` as one line without escape sequences: what a task wrote must not move the reader's cursor."""
    return text if text.isprintable() else _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def counted(count: int, one: str, many: str = "") -> str:
    """``1 task``, ``2 tasks``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def state_cell(state: str) -> Cell:
    """A task status or job state with its glyph: ``✓ success``."""
    glyph, style = LOOK[state]
    return Cell(f"{glyph} {state.lower()}", style)


def first_line(text: str | None, *, last: bool = False) -> str:
    """The first line of ``text`` that says something, or the last: where tracebacks name the error."""
    lines = [line for line in (text or "").strip().splitlines() if line.strip()]
    return lines[-1 if last else 0].strip() if lines else ""


def print_json(value: Any) -> None:
    """``value`` as indented JSON on stdout; text stays readable where stdout is UTF-8."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not unicode, default=str))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]]) -> None:
    """The rows under their heads on stdout. Cells are never wrapped; on a terminal only columns that shrink are cut."""
    cells = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        _print_plain(columns, cells)


def print_facts(facts: Iterable[tuple[str, str | Cell]]) -> None:
    """Names and values, a line each; further lines of a value stand below its first."""
    pairs = [(name, value if isinstance(value, Cell) else Cell(value)) for name, value in facts]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        for number, line in enumerate(value.text.splitlines() or [""]):
            say(Cell(("" if number else name).ljust(width), "dim"), "  ", Cell(line, value.style))


def say(*parts: str | Cell) -> None:
    """A line on stdout; styles show on a terminal only."""
    cells = list(map(_cell, parts))
    if not sys.stdout.isatty():
        print("".join(cell.text for cell in cells).rstrip())
        return
    from rich.text import Text

    terminal(sys.stdout).print(Text.assemble(*((cell.text, cell.style) for cell in cells)), soft_wrap=True)


def terminal(stream: TextIO) -> Console:
    """A rich console on ``stream``: colours and bars if it is a terminal (`NO_COLOR` is obeyed), else neither."""
    from rich.console import Console

    return Console(file=stream, force_terminal=stream.isatty(), highlight=False, markup=False, emoji=False)


def _cell(value: str | Cell) -> Cell:
    return Cell(printable(value)) if isinstance(value, str) else value._replace(text=printable(value.text))


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[Cell]]) -> list[int]:
    from rich.cells import cell_len

    return [
        max(cell_len(text) for text in (column.title, *(row[place].text for row in cells)))
        for place, column in enumerate(columns)
    ]


def _print_plain(columns: Sequence[Column], cells: Sequence[Sequence[Cell]]) -> None:
    from rich.cells import cell_len

    widths = _widths(columns, cells)
    for row in [[Cell(column.title) for column in columns], *cells]:
        padded = []
        for column, cell, width in zip(columns, row, widths, strict=True):
            space = " " * (width - cell_len(cell.text))
            padded.append(space + cell.text if column.right else cell.text + space)
        print("  ".join(padded).rstrip())


def _print_rich(columns: Sequence[Column], cells: Sequence[Sequence[Cell]]) -> None:
    from rich.table import Table
    from rich.text import Text

    console, widths = terminal(sys.stdout), _widths(columns, cells)
    if sum(widths) + 2 * (len(columns) - 1) > console.width and any(column.yields for column in columns):
        kept = [place for place, column in enumerate(columns) if not column.yields]
        _print_rich([columns[place] for place in kept], [[row[place] for place in kept] for row in cells])
        return
    room = console.width - 2 * (len(columns) - 1)
    for place in reversed([place for place, column in enumerate(columns) if column.shrinks]):
        widths[place] = max(min(widths[place], SHORTEST), widths[place] - max(0, sum(widths) - room))
    console.width = max(console.width, sum(widths) + 2 * (len(columns) - 1))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True, header_style="dim")
    for column, width in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(Text(column.title), justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        table.add_row(*map(_styled, row))
    console.print(table)


def _styled(cell: Cell) -> Text:
    from rich.text import Text

    return Text.assemble(*zip(cell.text, cell.spans, strict=True)) if cell.spans else Text(cell.text, cell.style)
