"""Jobs that start in the same instant, more of them than there are slots, and what would even them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from atlas.scheduler.forecast.result import Herd
from atlas.scheduler.forecast.starts import starts_after

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from atlas.scheduler.forecast.jobs import ForecastJob
    from atlas.scheduler.triggers import AtlasTrigger

MAX_HERDS: Final = 20
_SPREADS: Final = (10, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14_400)
_HEADROOM: Final = 2.0
"""A spread herd keeps a slot of two busy, so that other work finds one."""


@dataclass(slots=True)
class _Seen:
    first: datetime
    jobs: list[ForecastJob]
    times: int = 0


class Herds:
    """Who starts together, by the triggers that fall together."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._seen: dict[frozenset[AtlasTrigger], _Seen] = {}

    def note(self, at: datetime, triggers: list[AtlasTrigger], jobs: list[ForecastJob]) -> None:
        """These start at ``at``."""
        if len(jobs) <= self._slots:
            return
        seen = self._seen.setdefault(frozenset(triggers), _Seen(at, jobs))
        seen.times += 1
        if len(jobs) > len(seen.jobs):  # the pause of one has ended
            seen.jobs = jobs

    def found(self) -> tuple[Herd, ...]:
        """The herds; a job that stands in a more frequent one is not told again."""
        told: set[str] = set()
        herds: list[Herd] = []
        for triggers, seen in sorted(self._seen.items(), key=lambda item: (-item[1].times, -len(item[1].jobs))):
            if herds:  # a second one: most often there is none, and ten thousand ids need no set
                told.update(herds[-1].job_ids)
            jobs = [job for job in seen.jobs if job.id not in told] if told else seen.jobs
            if len(jobs) <= self._slots:
                continue
            work_s = sum(job.takes_s for job in jobs)
            herds.append(
                Herd(
                    at=seen.first,
                    times=seen.times,
                    job_ids=tuple(sorted(job.id for job in jobs)),
                    work_s=work_s,
                    spread_s=_spread(work_s / self._slots * _HEADROOM, _shortest_gap_s(triggers, seen.first)),
                )
            )
            if len(herds) >= MAX_HERDS:
                break
        return tuple(herds)


def _shortest_gap_s(triggers: Iterable[AtlasTrigger], at: datetime) -> float:
    """How soon one of them starts again."""
    following = (next(starts_after(trigger, at), None) for trigger in triggers)
    return min(((then - at).total_seconds() for then in following if then is not None), default=float("inf"))


def _spread(wanted_s: float, gap_s: float) -> float | None:
    """The first round length that holds the work and ends before the jobs start again."""
    usable = [spread_s for spread_s in _SPREADS if spread_s <= gap_s / 2]
    return float(next((spread_s for spread_s in usable if spread_s >= wanted_s), usable[-1])) if usable else None
