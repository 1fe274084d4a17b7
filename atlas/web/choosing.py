"""Choosing several jobs: each has a field of its own, ``job:ID``, so that a form without a script is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from atlas.web.site import Visit

PREFIX: Final = "job:"


def is_choice(name: str) -> bool:
    """True for the name of a field that chooses a job."""
    return name.startswith(PREFIX)


def chosen_in(fields: Mapping[str, str]) -> list[str]:
    """The ids of the chosen jobs, in the order of the page."""
    return [name.removeprefix(PREFIX) for name in fields if is_choice(name)]


def may_resume(visit: Visit, job_ids: Sequence[str]) -> list[str]:
    """Those of the jobs that are paused or set apart, and that the config file does not disable."""
    shown = visit.atlas.cron.sync.shown
    apart = shown.jobs.apart_words()
    records = ((job_id, shown.jobs.record(job_id)) for job_id in job_ids)
    return [
        job_id
        for job_id, record in records
        if record is not None and record.enabled and (shown.states.pause_of(job_id) is not None or job_id in apart)
    ]
