"""An unfinished task in memory, and one try of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atlas.scheduler.context import TaskContext
    from atlas.scheduler.outcome import Outcome, StopReason
    from atlas.scheduler.registry import Function
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.task import Task


@dataclass(slots=True, eq=False)
class Live:
    """An unfinished task in memory, with what rows cannot hold.

    Attributes:
        function: Its callable; durable tasks get it when an attempt begins.
        claim_first: RUNNING is committed before the function is entered.
        is_suspect: It was running when its process died, so it may be what killed it: see `Admission.may_begin`.
        alone_s: As a suspect it runs so long before the next one may.
        alone_until_s: Monotonic time of that.
        on_disk: Its row is committed; until then nobody outside knows the task.
        tickets: Who waits for the end.
        context: The running attempt, None while it waits.
        deadline_s: Monotonic time at which the attempt runs out of time.
        stopped_at_s: Monotonic time of that.
        stopper: How this executor is asked to stop it.
    """

    task: Task
    function: Function | None = None
    args: Sequence[Any] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    claim_first: bool = False
    is_suspect: bool = False
    alone_s: float = 0.0
    alone_until_s: float = inf
    on_disk: bool = False
    tickets: list[Ticket] = field(default_factory=list)
    context: TaskContext | None = None
    deadline_s: float | None = None
    stop: StopReason | None = None
    stopped_at_s: float = 0.0
    stopper: Callable[[StopReason], None] | None = None


@dataclass(slots=True, eq=False)
class Attempt:
    """One try of a live task, as its executor holds it.

    Attributes:
        context: What its function may ask; a result with the number of an older one is refused.
        claim: Waited for before the function is entered, None when it may be entered at once.
        failure: The attempt ends so without entering the function.
    """

    live: Live
    context: TaskContext
    claim: Ticket | None = None
    failure: Outcome | None = None
