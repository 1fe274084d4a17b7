"""The signature view: 24 hours of results, now, and 24 hours of plan, one lane a job, over one axis.

A lane is 960 units wide, 20 an hour, and stretched to its place. Cells of one kind are one path, so that a lane of a
busy job costs a few hundred bytes; what went wrong is drawn one by one, since each tells its story when pointed at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from markupsafe import Markup, escape

from atlas.web.pages.plan import AHEAD_S, BUCKET_S
from atlas.web.pages.recent import CELL_S, DAY_S, WORST, worst_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from atlas.scheduler.forecast.result import Forecast
    from atlas.web.pages.plan import Starts
    from atlas.web.pages.said import Said
    from atlas.web.words.speech import Speech

WIDTH: Final = 960.0
MIDDLE: Final = WIDTH / 2
PER_S: Final = MIDDLE / DAY_S
_BAD: Final = frozenset({"FAILED", "TIMEOUT", "RETRYING", "CANCELLED"})
_TAG: Final = 66.0
"""Units around now that its tag takes from the axis."""
_NEAR: Final = 120.0
_NEARBY: Final = 225.0
"""Units around now that it takes where the lanes are narrow, and on a phone."""
_MOST_TOLD: Final = 24
"""Cells of one lane that tell their story; further ones are drawn only."""


@dataclass(frozen=True, slots=True)
class Span:
    """The time a view covers, and where an instant lies in it."""

    now_s: float

    def x(self, at_s: float) -> float:
        """Units from the left."""
        return MIDDLE + (at_s - self.now_s) * PER_S


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def axis(span: Span, said: Said) -> Markup:
    """The hours above the lanes, with the tag of now; and the grid that lanes refer to."""
    ticks: list[str] = []
    lines: list[str] = []
    local = said.local(datetime.fromtimestamp(span.now_s - DAY_S, UTC))
    hour = local.replace(minute=0, second=0, microsecond=0)
    for _ in range(50):
        hour += timedelta(hours=1)
        if hour.hour % 3:
            continue
        x = span.x(hour.timestamp())
        if x > WIDTH - 2:
            break
        midnight = hour.hour == 0
        lines.append(f'<path class="g{" day" if midnight else ""}" d="M{_number(x)}-8V32"/>')
        if 22 < x < WIDTH - 22 and abs(x - MIDDLE) > _TAG:
            text = (said.day(hour) if said.zh else said.day(hour).rsplit(" ", 1)[0]) if midnight else f"{hour:%H:%M}"
            if midnight and said.zh:
                text = text.rsplit(" ", 1)[-1]
            css = "gt day" if midnight else "gt six" if hour.hour % 6 == 0 else "gt"
            css += " near" if abs(x - MIDDLE) < _NEAR else " nearby" if abs(x - MIDDLE) < _NEARBY else ""
            ticks.append(f'<text class="{css}" x="{x / WIDTH:.2%}" y="13" text-anchor="middle">{escape(text)}</text>')
    now_text = said.clock(datetime.fromtimestamp(span.now_s, UTC), seconds=False)
    ticks.append(
        '<rect class="nowtag" x="50%" y="1" width="46" height="16" rx="8" transform="translate(-23 0)"/>'
        f'<text class="nowtxt" x="50%" y="12.5" text-anchor="middle">{now_text}</text>'
    )
    grid = (
        '<svg width="0" height="0" class="defs" aria-hidden="true"><defs><g id="grid">'
        f'<path class="future" d="M480-8H960V32H480z"/>{"".join(lines)}</g></defs></svg>'
    )
    return Markup(  # noqa: S704 - clock times and names of days
        f'{grid}<svg class="t" height="20" aria-hidden="true">{"".join(ticks)}</svg>'
    )


def lane(
    span: Span,
    said: Said,
    say: Speech,
    *,
    title: str,
    cells: Mapping[int, Mapping[str, int]],
    starts: Starts,
    takes_s: float | None,
) -> Markup:
    """One job's lane, with its text equivalent."""
    marks = ['<use href="#grid"/>', *_results(span, said, say, cells), *_plan(span, starts, takes_s)]
    marks.append('<path class="nowline" d="M480-8V32"/>')
    return Markup(  # noqa: S704 - the label is escaped
        f'<svg class="t" height="22" viewBox="0 0 960 22" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(told(say, title, cells, starts, span))}">{"".join(marks)}</svg>'
    )


