"""Find: a job or a task by a few letters; help: what the keyboard does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import RedirectResponse

from atlas.scheduler.store.task_rows import fetch
from atlas.web.pages.job_rows import matching, rows_of
from atlas.web.pages.view import View
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from starlette.responses import Response

    from atlas.web.rendering import Shown
    from atlas.web.site import Visit

MOST: Final = 30
KEYS: Final = (
    (("/",), "find a job or a task"),
    (("j", "k"), "move down and up"),
    (("Enter",), "open"),
    (("r",), "run the chosen job now"),
    (("p",), "pause or resume the chosen job"),
    (("x",), "select the chosen job, for an action on several"),
    (("c",), "copy the task for an issue"),
    (("t",), "light or dark"),
    (("g", "o"), "go to the overview"),
    (("g", "j"), "go to the jobs"),
    (("g", "t"), "go to the tasks"),
    (("g", "q"), "go to the queue"),
    (("g", "c"), "go to the config"),
    (("g", "s"), "go to the system"),
    (("Esc",), "leave a field; from a question, go back"),
    (("?",), "this page"),
)


def find(visit: Visit) -> Shown | Response:
    """Jobs that match; the task itself for its id; tasks by text one click away."""
    view = View.of(visit)
    text = view.asked("q", 200)
    if text:
        task = view.desk.store.read(lambda connection: fetch(connection, text))
        if task is not None:
            return RedirectResponse(view.url("task", task=task.id), 303)
        if view.desk.record(text) is not None:
            return RedirectResponse(view.url("job", job=text), 303)
    found = matching(view.desk.records(), text) if text else []
    rows = rows_of(view.desk, found[:MOST], view.now)
    return view.shown("find.html", view.say("Find"), "", text=text, rows=rows, more=len(found) - len(rows))


def keys(visit: Visit) -> Shown:
    """The keyboard, on a page of its own."""
    view = View.of(visit)
    return view.shown("help.html", view.say("Keyboard"), "", keys=KEYS)


FIND: Final = Page("find", "/find", find)
HELP: Final = Page("help", "/help", keys)
