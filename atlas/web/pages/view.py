"""What every page shares: words, times, the navigation, and the frame around what a view shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup, escape

from atlas.scheduler.job_view import JobState
from atlas.scheduler.task import TaskPriority, TaskStatus
from atlas.web.pages import charts
from atlas.web.pages.desk import Desk, desk_of
from atlas.web.pages.errors import headline
from atlas.web.pages.icons import LOGO, icon, priority_bars
from atlas.web.pages.said import Said
from atlas.web.rendering import Shown
from atlas.web.words.speech import Speech

if TYPE_CHECKING:
    from datetime import datetime

    from atlas.web.site import Visit

WORD_OF: Final = {
    **{status.value: status.value.capitalize() for status in TaskStatus},
    **{state.value: state.value.capitalize() for state in JobState},
    **{priority.name: priority.name.capitalize() for priority in TaskPriority},
    "NEVER": "Not run yet",
    "SKIPPED": "Skipped",
}
_RETRY_OF: Final = "retry of "
REASONS: Final = ("run now", "submitted", "created by hand", "imported from the status file", "caught up")
"""Reasons that rows hold to the letter."""
SECTIONS: Final = (
    ("overview", "Overview"),
    ("jobs", "Jobs"),
    ("tasks", "Tasks"),
    ("queue", "Queue"),
    ("config", "Config"),
    ("system", "System"),
)


@dataclass(frozen=True, slots=True)
class View:
    """One visit with its moment, its words and the desk."""

    visit: Visit
    desk: Desk
    now: datetime
    say: Speech
    said: Said

    @classmethod
    def of(cls, visit: Visit) -> View:
        """The view of ``visit`` at this moment."""
        desk = desk_of(visit.site)
        now = desk.store.clock.now()
        said = Said(desk.zone, visit.atlas.timezone, visit.language, now)
        return cls(visit, desk, now, Speech(visit.language), said)

    def url(self, name: str, /, **params: Any) -> str:
        """See `Visit.url`."""
        return self.visit.url(name, **params)

    def asked(self, name: str, limit: int = 500) -> str:
        """A value of the query, "" where it is not given."""
        return self.visit.query.get(name, "")[:limit].strip()

    def why(self, reason: str, *, fires: bool) -> str:
        """Why a task was made, from what its row says."""
        if fires:
            return self.say("caught up") if reason.startswith("caught up") else self.say("schedule")
        if reason.startswith(_RETRY_OF):
            return self.say("retry of {task}", task=reason.removeprefix(_RETRY_OF))
        return self.say(reason)

    def next_try(self, due_at: datetime) -> str:
        """When a task that failed is tried again."""
        if due_at <= self.now:
            return self.say("waits for a slot")
        return self.say("next try {when}", when=self.said.within(due_at))

    def headline(self, error: str | None) -> str:
        """See `errors.headline`; what the engine itself says of an attempt is said in the language of the page."""
        return self.say.told(headline(error))

    def word_of(self, name: str) -> str:
        """A status, state or priority in words."""
        return self.say(WORD_OF.get(name, name))

    def shown(self, template: str, title: str, section: str, *, status: int = 200, **values: Any) -> Shown:
        """``template`` in the frame of the site."""
        return Shown(template, {**self.frame(), "title": title, "section": section, **values}, status)

    def frame(self) -> dict[str, Any]:
        """What the frame and every template use."""
        shown = self.visit.atlas.cron.sync.shown
        return {
            "say": self.say,
            "said": self.said,
            "now": self.now,
            "here": self.visit.here,
            "word_of": self.word_of,
            "next_try": self.next_try,
            "action": self._action,
            "icon": icon,
            "logo": LOGO,
            "priority": self._priority,
            "progress": charts.progress,
            "may_change": self.visit.may_change,
            "nav": self._nav(),
            "leader": self._leader(),
            "revision": shown.revision,
        }

    def _leader(self) -> str | None:
        """Who schedules here while this process stands by, in words; None while it is this one."""
        if not self.visit.atlas.stands_by:
            return None
        leader = self.visit.atlas.leader()
        return self.say("nobody at the moment") if leader is None else self.said.within_text(leader.words)

    def _action(self, name: str) -> str:
        return self.visit.url(name) if name in self.visit.request.app.state.routes else "#"

    def _priority(self, name: str) -> Markup:
        return priority_bars(name, self.word_of(name))

    def _nav(self) -> list[tuple[str, str, str, str, bool]]:
        atlas = self.visit.atlas
        jobs = atlas.cron.sync.shown.jobs
        waiting = int(atlas.get_queue_status()["queue_size"])
        pills = {
            "jobs": (len(self.desk.records()) + len(jobs.parked()), False),
            "queue": (waiting, False),
            "config": (1 if atlas.config_error() is not None else 0, True),
        }
        found = []
        for key, words in SECTIONS:
            count, warn = pills.get(key, (0, False))
            pill = "!" if count and warn else self.said.count(count) if count else ""
            found.append((key, self.url(key), self.say(words), pill, warn))
        return found


def page_number(view: View, total: int, per_page: int) -> int:
    """The page that is asked for, within what there is; 1 for nonsense."""
    return max(1, min(number_in(view.asked("page")) or 1, (total - 1) // per_page + 1))


def number_in(text: str) -> int | None:
    """The whole number that an address holds, None where that is none or no database has one so large."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def priority_name(number: int) -> str:
    """``HIGH``; the number where a newer Atlas wrote one that this one does not know."""
    return next((one.name for one in TaskPriority if one == number), str(number))


def short_json(value: Any, limit: int = 400) -> str:
    """A JSON value on one line, cut to ``limit`` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def breaking(address: str) -> Markup:
    """A path or an address, which may be broken behind each slash."""
    return Markup("/<wbr>").join(escape(part) for part in address.split("/"))
