"""Why a fire time made no task."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.durations import format_duration
from atlas.scheduler.message import Message
from atlas.scheduler.store.task_rows import fetch
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from sqlalchemy import Row

    from atlas.scheduler.why.inquiry import Inquiry

_ENDED: Final = {
    TaskStatus.SUCCESS: Message("success"),
    TaskStatus.FAILED: Message("failed"),
    TaskStatus.TIMEOUT: Message("timeout"),
    TaskStatus.CANCELLED: Message("cancelled"),
}
_CATCHUP: Final = {
    "catch-up is none": Message("catch-up is none"),
    "catch-up is latest": Message("catch-up is latest"),
    "catch-up is all": Message("catch-up is all"),
}
"""What the row of a fire time says that was missed, or left to a newer one."""


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
    _tell_what(ask, fire)
    blocking = ask.facts.get("blocking_task")
    if blocking is not None and blocking["status"] == TaskStatus.PENDING:
        ask.tell(Message("That task waits for a slot{others}.", others=ask.running()))


def _tell_what(ask: Inquiry, fire: Row[Any]) -> None:
    why, under, count = _reason(ask, fire), ask.under(fire.revision), ask.facts["count"]
    if fire.last is None or fire.last <= fire.fire_time:
        ask.tell(
            Message(
                "It was due at {at} and made no task, because {why}{under}.",
                at=ask.time(fire.fire_time),
                why=why,
                under=under,
            )
        )
        return
    span = {"at": ask.time(fire.fire_time), "until": ask.time(fire.last), "why": why, "under": under}
    if count:
        ask.tell(
            Message(
                "It made no task for {n} fire times from {at} to {until}, because {why}{under}.", n=f"{count:,}", **span
            )
        )
    else:
        ask.tell(
            Message(
                "It made no task for more than a thousand fire times from {at} to {until}, because {why}{under}.",
                **span,
            )
        )


def _reason(ask: Inquiry, fire: Row[Any]) -> str:
    match fire.skip_reason:
        case "paused":
            return _paused((fire.detail or "").strip().rstrip(":"))
        case "overlap":
            return _overlap(ask, fire)
        case "missed":
            return _missed(ask, fire)
        case "coalesced":
            rule = _CATCHUP.get(fire.detail or "", fire.detail)
            return Message("a newer fire time was served in its place, as {detail}", detail=rule)
        case "unbound":
            ask.told_errors.add(fire.detail)
            return Message("its function was missing ({detail})", detail=fire.detail)
        case "calendar":
            return Message("its calendar leaves that day out")
        case "stopped":
            return Message("the queue was stopping and took nothing")
        case "fault":
            return Message("deciding on it raised {detail}", detail=fire.detail)
        case _:
            return f"{fire.skip_reason}: {fire.detail}"


def _paused(detail: str) -> str:
    """``by web: moving house``, or a part of it."""
    who, _, reason = (part.strip() for part in detail.removeprefix("by").partition(": "))
    if who and reason:
        return Message("it was paused by {who}: {reason}", who=who, reason=reason)
    if who:
        return Message("it was paused by {who}", who=who)
    return Message("it was paused: {reason}", reason=reason) if reason else Message("it was paused")


def _overlap(ask: Inquiry, fire: Row[Any]) -> str:
    blocking = None if fire.detail is None else fetch(ask.connection, fire.detail)
    if blocking is None:
        return Message("task {task} of it was unfinished, and its overlap rule made no second one", task=fire.detail)
    began = ask.time(blocking.started_at or blocking.created_at)
    ask.facts["blocking_task"] = {"task": blocking.id, "status": blocking.status.value}
    return Message(
        "its task {task} {ran}{end}; its overlap rule makes no second one meanwhile",
        task=blocking.id,
        ran=Message("ran since {at}", at=began) if blocking.started_at else Message("waited since {at}", at=began),
        end=""
        if blocking.finished_at is None
        else Message(
            " and ended {status} at {at}",
            status=_ENDED.get(blocking.status, blocking.status.lower()),
            at=ask.time(blocking.finished_at),
        ),
    )


def _missed(ask: Inquiry, fire: Row[Any]) -> str:
    late_s = fire.decided_at - fire.fire_time
    window = ""
    if ask.record is not None and (fire.detail or "").endswith("latest"):
        window = Message(" within {s}", s=format_duration(ask.record.definition.policies.catchup_window_s))
    started = ask.started(fire.fire_time, fire.decided_at)
    return Message(
        "nobody could serve it until {at}, {s} later, and {detail}{window}{down}",
        at=ask.time(fire.decided_at),
        s=format_duration(late_s),
        detail=_CATCHUP.get(fire.detail or "", fire.detail),
        window=window,
        down=Message(" (the scheduler was not able to look at it in time)")
        if started is None
        else Message(" (no scheduler ran then; one was started at {at})", at=started),
    )


def _iso(value: float | None) -> str | None:
    return None if value is None else datetime.fromtimestamp(value, UTC).isoformat()
