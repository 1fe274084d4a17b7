"""The pages: each is a `Page` of name, path, view and live fragments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.web.pages.asking import ASKING
from atlas.web.pages.config import CONFIG
from atlas.web.pages.finding import FIND, HELP
from atlas.web.pages.issue import ISSUE
from atlas.web.pages.job import JOB
from atlas.web.pages.jobs import JOBS
from atlas.web.pages.overview import OVERVIEW
from atlas.web.pages.queue import QUEUE
from atlas.web.pages.system import SYSTEM
from atlas.web.pages.task import TASK
from atlas.web.pages.tasks import TASKS

if TYPE_CHECKING:
    from atlas.web.rendering import Page


def routes() -> list[Page]:
    """Every page, in the order their paths are tried."""
    return [OVERVIEW, JOBS, JOB, TASKS, TASK, ISSUE, QUEUE, CONFIG, SYSTEM, FIND, HELP, *ASKING]
