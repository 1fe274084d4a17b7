"""Why nothing was decided for an instant."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from atlas.scheduler.store.audit import Action, read_audit
from atlas.scheduler.store.revisions import latest_revision
from atlas.scheduler.why.inquiry import minute_of

if TYPE_CHECKING:
    from atlas.scheduler.why.inquiry import Inquiry


def tell_of_nothing(ask: Inquiry, at: datetime) -> None:
    """What is known of an instant for which nothing is stored."""
    record = ask.record
    if at > ask.now:
        ask.verdict = "undecided"
        ask.tell(f"{ask.time(at)} is still to come, so nothing is decided yet.")
        return
    in_force = latest_revision(ask.connection, until=at)
    ask.facts["revision"] = None if in_force is None else in_force.number
    entry = None if in_force is None else _entry(in_force.text, ask.job_id)
    if entry is None and _came_later(ask, at):
        ask.verdict = "not_there"
        told = (
            "no revision of the config file was in force"
            if in_force is None
            else f"revision {in_force.number} was in force"
        )
        ask.tell(f"There was no such job at {ask.time(at)}: {told}, and the job came later.")
        return
    ask.verdict = "not_due"
    if entry is not None and entry.get("enabled") is False and in_force is not None:
        ask.tell(f"It was switched off at {ask.time(at)}: revision {in_force.number} says enabled: false.")
        return
    ask.tell(f"Nothing was decided for {ask.time(at)}.")
    if record is None:
        return
    begin, end = (datetime.fromtimestamp(one, UTC) for one in minute_of(at))
    schedule = record.definition.schedule
    due = schedule.next_after(begin - timedelta(microseconds=1))
    if due is not None and due < end:
        ask.verdict = "undecided"
        ask.tell(
            "By the schedule it has now it would have been due: either it had another one then, or the record of it"
            " was removed by retention, or no scheduler has run since."
        )
    else:
        before = schedule.previous_before(end)
        told = "" if before is None else f"; the fire time before is {ask.time(before)}"
        after = "" if due is None else f", the next one {ask.time(due)}"
        ask.tell(f"It was not due then: its schedule is {schedule.describe()}{told}{after}.")


def _came_later(ask: Inquiry, at: datetime) -> bool:
    added = read_audit(ask.connection, subject=ask.job_id, action=Action.ADD, limit=1)
    if ask.record is not None and ask.record.source.value == "code":
        return bool(added) and added[0].at > at
    return True


def _entry(text: str, job_id: str) -> dict[str, Any] | None:
    """What an accepted text says of a job."""
    try:
        found = json.loads(text)["cron_jobs"].get(job_id)
    except (ValueError, KeyError, AttributeError):
        return None
    return found if isinstance(found, dict) else None
