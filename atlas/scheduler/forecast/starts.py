"""When jobs start, spread and calendar included; lazily, in the order of time."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime, timedelta
from itertools import count, islice, takewhile
from typing import TYPE_CHECKING

from loguru import logger

from atlas.scheduler.store.refusals import cause_of
from atlas.scheduler.zones import zone_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from atlas.scheduler.triggers import AtlasTrigger


def start_times(trigger: AtlasTrigger, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """The first ``limit`` starts of a job in ``after`` < t <= ``until``, aware UTC.

    Spread is in them; dates on which its calendar turns fire times into skips are not.

    Raises:
        ValueError: An instant is naive.
    """
    return list(islice(takewhile(lambda at: at <= until, starts_after(trigger, after)), limit))


def starts_after(trigger: AtlasTrigger, after: datetime) -> Iterator[datetime]:
    """Starts after ``after``; a stretch that the calendar excludes is one look, however long it is.

    They end where the schedule raises: the job is set apart for it, and what is foreseen of the others stands.
    """
    schedule = trigger.schedule
    zone = zone_named(schedule.timezone)
    try:
        fire_time = schedule.next_after(trigger.fire_time_of(after))
        while fire_time is not None:
            if schedule.calendar is not None and schedule.is_excluded(fire_time):
                opens = schedule.calendar.first_open(fire_time.astimezone(zone).date())
                if opens is None:
                    return
                midnight = datetime(opens.year, opens.month, opens.day, tzinfo=zone)
                before = midnight.astimezone(UTC) - timedelta(microseconds=1)
                fire_time = schedule.next_after(max(before, fire_time))
                continue
            yield trigger.run_time_of(fire_time)
            fire_time = schedule.next_after(fire_time)
    except Exception as error:  # noqa: BLE001 - as above
        logger.debug("a schedule raised while it was looked ahead: {}", cause_of(error))


def merged(
    groups: Iterable[AtlasTrigger], after: datetime, until: datetime
) -> Iterator[tuple[datetime, list[AtlasTrigger]]]:
    """Each instant at which something starts, and the triggers that say so; lazily, in the order of time."""
    number = count()
    heap: list[tuple[datetime, int, AtlasTrigger, Iterator[datetime]]] = []

    def push(trigger: AtlasTrigger, ahead: Iterator[datetime]) -> None:
        at = next(ahead, None)
        if at is not None and at <= until:
            heapq.heappush(heap, (at, next(number), trigger, ahead))

    for trigger in groups:
        push(trigger, starts_after(trigger, after))
    while heap:
        at, triggers = heap[0][0], []
        while heap and heap[0][0] == at:
            _, _, trigger, ahead = heapq.heappop(heap)
            triggers.append(trigger)
            push(trigger, ahead)
        yield at, triggers
