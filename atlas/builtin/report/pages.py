"""A report as Markdown and as one HTML page that needs nothing else. Whatever comes from rows is escaped."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from atlas.builtin.report.document import Attention, Cell, Document, Table

BARS: Final = "▁▂▃▄▅▆▇█"
COLOURS: Final = {
    TaskStatus.SUCCESS: "#01a97c",
    TaskStatus.RETRYING: "#d18100",
    TaskStatus.TIMEOUT: "#7b0b94",
    TaskStatus.FAILED: "#c4291c",
    TaskStatus.CANCELLED: "#8a93a3",
}
"""From the bottom of a bar to its top."""

_STYLE: Final = """body{margin:0;background:#fff;color:#14181f;font:14px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,\
'PingFang SC','Microsoft YaHei','Noto Sans CJK SC',sans-serif}main{max-width:728px;margin:0 auto;padding:32px 24px}
h1{font-size:22px;letter-spacing:-.02em;margin:0}h2{font-size:15px;margin:28px 0 8px}p{margin:4px 0}.m{color:#6b7485}
.lead{font-size:16px;margin:12px 0 0;max-width:640px}.v{display:flex;flex-wrap:wrap;\
justify-content:space-between;gap:4px 20px;margin:18px 0 6px;\
padding:10px 0;border-top:1px solid #e3e6ec;border-bottom:1px solid #e3e6ec}
.v b{display:block;font-size:21px;letter-spacing:-.02em;font-weight:650;font-variant-numeric:tabular-nums}
.t{overflow-x:auto}table{border-collapse:collapse;width:100%}
th{font-weight:500;color:#6b7485;text-align:left;font-size:12px}
td,th{padding:6px 10px 6px 0;border-bottom:1px solid #e9ecf1;font-variant-numeric:tabular-nums;white-space:nowrap}
td:first-child{max-width:300px;overflow:hidden;text-overflow:ellipsis}
.r{text-align:right}.bad{color:#b32318}
tr.b td:first-child{font-weight:600}tr.b .x{color:#b32318;font-weight:600}.n{display:inline-block;min-width:52px}
li code.m,.foot code{color:#6b7485;white-space:nowrap}

svg{display:block;max-width:100%}svg.rate{display:inline-block;vertical-align:1px;margin-right:6px}.foot{margin-top:28px}
svg text{font:10.5px system-ui,sans-serif;fill:#6b7485}
code{font:12px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
ul{padding-left:18px;margin:6px 0}li{margin:4px 0}
.k{display:inline-block;width:9px;height:9px;border-radius:2px;margin:0 4px 0 12px}
@media print{main{padding:0}h2{break-after:avoid}}"""

_STRONG: Final = re.compile(r"\*\*(.+?)\*\*")


def to_markdown(document: Document) -> str:
    """The report as Markdown."""
    words = document.words
    lines = [f"# {document.title}", "", _text(document.where), "", _lead_in_markdown(document.lead), ""]
    lines += [
        "| " + " | ".join(_text(figure.label) for figure in document.figures) + " |",
        "|" + "---:|" * len(document.figures),
        "| " + " | ".join(_text(figure.value) for figure in document.figures) + " |",
    ]
    if document.hours:
        lines += ["", f"{words.per_hour} (00:00–24:00): `{sparkline([hour.total() for hour in document.hours])}`"]
    if document.attention:
        lines += ["", f"## {words.attention}", ""]
        lines += [
            f"{number}. **{_text(one.job)}**{words.colon}" + _joined(one, _code, _text, _code)
            for number, one in enumerate(document.attention, 1)
        ]
    for table in document.tables:
        lines += ["", f"## {table.title}", "", "| " + " | ".join(map(_text, table.head)) + " |"]
        lines += ["|---|" + "---:|" * (len(table.head) - 1)]
        lines += [
            "| " + " | ".join(_text(cell if isinstance(cell, str) else cell.text) for cell in row) + " |"
            for row in table.rows
        ]
    if document.ahead is not None:
        lines += ["", f"## {words.next_day}", "", _lead_in_markdown(document.ahead.text)]
        if document.ahead.hours:
            first = document.ahead.hours[0][0]
            bars = sparkline([count for _hour, count in document.ahead.hours])
            lines += ["", f"{words.planned_per_hour} ({first:02d}:00 →): `{bars}`"]
    return "\n".join([*lines, "", f"{_text(document.footer)} {_code(document.command)}", ""])


def to_html(document: Document) -> str:
    """The report as one page; the only style it has is its own, and it loads nothing."""
    words, escape = document.words, html.escape
    parts = [
        f'<!doctype html><html lang="{words.language}"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light">',
        f"<title>{escape(document.title)}</title><style>{_STYLE}</style></head><body><main>",
        f'<h1>{escape(document.title)}</h1><p class="m">{escape(document.where)}</p>',
        f'<p class="lead">{_bold(escape(document.lead))}</p>',
        '<div class="v">',
    ]
    for figure in document.figures:
        mark = ' class="bad"' if figure.bad else ""
        parts.append(f'<div><b{mark}>{escape(figure.value)}</b><span class="m">{escape(figure.label)}</span></div>')
    parts.append("</div>")
    if document.hours:
        used = [status for status in COLOURS if any(hour[status] for hour in document.hours)]
        keys = "".join(
            f'<span class="k" style="background:{COLOURS[status]}"></span>{escape(words.status[status])}'
            for status in used
        )
        parts.append(f'<h2>{escape(words.per_hour)} <span class="m">{keys}</span></h2>')
        parts.append(_chart(document.hours, words.per_hour, words.status))
    if document.attention:
        parts.append(f"<h2>{escape(words.attention)}</h2><ul>")
        parts += [
            f"<li><b>{escape(one.job)}</b>{words.colon}{_joined(one, _code_in_html, escape, _command_in_html)}</li>"
            for one in document.attention
        ]
        parts.append("</ul>")
    parts += [_table(table) for table in document.tables]
    if document.ahead is not None:
        parts.append(f"<h2>{escape(words.next_day)}</h2><p>{_bold(escape(document.ahead.text))}</p>")
        if document.ahead.hours:
            parts.append(_chart_ahead(document.ahead.hours, words.planned_per_hour))
    parts.append(f'<p class="m foot">{escape(document.footer)} {_code_in_html(document.command)}</p>')
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def sparkline(values: Sequence[int]) -> str:
    """One bar per value; a space where there is nothing."""
    top = max(values, default=0)
    return "".join(" " if not value else BARS[(value * len(BARS) - 1) // top] for value in values)


def _chart(hours: Sequence[Counter[TaskStatus]], label: str, names: dict[str, str]) -> str:
    width, height, left = 680.0, 84.0, 28.0
    step = (width - left) / len(hours)
    top = max(1, *(hour.total() for hour in hours))
    grid = next(size * 10**power for power in range(12) for size in (1, 2, 5) if size * 10**power * 4 >= top)
    parts = [f'<svg viewBox="0 0 {width:.0f} 120" width="100%" role="img" aria-label="{html.escape(label)}">']
    for value in range(0, top + 1, grid):
        y = 102 - height * value / top
        parts.append(f'<line x1="{left:.0f}" x2="{width:.0f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e9ecf1"/>')
        parts.append(f'<text x="{left - 6:.0f}" y="{y + 3.5:.1f}" text-anchor="end">{value:,}</text>')
    for number, hour in enumerate(hours):
        x, y = left + number * step + 1.5, 102.0
        for status, colour in COLOURS.items():
            if count := hour[status]:
                size = height * count / top
                y -= size
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{step - 3:.1f}" height="{size:.1f}" fill="{colour}">'
                    f"<title>{number:02d}:00 {count:,} {html.escape(names[status])}</title></rect>"
                )
        if number % 3 == 0:
            parts.append(f'<text x="{x + step / 2 - 1.5:.1f}" y="116" text-anchor="middle">{number:02d}</text>')
    return "".join([*parts, "</svg>"])


def _chart_ahead(hours: Sequence[tuple[int, int]], label: str) -> str:
    width, height, left, base = 680.0, 40.0, 28.0, 52.0
    step, top = (width - left) / len(hours), max(1, *(count for _hour, count in hours))
    parts = [
        f'<svg viewBox="0 0 {width:.0f} 68" width="100%" role="img" aria-label="{html.escape(label)}">',
        f'<line x1="{left:.0f}" x2="{width:.0f}" y1="{base}" y2="{base}" stroke="#e9ecf1"/>',
        f'<text x="{left - 6:.0f}" y="{base - height + 4:.1f}" text-anchor="end">{top:,}</text>',
    ]
    for number, (hour, count) in enumerate(hours):
        x, size = left + number * step + 1.5, height * count / top
        if count:
            parts.append(
                f'<rect x="{x:.1f}" y="{base - size:.1f}" width="{step - 3:.1f}" height="{size:.1f}" fill="#aab4c4">'
                f"<title>{hour:02d}:00 {count:,}</title></rect>"
            )
        if hour % 3 == 0:
            parts.append(f'<text x="{x + step / 2 - 1.5:.1f}" y="66" text-anchor="middle">{hour:02d}</text>')
    return "".join([*parts, "</svg>"])


def _joined(
    one: Attention, code: Callable[[str], str], text: Callable[[str], str], command: Callable[[str], str]
) -> str:
    """What was said, what was noticed, and what to type, as far as there is any of it."""
    parts = ((code, one.error), (text, one.when), (command, one.command))
    return " ".join(shape(value) for shape, value in parts if value)


def _code_in_html(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def _command_in_html(text: str) -> str:
    return f'<code class="m">{html.escape(text)}</code>'


def _cell(cell: Cell) -> str:
    """A table's cell; a rate is a bar with its number."""
    if isinstance(cell, str):
        return html.escape(cell)
    if cell.percent is None:
        return html.escape(cell.text)
    return (
        '<svg class="rate" viewBox="0 0 96 8" width="96" height="8" aria-hidden="true">'
        '<rect width="96" height="8" rx="2" fill="#f3d3d0"/>'
        f'<rect width="{0.96 * cell.percent:.1f}" height="8" rx="2" fill="#01a97c"/></svg>'
        f'<span class="n">{html.escape(cell.text)}</span>'
    )


def _table(table: Table) -> str:
    head = "".join(
        f"<th{' class=r' if number else ''}>{html.escape(name)}</th>" for number, name in enumerate(table.head)
    )
    rows = "".join(
        f"<tr{' class=b' if number in table.bad_rows else ''}>"
        + "".join(f"<td{_class_of(column, table)}>{_cell(cell)}</td>" for column, cell in enumerate(row))
        + "</tr>"
        for number, row in enumerate(table.rows)
    )
    return f'<h2>{html.escape(table.title)}</h2><div class="t"><table><tr>{head}</tr>{rows}</table></div>'


def _class_of(column: int, table: Table) -> str:
    if not column:
        return ""
    return ' class="r x"' if column in table.bad_columns else " class=r"


def _bold(text: str) -> str:
    return _STRONG.sub(r"<b>\1</b>", text)


def _text(text: str) -> str:
    """``text`` as it stands, whatever Markdown would make of it."""
    return re.sub(r"([\\`*\[\]<>|#&]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "¦") + "`"


def _lead_in_markdown(lead: str) -> str:
    return _STRONG.sub(lambda match: f"**{_text(match[1])}**", lead)
