"""Jobs: all of them in a table, by state, text and order, fifty a page."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from atlas.web.pages import lanes
from atlas.web.pages.job_rows import PER_PAGE, by_name, by_next_fire, by_urgency, matching, rows_of, standing
from atlas.web.pages.rollup import total_of
from atlas.web.pages.view import View, page_number
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from atlas.scheduler.job_store.records import JobRecord
    from atlas.web.pages.job_rows import JobRow, Standing
    from atlas.web.rendering import Shown
    from atlas.web.site import Visit

_STATES: Final = (
    ("", "All", ""),
    ("unable", "Cannot run", "warn"),
    ("failing", "Failing", "FAILED"),
    ("running", "Running", "RUNNING"),
    ("retrying", "Retrying", "RETRYING"),
    ("paused", "Paused", "pause"),
    ("off", "Off", "CANCELLED"),
)
SORTS: Final = {"": "By urgency", "name": "By name", "next": "By next fire"}


def jobs(visit: Visit) -> Shown:
    """The table of jobs."""
    view = View.of(visit)
    desk, now = view.desk, view.now
    stand = standing(desk, now)
    parked = desk.atlas.cron.sync.shown.jobs.parked()
    members = {
        "unable": stand.unable,
        "failing": frozenset(stand.failing),
        "running": stand.running,
        "retrying": stand.retrying,
        "paused": stand.paused,
        "off": stand.off,
    }
    records: Sequence[JobRecord] = desk.records()
    state, text, sort = view.asked("state"), view.asked("q"), view.asked("sort")
    if state in members:
        records = [record for record in records if record.id in members[state]]
    if text:
        records = matching(records, text)
    number = page_number(view, len(records), PER_PAGE)
    first = (number - 1) * PER_PAGE
    order = {"name": by_name, "next": by_next_fire}.get(sort, partial(by_urgency, stand=stand))
    rows = rows_of(desk, order(records, most=first + PER_PAGE)[first:], now)
    counts = {name: len(ids) for name, ids in members.items()}
    counts["unable"] += len(parked)
    return view.shown(
        "jobs.html",
        view.say("Jobs"),
        "jobs",
        rows=[(row, _strip(view, row)) for row in rows],
        chips=_chips(view, stand, counts, state),
        sorts=[(key, words, view.visit.here(sort=key or None, page=None)) for key, words in SORTS.items()],
        sort=sort if sort in SORTS else "",
        text=text,
        state=state if state in members else "",
        parked=parked if state in {"", "unable"} and not text and number == 1 else [],
        config_path=desk.atlas.settings.persistence.cron_config.name,
        sums="" if state or text else _sums(view),
        total=len(records),
        everything=stand.total,
        first=first,
        previous=view.visit.here(page=number - 1 if number > 2 else None) if number > 1 else "",
        following=view.visit.here(page=number + 1) if first + PER_PAGE < len(records) else "",
    )


def _sums(view: View) -> str:
    """What all jobs did in the last 24 hours and will do in the next; of many, what is known already."""
    desk, now, say, parts = view.desk, view.now, view.say, []
    if desk.is_whole(now):
        ended = view.said.count(total_of(desk.rollup.steps(now)).total)
        parts.append(say("1 task in 24 h|{n} tasks in 24 h", n=ended))
    plan = desk.forecast(now)
    if plan is not None:
        ahead = view.said.count(sum(bucket.starts for bucket in plan.buckets))
        parts.append(say("1 planned for the next 24 h|{n} planned for the next 24 h", n=ahead))
    return say(", ").join(parts)


def _strip(view: View, row: JobRow) -> Markup:
    cells, span = row.recent.cells, lanes.Span(view.now.timestamp() // 60 * 60)

    def draw() -> Markup:
        return lanes.strip(span.now_s, cells, lanes.told_past(view.say, row.job.title, cells))

    return view.desk.drawn(("strip", row.job.id, view.visit.language), row.state(span.now_s), draw)


def _chips(view: View, stand: Standing, counts: dict[str, int], state: str) -> list[tuple[str, str, int, str, bool]]:
    """(words, glyph, count, address, is current) of each state."""
    return [
        (
            view.say(words),
            glyph,
            counts.get(key, stand.total),
            view.visit.here(state=key or None, page=None),
            key == (state if state in counts else ""),
        )
        for key, words, glyph in _STATES
    ]


JOBS: Final = Page(
    "jobs",
    "/jobs",
    jobs,
    live={"j-acts": "jobs/acts.html", "j-chips": "jobs/chips.html", "j-rows": "jobs/rows.html"},
)
