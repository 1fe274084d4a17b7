"""Whether work gets done: the config file, the queue, abandoned threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from atlas.builtin.health.check import Check
from atlas.scheduler.message import Message, joined
from atlas.scheduler.task import TaskPriority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from atlas.builtin.health.check import HealthSource
LONG_WAIT_S: Final[Mapping[TaskPriority, float]] = {
    TaskPriority.URGENT: 60.0,
    TaskPriority.HIGH: 300.0,
    TaskPriority.NORMAL: 900.0,
    TaskPriority.LOW: 3600.0,
}
FULL_S: Final = 60.0
"""How long a task may wait for an executor that is full while slots are free elsewhere."""


def config_check(source: HealthSource) -> Check:
    """Whether the jobs file is in force, refused, or waits to be applied."""
    error, drift = source.config_error(), source.config_drift()
    if error is None and drift is not None:
        return Check(status="degraded", detail=drift, remedy=Message("'atlas plan' shows what would change"))
    if error is None:
        return Check(detail=Message("the jobs file is in force"))
    return Check(
        status="degraded",
        detail=Message(
            "refused, the last good revision runs on: {error}", error=error if len(error) <= 1000 else error[:1000]
        ),
        remedy=Message("correct the file; 'atlas check' shows the place"),
    )


def queue_check(source: HealthSource) -> Check:
    """How many wait and for how long, which executor is full, whether work starts at all."""
    figures = source.get_queue_status()
    if figures.get("state") == "stopped":
        return Check(status="failing", detail=Message("it is not started"), remedy=Message("start the scheduler"))
    waits = {TaskPriority[name]: wait_s for name, wait_s in figures.get("oldest_wait_s", {}).items()}
    depths = {TaskPriority[name]: depth for name, depth in figures.get("by_priority", {}).items() if depth}
    told: list[str] = [
        Message(
            "{priority} {n}, oldest {s} s",
            priority=priority.name,
            n=f"{depths.get(priority, 0):,}",
            s=f"{waits[priority]:.0f}",
        )
        for priority in sorted(waits)
    ]
    counts = {
        "waiting": f"{figures['queue_size']:,}",
        "running": figures["running_tasks"],
        "slots": figures["max_workers"],
    }
    detail: str = (
        Message("{waiting} waiting, {running} of {slots} running ({each})", each=joined("; ", told), **counts)
        if told
        else Message("{waiting} waiting, {running} of {slots} running", **counts)
    )
    full: Mapping[str, Mapping[str, Any]] = figures.get("full_executors") or {}
    if full:
        detail = joined("; ", [detail, *(full_words(executor, facts) for executor, facts in full.items())])
    if figures.get("store_fault"):
        return Check(
            status="failing",
            detail=Message("{detail}; no work starts: {fault}", detail=detail, fault=figures["store_fault"]),
            remedy=Message("see the check store"),
        )
    late = [priority.name for priority, wait_s in sorted(waits.items()) if wait_s > LONG_WAIT_S[priority]]
    if late:
        remedy = Message("raise scheduler.max_workers, or find what holds the slots: 'atlas tasks'")
        return Check(
            status="degraded",
            detail=Message("{which} wait too long: {detail}", which=", ".join(late), detail=detail),
            remedy=remedy,
        )
    if any(facts["oldest_wait_s"] > FULL_S for facts in full.values()):
        remedy = Message("raise scheduler.executor_limits, or find what holds the slots: 'atlas tasks'")
        return Check(status="degraded", detail=detail, remedy=remedy)
    return Check(detail=detail)


def full_words(executor: str, facts: Mapping[str, Any]) -> str:
    """An executor whose own limit keeps tasks waiting, as `get_queue_status` tells of it, in words."""
    return Message(
        "executor {executor} is full ({limit}): {n} wait, the oldest {s} s, for {names}",
        executor=executor,
        limit=facts["limit"],
        n=f"{facts['waiting']:,}",
        s=f"{facts['oldest_wait_s']:.0f}",
        names=", ".join(facts["held_by"]) or "?",
    )


def threads_check(source: HealthSource) -> Check:
    """Threads that were abandoned and still run."""
    figures = source.get_queue_status()
    abandoned, slots = int(figures.get("abandoned_threads", 0)), int(figures["max_workers"])
    if not abandoned:
        return Check(detail=Message("no abandoned threads"))
    return Check(
        status="failing" if abandoned >= slots else "degraded",
        detail=Message(
            "{n} threads were abandoned by timeouts and cancels and still run; at {slots} none is replaced",
            n=abandoned,
            slots=slots,
        ),
        remedy=Message(
            'call current_task().check() in those functions, or give their jobs "executor": "process"; then restart'
        ),
    )
