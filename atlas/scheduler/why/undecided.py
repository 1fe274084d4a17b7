"""Why nothing was decided for an instant."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from loguru import logger

from atlas.scheduler.message import Both, Message
from atlas.scheduler.store.audit import Action, read_audit
from atlas.scheduler.store.refusals import cause_of
from atlas.scheduler.store.revisions import latest_revision, revision_numbered
from atlas.scheduler.why.inquiry import minute_of

if TYPE_CHECKING:
    from atlas.scheduler.why.inquiry import Inquiry


def tell_of_nothing(ask: Inquiry, at: datetime) -> None:
    """What is known of an instant for which nothing is stored."""
    record = ask.record
    if at > ask.now:
        ask.verdict = "undecided"
        ask.tell(Message("{at} is still to come, so nothing is decided yet.", at=ask.time(at)))
        return
    in_force = latest_revision(ask.connection, until=at)
    ask.facts["revision"] = None if in_force is None else in_force.number
    found = None if in_force is None else revision_numbered(ask.connection, in_force.number)
    entry = None if found is None else _entry(found.text, ask.job_id)
    if entry is None and _came_later(ask, at):
        ask.verdict = "not_there"
        told = (
            Message("no revision of the config file was in force")
            if in_force is None
            else Message("revision {n} was in force", n=in_force.number)
        )
        ask.tell(Message("There was no such job at {at}: {what}, and the job came later.", at=ask.time(at), what=told))
        return
    ask.verdict = "not_due"
    if entry is not None and entry.get("enabled") is False and in_force is not None:
        ask.tell(
            Message(
                "It was switched off at {at}: revision {n} says enabled: false.", at=ask.time(at), n=in_force.number
            )
        )
        return
    ask.tell(Message("Nothing was decided for {at}.", at=ask.time(at)))
    if record is None:
        return
    begin, end = (datetime.fromtimestamp(one, UTC) for one in minute_of(at))
    schedule = record.definition.schedule
    try:
        due = schedule.next_after(begin - timedelta(microseconds=1))
    except Exception as error:  # noqa: BLE001 - the answer goes on with what the job is set apart for
        logger.bind(job_id=ask.job_id).debug("a schedule raised while it was asked about: {}", cause_of(error))
        ask.verdict = "undecided"
        return
    if due is not None and due < end:
        ask.verdict = "undecided"
        ask.tell(
            Message(
                "By the schedule it has now it would have been due: either it had another one then, or the record of it"
                " was removed by retention, or no scheduler has run since."
            )
        )
    else:
        before = schedule.previous_before(end)
        ask.tell(
            Message(
                "It was not due then: its schedule is {schedule}{before}{after}.",
                schedule=Both(schedule.describe("en"), schedule.describe("zh")),
                before="" if before is None else Message("; the fire time before is {at}", at=ask.time(before)),
                after="" if due is None else Message(", the next one {at}", at=ask.time(due)),
            )
        )


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
