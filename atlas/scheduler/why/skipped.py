"""Why a fire time made no task."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from atlas.scheduler.durations import format_duration
from atlas.scheduler.store.task_rows import fetch

if TYPE_CHECKING:
    from sqlalchemy import Row

    from atlas.scheduler.why.inquiry import Inquiry


def tell_of_skip(ask: Inquiry, fire: Row[Any]) -> None:
    """The stored skip ``fire``, and its reason."""
    ask.verdict = "skipped"
    ask.facts |= {
        "skip_reason": fire.skip_reason,
        "detail": fire.detail,
        "fire_time": _iso(fire.fire_time),
        "last": _iso(fire.last),
        "count": fire._mapping["count"],  # noqa: SLF001 - a row has a method of this name
        "decided_at": _iso(fire.decided_at),
        "revision": fire.revision,
    }
    count = ask.facts["count"]
    if fire.last is not None and fire.last > fire.fire_time:
        many = f"{count:,} fire times" if count else "more than a thousand fire times"
        due = f"It made no task for {many} from {ask.time(fire.fire_time)} to {ask.time(fire.last)}"
    else:
        due = f"It was due at {ask.time(fire.fire_time)} and made no task"
    ask.tell(f"{due}, because {_reason(ask, fire)}{ask.under(fire.revision)}.")


def _reason(ask: Inquiry, fire: Row[Any]) -> str:
    match fire.skip_reason:
        case "paused":
            told = (fire.detail or "").strip().rstrip(":")
            return "it was paused" + (f" {told}" if told and told != "by" else "")
        case "overlap":
            return _overlap(ask, fire)
        case "missed":
            return _missed(ask, fire)
        case "coalesced":
            return "a newer fire time was served in its place, as catch-up is latest"
        case "unbound":
            return f"its function was missing ({fire.detail})"
        case "calendar":
            return "its calendar leaves that day out"
        case "stopped":
            return "the queue was stopping and took nothing"
        case "fault":
            return f"deciding on it raised {fire.detail}"
        case _:
            return f"{fire.skip_reason}: {fire.detail}"


def _overlap(ask: Inquiry, fire: Row[Any]) -> str:
    blocking = None if fire.detail is None else fetch(ask.connection, fire.detail)
    if blocking is None:
        return f"task {fire.detail} of it was unfinished, and its overlap rule made no second one"
    began = blocking.started_at or blocking.created_at
    ask.facts["blocking_task"] = {"task": blocking.id, "status": blocking.status.value}
    ran = f"ran since {ask.time(began)}" if blocking.started_at else f"waited since {ask.time(began)}"
    end = (
        ""
        if blocking.finished_at is None
        else f" and ended {blocking.status.lower()} at {ask.time(blocking.finished_at)}"
    )
    return f"its task {blocking.id} {ran}{end}; its overlap rule makes no second one meanwhile"


def _missed(ask: Inquiry, fire: Row[Any]) -> str:
    late_s = fire.decided_at - fire.fire_time
    until = f"{ask.time(fire.decided_at)}, {format_duration(late_s)} later"
    told = f"nobody could serve it until {until}, and {fire.detail}"
    if ask.record is not None and (fire.detail or "").endswith("latest"):
        told += f" within {format_duration(ask.record.definition.catchup_window_s)}"
    down = ask.downtime(fire.fire_time, fire.decided_at)
    return told + (f" ({down[0].lower()}{down[1:].rstrip('.')})" if down else "")


def _iso(value: float | None) -> str | None:
    return None if value is None else datetime.fromtimestamp(value, UTC).isoformat()
