"""The command ``forecast``: what starts in the next hours, and whether the slots are enough for it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened, settings_of
from atlas.cli.tables import Cell, Column, counted, print_json, print_table, say
from atlas.scheduler.durations import format_duration
from atlas.scheduler.forecast.forecast import LONGEST_BY_HOURS, forecast
from atlas.scheduler.forecast.jobs import ForecastJob, forecast_jobs
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.parsing import load_jobs
from atlas.scheduler.store.revisions import latest_revision

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from atlas.cli.times import LocalTimes
    from atlas.scheduler.forecast.result import Crowd, Forecast, Herd
    from atlas.settings import Settings

MOST_JOBS: Final = 20
MOST_WARNINGS: Final = 5
_PLAIN_WIDTH: Final = 100


def show(args: argparse.Namespace) -> int:
    """Tasks and slots by the hour, the jobs by their next start, and what is worth a warning."""
    settings = settings_of(args)
    times = local_times(settings)
    found = forecast(
        _jobs(args, settings),
        now=times.now,
        hours=args.hours,
        slots=settings.scheduler.max_workers,
        limits=settings.scheduler.limits,
        zone=times.zone,
    )
    if args.json:
        print_json(found.to_json())
        return Exit.OK
    if not found.starts:
        say(f"nothing starts in the next {counted(args.hours, 'hour')}")
        return Exit.OK
    _print_load(found, times, by_day=args.hours > LONGEST_BY_HOURS)
    _print_jobs(found, times)
    for warning in _warnings(found, times):
        say(Cell("! ", "yellow"), warning)
    if found.is_cut:
        told = f"more than {len(found.starts):,} starts: the forecast ends {times.day(found.until)}"
        say(Cell("! ", "yellow"), told)
    peak = "" if found.peak_at is None else f", at most {found.peak} at once ({times.day(found.peak_at)})"
    rate = f"{found.tasks_a_day:,.0f} tasks a day{peak}, {counted(found.slots, 'slot')}"
    say(Cell(f"{rate} · {times.words}", "dim"))
    return Exit.OK


def _jobs(args: argparse.Namespace, settings: Settings) -> list[ForecastJob]:
    """The jobs of the store with what is known of them, or before any start those of the file."""
    database = settings.persistence.database
    if not isinstance(database, Path) or database.exists():
        with opened(args) as (client, _settings):
            known = client.jobs()
            if known or client.store.read(latest_revision) is not None:
                return client.store.read(lambda connection: forecast_jobs(connection, known))
    defaults = PolicyDefaults(timezone=local_times(settings).zone.key)
    loaded = load_jobs(settings.persistence.cron_config, defaults=defaults)
    return [ForecastJob(one) for one in loaded.definitions.values()]


# --- tables ----------------------------------------------------------------------------------------------------------


def _print_load(found: Forecast, times: LocalTimes, *, by_day: bool) -> None:
    """Three lines, as often as the terminal is too narrow for all stretches: when, tasks, tasks at once."""
    heads = [bucket.at.astimezone(times.zone).strftime("%a %d" if by_day else "%H") for bucket in found.buckets]
    starts = [f"{bucket.starts:,}" if bucket.starts else "·" for bucket in found.buckets]
    at_once = [f"{bucket.at_once:,}" if bucket.at_once else "·" for bucket in found.buckets]
    crowded = [bool(bucket.late) or bucket.at_once > found.slots for bucket in found.buckets]
    width = max(map(len, (*heads, *starts, *at_once)))
    screen = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PLAIN_WIDTH
    fit = max(1, (screen - len("at once")) // (width + 2))
    for first in range(0, len(heads), fit):
        part = slice(first, first + fit)
        say(Cell(_line("", heads[part], width), "dim"))
        say(_line("tasks", starts[part], width))
        cells = [Cell("at once".ljust(7))]
        for text, late in zip(at_once[part], crowded[part], strict=True):
            cells.append(Cell(f"  {text:>{width}}", "bold yellow" if late else ""))
        say(*cells)


def _line(name: str, values: Iterable[str], width: int) -> str:
    return name.ljust(7) + "".join(f"  {value:>{width}}" for value in values)


def _print_jobs(found: Forecast, times: LocalTimes) -> None:
    ahead = sorted((job for job in found.jobs if job.next_at is not None), key=lambda job: (job.next_at, job.id))
    print_table(
        [
            Column("JOB", shrinks=True),
            Column("NEXT", right=True),
            Column("TASKS", right=True),
            Column("TAKES", right=True),
        ],
        [
            (
                Cell(job.id, "bold"),
                times.at(job.next_at),
                f"{job.starts:,}",
                format_duration(job.duration_s) if job.measured else Cell("not run yet", "dim"),
            )
            for job in ahead[:MOST_JOBS]
        ],
    )
    if len(ahead) > MOST_JOBS:
        say(Cell(f"… and {counted(len(ahead) - MOST_JOBS, 'job')} more (--json has all)", "dim"))


# --- warnings --------------------------------------------------------------------------------------------------------


def _warnings(found: Forecast, times: LocalTimes) -> Iterator[str]:
    alike: dict[tuple[str, ...], list[Crowd]] = {}
    for crowd in found.crowds:
        alike.setdefault(tuple(sorted(crowd.late_s)), []).append(crowd)
    worst = sorted(alike.values(), key=lambda crowds: -max(max(crowd.late_s.values()) for crowd in crowds))
    for crowds in worst[:MOST_WARNINGS]:
        yield _crowded(crowds, found.slots, times)
    if len(worst) > MOST_WARNINGS:
        yield f"slots are short {len(found.crowds)} times; these are the longest waits"
    for herd in found.herds[:MOST_WARNINGS]:
        yield _herd(herd, times)
    for job in found.jobs:
        if job.skipped and job.measured:
            yield (
                f"{job.id} makes {job.skipped:,} tasks less than it has fire times: one takes"
                f" {format_duration(job.duration_s)}, and the next is due before it has ended"
            )


def _crowded(crowds: Sequence[Crowd], slots: int, times: LocalTimes) -> str:
    """Shortages that make the same jobs late."""
    needed = max(crowd.needed for crowd in crowds)
    names = max(crowds, key=lambda crowd: max(crowd.late_s.values())).late_s
    late = f"start{'s' * (len(names) == 1)} up to {format_duration(max(names.values()))} late"
    often = f" ({len(crowds)} times so)" if len(crowds) > 1 else ""
    return f"{times.day(crowds[0].at)} needs {needed:,} of {counted(slots, 'slot')}; {_some(list(names))} {late}{often}"


def _herd(herd: Herd, times: LocalTimes) -> str:
    often = f"{herd.times} times, first" if herd.times > 1 else "once,"
    told = f"{len(herd.job_ids):,} jobs start together ({often} {times.day(herd.at)}): {_some(herd.job_ids)}"
    if herd.spread_s is None:
        return f"{told}; they come again too soon for a spread"
    return f'{told}; "spread": "{format_duration(herd.spread_s).replace(" ", "")}" on each would part them'


def _some(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and 7 more``."""
    if len(names) <= 3:
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[:2])} and {len(names) - 2:,} more"
