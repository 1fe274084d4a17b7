"""What commands print: tables by rich on a terminal, aligned plain text in a pipe, or JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

from atlas.scheduler.log_lines import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console

    Paint = Callable[[str, str], str]

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
"""Cells that a column which shrinks keeps, where it says nothing else."""
NAMES: Final = 32
"""Cells that a column of names keeps: ids have up to a hundred letters, and those of one file often begin alike."""


class Cell(NamedTuple):
    """A text and, on a terminal, its style."""

    text: str
    style: str = ""
    spans: tuple[str, ...] = ()
    """Instead, the style of each of its characters."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        right: Whether its texts end on one line, as figures do.
        shrinks: Whether it may be cut on a narrow terminal; the others never are, and of several the last goes first.
        keeps: Cells of it that stay.
        yields: Whether it is left out on a terminal that is too narrow for all; the first of them goes first.
    """

    title: str
    right: bool = False
    shrinks: bool = False
    keeps: int = SHORTEST
    yields: bool = False


def note(text: str) -> None:
    """``atlas: text`` on stderr: what a person should know and no program reads."""
    print(f"atlas: {one_line(text)}", file=sys.stderr)


def counted(count: int, one: str, many: str = "") -> str:
    """``1 task``, ``2 tasks``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def state_cell(state: str) -> Cell:
    """A task status or job state with its glyph: ``✓ success``."""
    glyph, style = LOOK[state]
    return Cell(f"{glyph} {state.lower()}", style)


def first_line(text: str | None) -> str:
    """The first line of ``text`` that says something."""
    return next((line.strip() for line in (text or "").splitlines() if line.strip()), "")


def print_json(value: Any) -> None:
    """``value`` as indented JSON on stdout; text stays readable where stdout is UTF-8."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not unicode, default=str))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]]) -> None:
    """The rows under their heads on stdout. Cells are never wrapped; on a terminal only columns that shrink are cut."""
    cells = [[Cell(column.title, "dim") for column in columns], *([_cell(value) for value in row] for row in rows)]
    paint: Paint = _paint_nothing
    kept: Sequence[int] = range(len(columns))
    widths = _widths(cells)
    if sys.stdout.isatty():
        console = terminal(sys.stdout)
        paint = _painter(console)
        kept, widths = _fitted(columns, widths, console.width)
    for row in cells:
        padded = [_padded(row[place], widths[place], right=columns[place].right, paint=paint) for place in kept]
        print("  ".join(padded).rstrip())


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
    return Cell(one_line(value)) if isinstance(value, str) else value._replace(text=one_line(value.text))


def _widths(cells: Sequence[Sequence[Cell]]) -> list[int]:
    from rich.cells import cell_len

    return [max(cell_len(cell.text) for cell in column) for column in zip(*cells, strict=True)]


def _fitted(columns: Sequence[Column], widths: list[int], room: int) -> tuple[Sequence[int], list[int]]:
    """The columns that stay on a terminal of ``room`` cells, and all widths, cut where a column shrinks."""
    kept = list(range(len(columns)))

    def excess() -> int:
        return sum(widths[place] for place in kept) + 2 * (len(kept) - 1) - room

    for place in [place for place in kept if columns[place].yields]:
        if excess() > 0:
            kept.remove(place)
    widths = list(widths)
    for place in reversed(kept):
        if columns[place].shrinks and excess() > 0:
            widths[place] -= min(excess(), max(0, widths[place] - columns[place].keeps))
    return kept, widths


def _padded(cell: Cell, width: int, *, right: bool, paint: Paint) -> str:
    from rich.cells import cell_len, set_cell_size

    text, length = cell.text, cell_len(cell.text)
    if length > width:
        text, length = set_cell_size(text, width - 1) + "…", width
    painted = "".join(map(paint, text, cell.spans)) if cell.spans else paint(text, cell.style)
    space = " " * (width - length)
    return space + painted if right else painted + space


def _paint_nothing(text: str, _style: str) -> str:
    return text


def _painter(console: Console) -> Paint:
    """What gives a text a style on this terminal: tables of ten thousand rows are too many for rich's own."""
    if console.color_system is None or console.no_color:
        return _paint_nothing
    from rich.color import ColorSystem
    from rich.style import Style

    return lambda text, style: Style.parse(style).render(text, color_system=ColorSystem.STANDARD) if style else text
