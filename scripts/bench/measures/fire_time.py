"""Next fire time: a mixed thousand of expressions, ten steps each, against stock's ``CronTrigger``.

Each is asked as APScheduler asks it. Checked: both sides give the same times for every expression.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from scripts.bench.contenders import ATLAS, STOCK_TRIGGER
from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from apscheduler.triggers.base import BaseTrigger

STEPS = 10
BEGIN = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
ZONES = ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York")


def expressions(count: int) -> list[tuple[str, str]]:
    """Expressions with zones that both sides read alike: no day of month beside a weekday, weekdays by name."""
    pick = random.Random(7)  # noqa: S311 - the same thousand each time
    shapes = (
        lambda: f"*/{pick.choice((5, 10, 15, 20))} * * * *",
        lambda: f"{pick.randrange(60)} * * * *",
        lambda: f"{pick.randrange(60)} {pick.randrange(4, 24)} * * *",
        lambda: f"{pick.randrange(60)} 9-17 * * mon-fri",
        lambda: f"{pick.randrange(60)} {pick.randrange(4, 24)} * * sat,sun",
        lambda: f"0 {pick.randrange(4, 24)} {pick.randrange(1, 29)} * *",
        lambda: f"30 6 1 {pick.choice(('1,4,7,10', '*/2', '6'))} *",
        lambda: f"0 12 {pick.choice(('29 2', '31 *', '30 6,9'))} *",
    )
    return [(pick.choice(shapes)(), pick.choice(ZONES)) for _ in range(count)]


def stock_triggers(wanted: list[tuple[str, str]]) -> list[CronTrigger]:
    """The same in stock."""
    return [CronTrigger.from_crontab(text, timezone=ZoneInfo(zone)) for text, zone in wanted]


def steps(trigger: BaseTrigger) -> list[datetime | None]:
    """The next `STEPS` fire times, each asked for when the one before has come."""
    found: list[datetime | None] = []
    last, now = None, BEGIN
    for _ in range(STEPS):
        last = trigger.get_next_fire_time(last, now)
        found.append(last)
        if last is None:
            break
        now = last
    return found


def atlas(_folder: Path, size: int) -> Figures:
    """Atlas's trigger, its answers held against stock's afterwards."""
    from atlas.scheduler.schedule import Schedule
    from atlas.scheduler.triggers import trigger_for

    wanted = expressions(size)
    figures, found = _asked(lambda: [trigger_for(Schedule(cron=(text,), timezone=zone)) for text, zone in wanted])
    expected = [steps(trigger) for trigger in stock_triggers(wanted)]
    differing = sum(one != other for one, other in zip(found, expected, strict=True))
    check(differing == 0, f"{differing} of {size} expressions give other times than stock")
    return figures


def stock(_folder: Path, size: int) -> Figures:
    """Stock's trigger."""
    wanted = expressions(size)
    return _asked(lambda: stock_triggers(wanted))[0]


def _asked(make: Callable[[], Sequence[BaseTrigger]]) -> tuple[Figures, list[list[datetime | None]]]:
    begun_s = time.perf_counter()
    triggers = make()
    made_s = time.perf_counter() - begun_s
    begun_s = time.perf_counter()
    found = [steps(trigger) for trigger in triggers]
    asked_s = time.perf_counter() - begun_s
    count = len(triggers)
    return {"next_us": asked_s / count / STEPS * 1e6, "made_us": made_s / count * 1e6}, found


MEASURE = Measure(
    title="next fire time, over a mixed thousand of expressions",
    sizes=(1000,),
    quick=1000,
    sides=(Side(who=ATLAS, run=atlas), Side(who=STOCK_TRIGGER, run=stock)),
    goals=(Goal(what="next fire time", figure="next_us", to=STOCK_TRIGGER.name, must=1, reach=1 / 2, unit="µs"),),
    shown={"made_us": ("making a trigger", "µs")},
)
