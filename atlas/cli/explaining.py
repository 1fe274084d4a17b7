"""The command ``explain``: a cron expression, or a job's schedule, in words and with its next times."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened, settings_of
from atlas.cli.tables import Cell, print_json, say
from atlas.cli.times import LocalTimes
from atlas.scheduler.errors import ConfigError, CronExpressionError, UnknownJobError
from atlas.scheduler.job_store.records import Parked
from atlas.scheduler.job_store.rows import read_job
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.jobs_file.parsing import load_jobs
from atlas.scheduler.nearest import nearest
from atlas.scheduler.schedule import Schedule
from atlas.scheduler.year_ahead import explained, fire_times, next_clock_change, times_a_year
from atlas.scheduler.zones import zone_named

if TYPE_CHECKING:
    import argparse

    from atlas.settings import Settings

MANY: Final = 2_000
"""Times a year that are told by the day instead."""


def explain(args: argparse.Namespace) -> int:
    """Words in both languages, how often, and the next times."""
    settings = settings_of(args)
    here = local_times(settings)
    what = " ".join(args.what).strip()
    if what.startswith("@") or " " in what:
        try:
            schedule = Schedule(cron=(what,), timezone=args.timezone or here.zone.key).validated()
        except CronExpressionError as error:
            if len(args.what) > 1:
                error.add_note("write it in quotes: a shell puts the names of files where a * stands")
            raise
    else:
        schedule = _schedule_of(what, args, settings, here)
    times = LocalTimes(zone_named(schedule.timezone), here.now)
    if args.json:
        print_json({"what": what, **explained(schedule, here.now, args.count)})
        return Exit.OK
    following = list(islice(fire_times(schedule, here.now), args.count))
    yearly, _exact = times_a_year(schedule, here.now)
    change = next_clock_change(schedule, here.now)
    say(Cell(schedule.describe("en"), "bold"), f", {schedule.timezone}, {_often(yearly)}")
    say(schedule.describe("zh"))
    say(Cell("next  ", "dim"), "   ".join(map(times.day, following)) or "never again")
    if change is None:
        say(Cell(f"{schedule.timezone} has no clock change ahead", "dim"))
    else:
        say(Cell(change.describe("en"), "dim"))
        say(Cell(change.describe("zh"), "dim"))
    return Exit.OK


def _schedule_of(job_id: str, args: argparse.Namespace, settings: Settings, here: LocalTimes) -> Schedule:
    """The schedule of a job: as the store has it, else as the jobs file has it.

    Raises:
        UnknownJobError: Neither knows it.
    """
    known: list[str] = []
    database = settings.persistence.database
    if not isinstance(database, Path) or database.exists():
        with opened(args) as (client, _settings):
            found = client.store.read(lambda connection: read_job(connection, job_id))
            known += [] if found else [job.name for job in client.jobs()]
        if isinstance(found, Parked):
            raise UnknownJobError(f"{job_id} (its row cannot be read: {found.error})")
        if found is not None:
            return found.definition.schedule
    try:
        defaults = PolicyDefaults(timezone=here.zone.key)
        definitions = load_jobs(settings.persistence.cron_config, defaults=defaults).definitions
    except ConfigError:
        definitions = {}
    if job_id in definitions:
        return definitions[job_id].schedule
    unknown = UnknownJobError(job_id, nearest=nearest(job_id, [*known, *definitions]))
    unknown.add_note('a cron expression has five fields: atlas explain "0 9 * * mon-fri"')
    raise unknown


def _often(yearly: int) -> str:
    if yearly < MANY:
        few = {0: "not within the next 365 days", 1: "once a year"}
        return few.get(yearly, f"{yearly:,} times a year")
    return f"{'about ' * bool(yearly % 365)}{round(yearly / 365):,} times a day"