def told(say: Speech, title: str, cells: Mapping[int, Mapping[str, int]], starts: Starts, span: Span) -> str:
    """A lane in words."""
    planned = starts.count(span.now_s + AHEAD_S)
    return told_past(say, title, cells) + say(
        "; 1 start planned in the next 24 hours|; {n} starts planned in the next 24 hours", n=planned
    )


def told_past(say: Speech, title: str, cells: Mapping[int, Mapping[str, int]]) -> str:
    """A lane's left half in words."""
    total = dict.fromkeys(WORST, 0)
    for cell in cells.values():
        for status, count in cell.items():
            total["RETRYING" if status == "WAITING" else status] += count
    done = sum(total.values()) - total["SKIPPED"]
    parts = [
        f"{total[status]} {say(_WORD[status])}"
        for status in WORST
        if total[status] and status not in {"SUCCESS", "SKIPPED"}
    ]
    text = say("{title}: 1 task in the last 24 hours|{title}: {n} tasks in the last 24 hours", title=title, n=done)
    if parts:
        text += say(", of them {what}", what=say(", ").join(parts))
    if total["SKIPPED"]:
        text += say("; 1 fire time was skipped|; {n} fire times were skipped", n=total["SKIPPED"])
    return text


_WORD: Final = {
    "FAILED": "failed",
    "TIMEOUT": "timed out",
    "RETRYING": "tried again",
    "CANCELLED": "cancelled",
    "RUNNING": "running",
    "PENDING": "waiting",
    "SUCCESS": "succeeded",
    "SKIPPED": "skipped",
}


def _results(span: Span, said: Said, say: Speech, cells: Mapping[int, Mapping[str, int]]) -> Iterable[str]:
    paths: dict[str, list[str]] = {}
    titled: list[str] = []
    for key in sorted(cells):
        left, right = max(span.x(key * CELL_S), 0.0), min(span.x((key + 1) * CELL_S), MIDDLE)
        if right - left < 1.2:
            continue
        status = worst_of(cells[key])
        width = max(1.2, right - left - 2.6)
        if status in _BAD and len(titled) < _MOST_TOLD:
            titled.append(_exception(said, say, key, cells[key], at=(left, width)))
        else:
            paths.setdefault(status, []).append(f"M{_number(left)} 11h{_number(width)}")
    for status, parts in paths.items():
        yield f'<path class="c c-{status}" d="{"".join(parts)}"/>'
    yield from titled


def _exception(said: Said, say: Speech, key: int, cell: Mapping[str, int], *, at: tuple[float, float]) -> str:
    begin = datetime.fromtimestamp(key * CELL_S, UTC)
    end = datetime.fromtimestamp((key + 1) * CELL_S, UTC)
    words = say(", ").join(f"{cell[one]} {say(_WORD[one])}" for one in WORST if cell.get(one))
    text = f"{said.clock(begin, seconds=False)}–{said.clock(end, seconds=False)}: {words}"
    left, width = at
    return (
        f'<rect class="f-{worst_of(cell)}" x="{_number(left)}" y="3" width="{_number(width)}" height="16">'
        f"<title>{escape(text)}</title></rect>"
    )


