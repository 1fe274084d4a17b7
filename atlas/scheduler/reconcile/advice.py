"""What a jobs file may say and hardly means: herds, one function twice in a minute, times that a clock leaves out.

It looks at a day of starts, so that it is for whoever checks a file, not for every start of the scheduler.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from atlas.scheduler.cron.expression import parse_cron
from atlas.scheduler.durations import format_duration
from atlas.scheduler.forecast.forecast import forecast
from atlas.scheduler.forecast.jobs import ForecastJob
from atlas.scheduler.forecast.starts import start_times
from atlas.scheduler.jobs_file.json_reading import read_json
from atlas.scheduler.message import Message
from atlas.scheduler.store.refusals import cause_of
from atlas.scheduler.triggers import trigger_of
from atlas.scheduler.zones import shifts, zone_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.errors import Problem
    from atlas.scheduler.jobs_file.parsing import JobsFile
    from atlas.scheduler.zones import Shift

DAY: Final = timedelta(days=1)
LOOKED_AHEAD: Final = timedelta(days=400)
"""How far clock changes are looked for: beyond the next one each way."""
LOOKED_AT: Final = 1500
"""Starts of a day that are looked at per job: one a minute."""
MAX_TWICE: Final = 20
"""Minutes with jobs of one function that are told of."""
NAMED: Final = 4
"""Jobs that a message names."""

Place = tuple[str | int, ...]
_MICROSECOND: Final = timedelta(microseconds=1)


def advise(
    wanted: JobsFile, *, file: Path | str, now: datetime, slots: int, limits: Mapping[str, int] | None = None
) -> tuple[Problem, ...]:
    """Warnings about a file that was accepted, located, in file order.

    It looks a day ahead from ``now``; ``limits``: executor → fewer tasks at once than ``slots``.
    """
    found = [
        *_herds(wanted, now, slots, limits),
        *_twice(wanted, now),
        *_gaps(wanted, now),
        *_without_start(wanted, now),
    ]
    if not found:
        return ()
    document = read_json(wanted.text)
    told = [
        document.problem(file, place, message, on_key=len(place) == 2, shown=len(place) != 2, severity="warning")
        for place, message in found
    ]
    return tuple(sorted(told, key=lambda one: (one.line, one.column)))


def _herds(
    wanted: JobsFile, now: datetime, slots: int, limits: Mapping[str, int] | None
) -> Iterator[tuple[Place, str]]:
    """More jobs than slots start in one instant."""
    jobs = (ForecastJob(one) for one in wanted.definitions.values())
    order = {job_id: number for number, job_id in enumerate(wanted.definitions)}
    for herd in forecast(jobs, now=now, slots=slots, limits=limits, singly=False).herds:
        first, *others = sorted(herd.job_ids, key=order.__getitem__)
        at = herd.at.astimezone(zone_named(wanted.definitions[first].schedule.timezone))
        proposal = (
            Message("move some of them")
            if herd.spread_s is None
            else Message(
                '"spread": "{spread}" in each of them would even it out',
                spread=format_duration(herd.spread_s).replace(" ", ""),
            )
        )
        yield (
            ("cron_jobs", first),
            Message(
                "starts together with {n} more jobs at {at} ({which}), and {slots} run at once; {proposal}",
                n=len(others),
                at=f"{at:%H:%M:%S}",
                which=_names(others),
                slots=slots,
                proposal=proposal,
            ),
        )


def _twice(wanted: JobsFile, now: datetime) -> Iterator[tuple[Place, str]]:
    """Jobs that start one function in the same minute; those that meet the same job are told of once, together."""
    by_function: dict[str, list[JobDefinition]] = {}
    for one in wanted.definitions.values():
        if one.enabled:
            by_function.setdefault(one.function, []).append(one)
    met: dict[str, list[tuple[JobDefinition, int]]] = {}
    for jobs in by_function.values():
        first: dict[int, JobDefinition] = {}
        for one in jobs if len(jobs) > 1 else ():
            minutes = {int(at.timestamp()) // 60 for at in start_times(trigger_of(one), now, now + DAY, LOOKED_AT)}
            shared = min((minute for minute in minutes if minute in first), default=None)
            if shared is not None:
                met.setdefault(first[shared].id, []).append((one, shared))
            for minute in minutes:
                first.setdefault(minute, one)
    for number, (other, found) in enumerate(met.items()):
        one, minute = found[0]
        at = datetime.fromtimestamp(minute * 60, UTC).astimezone(zone_named(one.schedule.timezone))
        message = Message(
            "runs {function} in the same minute as {other} (at {at})",
            function=one.function,
            other=other,
            at=f"{at:%H:%M}",
        )
        if len(found) > 1:
            message = Message(
                "{message}, and so do {which}", message=message, which=_names([job.id for job, _minute in found[1:]])
            )
        if number == MAX_TWICE - 1 and len(met) > MAX_TWICE:
            more = len(met) - MAX_TWICE
            yield ("cron_jobs", one.id), Message("{message}; {n} more minutes have such jobs", message=message, n=more)
            return
        yield ("cron_jobs", one.id), Message("{message}; if that is not meant, move one of them", message=message)


def _without_start(wanted: JobsFile, now: datetime) -> Iterator[tuple[Place, str]]:
    """A schedule that is over already, as with the year of the last one, or cannot say when its job starts first."""
    for one in wanted.definitions.values():
        if one.enabled:
            try:
                if trigger_of(one).get_next_fire_time(None, now) is None:
                    yield _over(one, now)
            except Exception as error:  # noqa: BLE001 - as the scheduler does, which serves the others
                pattern = "its next start cannot be computed: {error}; until it can, the job alone is set apart"
                yield ("cron_jobs", one.id), Message(pattern, error=cause_of(error))


def _over(job: JobDefinition, now: datetime) -> tuple[Place, str]:
    end_at, message = job.schedule.end_at, Message("every time of it is over: the job does not start any more")
    ends = end_at is not None and end_at <= now
    return ("cron_jobs", job.id, "end_at") if ends else ("cron_jobs", job.id), message


def _gaps(wanted: JobsFile, now: datetime) -> Iterator[tuple[Place, str]]:
    """A fixed time that the clock leaves out on the day it goes forward."""
    for one in wanted.definitions.values():
        for number, text in enumerate(one.schedule.cron):
            message = _in_gap(text, one.schedule.timezone, now.date())
            if message is not None:
                place: Place = ("cron_jobs", one.id, "cron_expression")
                yield (*place, number) if len(one.schedule.cron) > 1 else place, message


@lru_cache(maxsize=4096)
def _in_gap(text: str, timezone: str, today: date) -> str | None:
    steady = parse_cron(text, "UTC")
    if steady.fields.wildcard:
        return None  # it follows the wall clock, and misses nothing that is there
    for gap in _shifts_forward(timezone, today):
        begin, end = (wall.replace(tzinfo=UTC, fold=0) for wall in (gap.before, gap.after))
        meant = steady.next_after(begin - _MICROSECOND)
        if meant is None or meant >= end:
            continue
        instead = parse_cron(text, timezone).next_after(gap.at - _MICROSECOND)
        if instead is None:
            continue
        local = instead.astimezone(zone_named(timezone))
        return Message(
            "{meant} is a time that the clock in {zone} leaves out on {day}; on that day it fires at {instead}",
            meant=f"{meant:%H:%M}",
            zone=timezone,
            day=f"{meant:%Y-%m-%d}",
            instead=f"{local:%H:%M}",
        )
    return None


@lru_cache(maxsize=512)
def _shifts_forward(timezone: str, today: date) -> tuple[Shift, ...]:
    """Its changes in the next 400 days at which the clock goes forward."""
    begin = datetime.combine(today, time(), UTC)
    found = shifts(zone_named(timezone), begin, begin + LOOKED_AHEAD)
    return tuple(shift for shift in found if shift.after > shift.before)


def _names(job_ids: list[str]) -> str:
    more = len(job_ids) - NAMED
    some = ", ".join(job_ids[:NAMED])
    return Message("{some} and {more} more", some=some, more=more) if more > 0 else some
