"""Whether a clock looks for due jobs, here or in the process that leads, and what befell it lately."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from atlas.builtin.health.check import Check
from atlas.builtin.health.database import LOSS_REMEDY
from atlas.scheduler.events import SchedulerEventKind
from atlas.scheduler.lease_facts import silent_s, tick_age_s
from atlas.scheduler.message import Message, joined
from atlas.scheduler.store.leases import LEASE_S, RENEW_S

if TYPE_CHECKING:
    from atlas.builtin.health.check import HealthSource, Status
    from atlas.scheduler.clock import Clock
    from atlas.scheduler.store.leases import Lease
SLACK_S: Final = 3.0
"""How late a sign of life may come on a busy machine before it is told."""
TICK_LATE_S: Final = 60.0
"""The clock looks for due jobs at least every 30 s, and a pass may wait for the store a little."""
TICK_DEAD_S: Final = 180.0
TROUBLE_S: Final = 3600.0
"""How long a restart of the loop, a step of the clock, a sleep or a lost database is told."""
TROUBLE_REMEDIES: Final = {
    SchedulerEventKind.CLOCK_STEPPED: Message("a clock that steps needs NTP"),
    SchedulerEventKind.SUSPENDED: Message("keep what serves from sleeping; what was due followed its job's catch-up"),
    SchedulerEventKind.RESTARTED: Message("a loop that was restarted left its reason in the log"),
    SchedulerEventKind.STORE_REBUILT: LOSS_REMEDY,
}
"""What to do, by what befell."""


def scheduler_check(source: HealthSource, clock: Clock) -> Check:
    """Whether the loop looks for due jobs, and what befell it lately."""
    age_s = source.last_tick_s()
    if age_s is None:
        return Check(detail=Message("no clock runs in this process; jobs fire elsewhere or not at all"))
    detail = Message("last looked for due jobs {s} s ago", s=f"{age_s:.1f}")
    if age_s <= TICK_LATE_S:
        return _lately(source, clock, detail)
    status: Status = "failing" if age_s > TICK_DEAD_S else "degraded"
    return Check(status=status, detail=detail, remedy=Message("look at the store; if that is well, restart"))


def leader_check(lease: Lease, source: HealthSource, clock: Clock) -> Check:
    """Another process leads: whether it lives and its clock runs, and what befell it lately, as ``source`` tells."""
    now = clock.now()
    tick_s, quiet_s = tick_age_s(lease, now), silent_s(lease, now)
    tick = Message("its clock does not run") if tick_s is None else Message("last tick {s} s ago", s=f"{tick_s:.1f}")
    if quiet_s > RENEW_S + SLACK_S:
        return Check(
            status="degraded",
            detail=Message(
                "the leader, {who}, has been silent for {s} s; {tick}", who=lease.words, s=f"{quiet_s:.0f}", tick=tick
            ),
            remedy=Message(
                "after {s} s a process that stands by takes over; end a frozen one: kill -9 on its host",
                s=f"{LEASE_S:g}",
            ),
        )
    detail = Message("the leader is {who}, {tick}", who=lease.words, tick=tick)
    if tick_s is not None and tick_s > TICK_LATE_S:
        status: Status = "failing" if tick_s > TICK_DEAD_S else "degraded"
        remedy = Message("look at the store; if that is well, restart the leader")
        return Check(status=status, detail=detail, remedy=remedy)
    return _lately(source, clock, detail)


def standby_check(lease: Lease | None, source: HealthSource, clock: Clock) -> Check:
    """This process stands by; ``lease`` is that of the leader, living or not."""
    if lease is None or lease.stopped_at is not None or lease.ended:
        detail = Message("stands by; nobody leads: this process is about to")
        return Check(status="degraded", detail=detail)
    found = leader_check(lease, source, clock)
    return replace(found, detail=Message("stands by; {what}", what=found.detail))


def _lately(source: HealthSource, clock: Clock, detail: Message) -> Check:
    """The loop looks for due jobs; what befell it in the last hour is worth a look all the same."""
    now = clock.now()
    told = [trouble for trouble in source.troubles() if (now - trouble.at).total_seconds() <= TROUBLE_S][-5:]
    if not told:
        return Check(detail=detail)
    words = joined(
        "; ", [Message("{at} {what}", at=one.at.isoformat(timespec="seconds"), what=one.words) for one in told]
    )
    return Check(
        status="degraded",
        detail=Message("{detail}; in the last hour: {what}", detail=detail, what=words),
        remedy=joined("; ", list(dict.fromkeys(TROUBLE_REMEDIES[one.kind] for one in told))),
    )