def _plan(span: Span, starts: Starts, takes_s: float | None) -> Iterable[str]:
    if not starts.at:
        return
    gap_s = _gap(starts)
    wide = 0.0 if takes_s is None else takes_s * PER_S
    first = max(span.x(starts.at[0]), MIDDLE)
    if gap_s * PER_S < 4.0:  # closer than 12 minutes: a band, with a tick for every start it can show
        last = WIDTH if starts.more_every_s else min(WIDTH, span.x(starts.at[-1]) + 2)
        yield f'<path class="plan-band" d="M{_number(first)} 7h{_number(last - first)}v8h{_number(first - last)}z"/>'
        step = max(gap_s * PER_S, 3.0)
        yield (
            f'<path class="plan-dash" stroke-dasharray="1.4 {_number(step - 1.4)}" '
            f'd="M{_number(first)} 11H{_number(last)}"/>'
        )
        return
    if wide < 2.2:
        marks = "".join(f"M{_number(span.x(at))} 6v10" for at in starts.at if span.x(at) <= WIDTH)
        yield f'<path class="plan-tick" d="{marks}"/>'
        return
    for_one = _number(min(wide, gap_s * PER_S - 0.8))
    marks = "".join(f"M{_number(span.x(at))} 11h{for_one}" for at in starts.at if span.x(at) <= WIDTH)
    yield f'<path class="plan" d="{marks}"/>'


def _gap(starts: Starts) -> float:
    """The median distance of two starts, seconds."""
    if len(starts.at) < 2:
        return float(AHEAD_S)
    gaps = sorted(later - earlier for earlier, later in zip(starts.at, starts.at[1:], strict=False))
    return gaps[len(gaps) // 2]


def load_lane(
    span: Span, said: Said, say: Speech, *, past: Mapping[int, float], load: Forecast | None, slots: int
) -> Markup:
    """Under the lanes: how many slots were busy on average, and how many tasks the plan asks for at once.

    ``past``: start of a quarter of an hour → slots busy on average; without ``load`` the plan is being reckoned.
    """
    top = max([slots * 1.25, *past.values(), *(bucket.at_once for bucket in (load.buckets if load else ()))]) or 1.0
    step = BUCKET_S * PER_S

    def bar(left: float, value: float, css: str) -> str:
        height = max(1.0, 38.0 * value / top)
        left = max(0.0, left)
        return f'<path class="{css}" d="M{_number(left)} 40v-{_number(height)}h{_number(step - 1)}V40z"/>'

    marks = ['<use href="#grid" transform="translate(0 0) scale(1 1.45)"/>']
    marks += [
        bar(span.x(start), value, "ghost")
        for start, value in sorted(past.items())
        if value > 0 and -step < span.x(start) < MIDDLE - step / 2
    ]
    if load is not None:
        marks += [
            bar(
                max(MIDDLE, span.x(bucket.at.timestamp())),
                bucket.at_once,
                "ld over" if bucket.at_once > slots else "ld",
            )
            for bucket in load.buckets
            if bucket.at_once and span.x(bucket.at.timestamp()) < WIDTH - step / 2
        ]
    cap = 40 - 38 * slots / top
    marks.append(f'<path class="cap" d="M0 {_number(cap)}H960"/><path class="nowline" d="M480-8V48"/>')
    text = say("tasks at once, of {n} slots", n=slots)
    if load is not None and load.peak_at is not None:
        text += say("; the plan peaks at {peak}, {when}", peak=load.peak, when=said.moment(load.peak_at, seconds=False))
    return Markup(  # noqa: S704 - the label is escaped
        f'<svg class="t" height="40" viewBox="0 0 960 40" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(text)}">{"".join(marks)}</svg>'
    )


def strip(now_s: float, cells: Mapping[int, Mapping[str, int]], label: str) -> Markup:
    """The last 24 hours of one job, small, for tables."""
    paths: dict[str, list[str]] = {}
    first = int((now_s - DAY_S) // CELL_S) + 1
    for key in sorted(cells):
        if first <= key < first + 48:
            paths.setdefault(worst_of(cells[key]), []).append(f"M{(key - first) * 3} 10h2.1")
    marks = "".join(f'<path class="c c-{status}" d="{"".join(parts)}"/>' for status, parts in paths.items())
    return Markup(  # noqa: S704 - the label is escaped
        f'<svg class="strip" width="144" height="20" viewBox="0 0 144 20" role="img" '
        f'aria-label="{escape(label)}">{marks}</svg>'
    )
