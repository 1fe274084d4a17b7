"""Charts of one job and one task, as SVG that stretches with the page; each says in words what it shows."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atlas.web.pages.history import History
    from atlas.web.pages.recent import Brief
    from atlas.web.pages.said import Said
    from atlas.web.words.speech import Speech

_STEPS_S: Final = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200),
    *(14_400, 28_800, 86_400, 172_800, 604_800),
)


BASE: Final = 148.0
HEIGHT: Final = 132.0
DAY_S: Final = 86_400
WORD: Final = {
    "SUCCESS": "succeeded",
    "RETRYING": "tried again",
    "CANCELLED": "cancelled",
    "TIMEOUT": "timed out",
    "FAILED": "failed",
}


def _step(top_s: float, most: int) -> float:
    """A round distance of axis lines, so that at most ``most`` of them lie below ``top_s``."""
    return next((step for step in _STEPS_S if top_s / step <= most), 10.0 ** math.ceil(math.log10(max(top_s, 1))))


def _short(seconds: float) -> str:
    """A round time on an axis."""
    if seconds == 0:
        return "0"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms"


def _heights(top_s: float) -> list[str]:
    """The lines of the axis of durations."""
    step, marks = _step(top_s, 4), list[str]()
    for place in range(int(top_s / step) + 1):
        at = BASE - HEIGHT * place * step / top_s
        marks.append(
            f'<line class="g" x1="0" x2="100%" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="axis-t" x="-6" y="{at + 3.5:.1f}" text-anchor="end">{_short(place * step)}</text>'
        )
    return marks


def _across(median_s: float | None, timeout_s: float | None, top_s: float, said: Said, say: Speech) -> list[str]:
    """The median, and the limit."""
    marks = []
    if median_s is not None:
        at = BASE - HEIGHT * median_s / top_s
        marks.append(f'<line class="p50" x1="0" x2="100%" y1="{at:.1f}" y2="{at:.1f}"/>')
    if timeout_s is not None:
        at = BASE - HEIGHT * timeout_s / top_s
        limit = say("timeout {s}", s=said.duration(timeout_s))
        marks.append(
            f'<line class="lim" x1="0" x2="100%" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="lim-t" x="4" y="{at - 4:.1f}">{escape(limit)}</text>'
        )
    return marks


def history(found: History, said: Said, say: Speech, *, timeout_s: float | None, days: int) -> Markup:
    """A bar for some hours or a day, as tall as the mean: what ended well below; a thin line to the longest.

    It says instants and durations by ``said`` and words by ``say``; of many days each fifth is named.
    """
    longest = max((bucket.longest_s for bucket in found.buckets), default=0.0)
    near = timeout_s is not None and longest > timeout_s / 8
    top = max(longest, timeout_s if near and timeout_s else 0.0, 0.001) * 1.08
    count = days * DAY_S // found.size_s + 1
    width = 100 / count
    bars: list[str] = []
    for bucket in found.buckets:
        total, mean = sum(bucket.by_status.values()), bucket.mean_s
        x, y = (bucket.start_s - found.begin_s) / found.size_s * width, BASE
        tall = max(3.0, HEIGHT * mean / top)
        parts = say(", ").join(
            f"{bucket.by_status[status]} {say(WORD[status])}" for status in WORD if bucket.by_status[status]
        )
        begin = datetime.fromtimestamp(bucket.start_s, UTC)
        noon = begin + timedelta(hours=12)  # behind a change of the clock a day here begins an hour beside midnight
        when = said.day(noon) if found.size_s == DAY_S else said.moment(begin, seconds=False)
        text = f"{when}{say(': ')}{parts}{say('; mean {s}', s=said.duration(mean))}"
        text += say(", longest {s}", s=said.duration(bucket.longest_s))
        middle = f"{x + width * 0.36:.2f}%"
        bars.append(f'<g><title>{escape(text)}</title><line class="reach" x1="{middle}" x2="{middle}" ')
        bars.append(f'y1="{BASE - HEIGHT * bucket.longest_s / top:.1f}" y2="{BASE - tall:.1f}"/>')
        for status in WORD:
            share = tall * bucket.by_status[status] / total
            if share:
                part = max(2.5, share) if status != "SUCCESS" else share
                y -= part
                bars.append(
                    f'<rect class="f-{status}" x="{x:.2f}%" y="{y:.1f}" width="{width * 0.72:.2f}%" '
                    f'height="{part:.1f}"/>'
                )
        bars.append("</g>")
    apart = 1 if days <= 10 else 5
    for day in range(0, days + 1, apart):
        at = datetime.fromtimestamp(found.begin_s, UTC) + timedelta(days=day)
        at_midnight = said.local(at).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        place = (at_midnight.timestamp() - found.begin_s) / found.size_s * width
        if place < 96:
            css = "axis-t odd" if day // apart % 2 else "axis-t"
            bars.append(f'<text class="{css}" x="{place:.2f}%" y="164">{escape(said.date(at_midnight))}</text>')
    label = say(
        "duration of {n} tasks of the last {days} days: median {median}, longest {longest}",
        n=said.count(sum(found.by_status.values())),
        days=days,
        median=said.duration(found.duration_s(0.5)),
        longest=said.duration(longest if found.buckets else None),
    )
    marks = [*_heights(top), *_across(found.duration_s(0.5), timeout_s if near else None, top, said, say)]
    return Markup(  # noqa: S704 - texts are escaped
        f'<svg class="chart bars" width="94%" height="168" role="img" aria-label="{escape(label)}">'
        f"{''.join(marks)}{''.join(bars)}</svg>"
    )


def durations(tasks: Sequence[Brief], said: Said, say: Speech, *, timeout_s: float | None) -> Markup:
    """A bar for each task, oldest first, with the median and, where it is near, the limit."""
    shown = [task for task in reversed(tasks) if task.duration_s is not None]
    longest = max((task.duration_s or 0.0 for task in shown), default=0.0)
    near = timeout_s is not None and longest > timeout_s / 8
    top = max(longest, timeout_s if near and timeout_s else 0.0, 0.001) * 1.08
    base, height = BASE, HEIGHT

    def y(seconds: float) -> float:
        return base - height * seconds / top

    marks = _heights(top)
    count = max(len(shown), 30)
    spans = shown[-1].created_at - shown[0].created_at if shown else timedelta()
    told = said.date if spans > timedelta(hours=36) else partial(said.clock, seconds=False)
    width = 100 / count
    bars: list[str] = []
    last = ""
    for place, task in enumerate(shown):
        seconds = task.duration_s or 0.0
        x = (count - len(shown) + place) * width
        tall = max(1.5, height * seconds / top)
        text = f"{said.moment(task.created_at)} {say(task.shown)} {said.duration(seconds)}"
        bars.append(
            f'<rect class="f-{task.shown}" x="{x:.2f}%" y="{base - tall:.1f}" width="{width * 0.72:.2f}%" '
            f'height="{tall:.1f}" rx="1.5"><title>{escape(text)}</title></rect>'
        )
        if task.shown != "SUCCESS":
            bars.append(
                f'<circle class="f-{task.shown}" cx="{x + width * 0.36:.2f}%" cy="{base - tall - 6:.1f}" r="2"/>'
            )
        when = told(task.fire_time or task.created_at)
        if (len(shown) - 1 - place) % 12 == 0 and place + 4 < len(shown) and when != last:
            bars.append(f'<text class="axis-t" x="{x:.2f}%" y="164">{escape(when)}</text>')
            last = when
    good = sorted(task.duration_s for task in shown if task.status == "SUCCESS" and task.duration_s is not None)
    median = good[len(good) // 2] if good else None
    marks += _across(median, timeout_s if near else None, top, said, say)
    label = say(
        "duration of the last {n} tasks: median {median}, longest {longest}",
        n=len(shown),
        median=said.duration(median),
        longest=said.duration(longest if shown else None),
    )
    return Markup(  # noqa: S704 - texts are escaped
        f'<svg class="chart bars" width="94%" height="168" role="img" aria-label="{escape(label)}">'
        f"{''.join(marks)}{''.join(bars)}</svg>"
    )


def attempts(found: Sequence[tuple[int, str, float, float, str]], said: Said, say: Speech, label: str) -> Markup:
    """Each attempt on its own line over one clock; what lies between them is the wait.

    ``found``: number, how it ended, begin and end in seconds since the first began, and a short text.
    """
    total = max((end for _n, _status, _begin, end, _text in found), default=1.0) or 1.0
    step = _step(total, 6)
    scale, left = 50.0 / total, 3.2
    height = 31 * len(found) + 24
    marks: list[str] = []
    for place in range(int(total / step) + 1):
        x = left + place * step * scale
        marks.append(
            f'<line class="g" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{height - 22}"/>'
            f'<text class="axis-t" x="{x:.2f}%" y="{height - 6}" text-anchor="{"start" if place == 0 else "middle"}">'
            f"{_short(place * step)}</text>"
        )
    previous_end = 0.0
    for row, (number, status, begin, end, text) in enumerate(found):
        y = 31 * row + 5
        x, width = left + begin * scale, max(0.35, (end - begin) * scale)
        marks.append(f'<text class="axis-t" x="0" y="{y + 14}">{number}</text>')
        if row and begin > previous_end:
            wait = (begin - previous_end) * scale
            title = escape(say("waited {s}", s=said.duration(begin - previous_end)))
            marks.append(
                f'<rect class="wait" x="{left + previous_end * scale:.2f}%" y="{y + 4}" width="{wait:.2f}%" '
                f'height="12"><title>{title}</title></rect>'
            )
        beside = x + width + 0.9
        words = f"<b>{escape(said.duration(end - begin))}</b> {escape(text)}"
        marks.append(
            f'<rect class="f-{status}" x="{x:.2f}%" y="{y}" width="{width:.2f}%" height="20" rx="3"/>'
            f'<foreignObject x="{beside:.2f}%" y="{y}" width="{100 - beside:.2f}%" height="20">'
            f'<div class="att" title="{escape(text)}">{words}</div></foreignObject>'
        )
        previous_end = end
    return Markup(  # noqa: S704 - texts are escaped
        f'<svg class="chart clip" width="100%" height="{height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(marks)}</svg>"
    )


def spark(values: Sequence[float], label: str) -> Markup:
    """A line without an axis."""
    low, top = min(values, default=0), max([*values, 1])
    height = 18 / max(top - low, top * 0.2)
    last = max(len(values) - 1, 1)
    points = " ".join(
        f"{place * 100 / last:.1f},{20 - (value - low) * height:.1f}" for place, value in enumerate(values)
    )
    return Markup(  # noqa: S704 - the label is escaped
        f'<svg width="100%" height="22" viewBox="0 0 100 22" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><polyline class="spark" points="{points}"/></svg>'
    )


def progress(share: float | None, label: str) -> Markup:
    """A thin bar; without a share it is empty."""
    width = 0.0 if share is None else min(1.0, max(0.0, share)) * 100
    return Markup(  # noqa: S704 - the label is escaped
        f'<svg width="100%" height="4" role="img" aria-label="{escape(label)}">'
        f'<rect class="ghost" width="100%" height="4" rx="2"/>'
        f'<rect class="f-RUNNING" width="{width:.0f}%" height="4" rx="2"/></svg>'
    )
