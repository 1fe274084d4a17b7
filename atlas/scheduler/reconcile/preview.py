"""What an edit of the config file would do: a plan with its words, next fire times, load and tasks; applies nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from loguru import logger
from sqlalchemy import select, text

from atlas.scheduler.forecast.forecast import forecast
from atlas.scheduler.forecast.jobs import ForecastJob
from atlas.scheduler.job_state import read_pauses
from atlas.scheduler.job_store.records import same_times
from atlas.scheduler.job_store.rows import read_jobs
from atlas.scheduler.jobs_file.functions import is_missing
from atlas.scheduler.lease_facts import unbound_jobs
from atlas.scheduler.reconcile.changes import differences
from atlas.scheduler.reconcile.checked import Checked
from atlas.scheduler.reconcile.plan import function_lost, make_plan
from atlas.scheduler.store.leases import last_lease
from atlas.scheduler.store.refusals import cause_of
from atlas.scheduler.store.revisions import latest_revision
from atlas.scheduler.store.tables import UNFINISHED_SQL, tasks
from atlas.scheduler.store.task_queries import medians_of
from atlas.scheduler.triggers import trigger_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.errors import Problem
    from atlas.scheduler.forecast.result import Forecast, Herd
    from atlas.scheduler.job_state import Pause
    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.jobs_file.parsing import JobsFile
    from atlas.scheduler.reconcile.changes import Difference
    from atlas.scheduler.store.revisions import Revision

Kind = Literal["added", "changed", "removed"]
DAY_H: Final = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPreview:
    """One job that an edit touches.

    Attributes:
        differences: What is different; empty unless it is changed.
        words: The schedule it will have (or had), in English and Chinese.
        next_before: Its next start now, None without one.
        a_day_before: Tasks in the next 24 h as it is.
        a_day_after: Tasks in the next 24 h then.
        unfinished: Its tasks that wait or run, with their status; they go on as they are.
        will_not_run: In words that the edit takes its function from it; None where it does not.
    """

    id: str
    title: str
    kind: Kind
    differences: tuple[Difference, ...]
    words: dict[str, str]
    next_before: datetime | None
    next_after: datetime | None
    a_day_before: int
    a_day_after: int
    unfinished: tuple[tuple[str, str], ...]
    pause: Pause | None
    will_not_run: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "id": self.id,
            "title": self.title,
            "kind": self.kind,
            "differences": [
                {"field": one.field, "before": one.before, "after": one.after, "words": {"en": one.en, "zh": one.zh}}
                for one in self.differences
            ],
            "schedule": self.words,
            "next_before": None if self.next_before is None else self.next_before.isoformat(),
            "next_after": None if self.next_after is None else self.next_after.isoformat(),
            "tasks_a_day_before": self.a_day_before,
            "tasks_a_day_after": self.a_day_after,
            "unfinished": [{"task": task_id, "status": status} for task_id, status in self.unfinished],
            "pause": None if self.pause is None else self.pause.to_json(),
            "will_not_run": self.will_not_run,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What an edit would do.

    Attributes:
        revision: The revision in force, None without any.
        is_new_text: False if the text is the one in force.
        before: The next 24 h as it is.
        collisions: Herds that are not there now.
        paused: Every job that is paused and stays so, with its pause.
    """

    revision: int | None
    is_new_text: bool
    jobs: tuple[JobPreview, ...]
    unchanged: int
    before: Forecast
    after: Forecast
    collisions: tuple[Herd, ...]
    paused: dict[str, Pause]
    warnings: tuple[Problem, ...]

    def __bool__(self) -> bool:
        """True if a job changes."""
        return bool(self.jobs)

    def count(self, kind: Kind) -> int:
        """How many jobs are added, changed or removed."""
        return sum(job.kind == kind for job in self.jobs)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "revision": self.revision,
            "is_new_text": self.is_new_text,
            "added": self.count("added"),
            "changed": self.count("changed"),
            "removed": self.count("removed"),
            "unchanged": self.unchanged,
            "jobs": [job.to_json() for job in self.jobs],
            "tasks_a_day": {"before": self.before.tasks, "after": self.after.tasks},
            "peak": {"before": self.before.peak, "after": self.after.peak, "slots": self.after.slots},
            "collisions": [
                {
                    "at": herd.at.isoformat(),
                    "times": herd.times,
                    "jobs": list(herd.job_ids),
                    "proposed_spread": herd.spread_s,
                }
                for herd in self.collisions
            ],
            "paused": {job_id: pause.to_json() for job_id, pause in self.paused.items()},
            "warnings": [str(one) for one in self.warnings],
        }


def make_preview(
    connection: Connection, wanted: JobsFile, *, file: Path | str, now: datetime, slots: int, limits: Mapping[str, int]
) -> Preview:
    """What the file ``wanted`` would do to the jobs in the store.

    ``limits``: executor → fewer tasks at once than ``slots``.

    Raises:
        ConfigError: A key of the file belongs to a job made by code.
    """
    records, parked = read_jobs(connection)
    plan = make_plan(records.values(), parked, wanted, file=file)
    pauses = {name: one for name, one in read_pauses(connection).items() if one.holds(now)}
    touched: list[tuple[Kind, str]] = [
        *(("added", one.id) for one in plan.added),
        *(("changed", one.id) for one in plan.changed),
        *(("removed", one) for one in plan.removed),
    ]
    medians = medians_of(connection, [*records, *(one.id for one in plan.added)])
    before = {record.id: record.definition for record in records.values()}
    removed = set(plan.removed)
    after = {job_id: one for job_id, one in before.items() if job_id not in removed}
    after |= {one.id: one for one in (*plan.added, *plan.changed)}

    def day(definitions: Mapping[str, JobDefinition]) -> Forecast:
        return forecast(
            [ForecastJob.under(pauses.get(one.id), one, medians[one.id]) for one in definitions.values()],
            now=now,
            hours=DAY_H,
            slots=slots,
            limits=limits,
        )

    days = day(before), day(after)
    counts = [{job.id: job.starts for job in one.jobs} for one in days]
    latest = latest_revision(connection)
    unbound = {*unbound_jobs(last_lease(connection)), *_without_function(before, latest)}
    unfinished = _unfinished(connection, [job_id for _kind, job_id in touched])
    changed = []
    for kind, job_id in touched:
        old, new = before.get(job_id), wanted.definitions.get(job_id)
        shown = new or old
        if shown is None:
            continue
        changed.append(
            JobPreview(
                id=job_id,
                title=shown.title,
                kind=kind,
                differences=differences(old, new) if old is not None and new is not None else (),
                words={"en": shown.schedule.describe("en"), "zh": shown.schedule.describe("zh")},
                next_before=None if old is None else next_start(records[job_id], old, now),
                next_after=None if new is None else next_start(records.get(job_id), new, now),
                a_day_before=counts[0].get(job_id, 0),
                a_day_after=counts[1].get(job_id, 0),
                unfinished=unfinished.get(job_id, ()),
                pause=pauses.get(job_id),
                will_not_run=None
                if old is None or new is None or job_id in unbound
                else function_lost(old, new, wanted.functions),
            )
        )
    known = {frozenset(herd.job_ids) for herd in days[0].herds}
    moved = {job_id for _kind, job_id in touched}
    return Preview(
        revision=None if latest is None else latest.number,
        is_new_text=latest is None or latest.digest != wanted.digest,
        jobs=tuple(sorted(changed, key=lambda job: job.id)),
        unchanged=plan.unchanged,
        before=days[0],
        after=days[1],
        collisions=tuple(
            herd
            for herd in days[1].herds
            if not moved.isdisjoint(herd.job_ids) and frozenset(herd.job_ids) not in known
        ),
        paused={job_id: pause for job_id, pause in sorted(pauses.items()) if job_id in after},
        warnings=wanted.warnings,
    )


def _without_function(definitions: Mapping[str, JobDefinition], latest: Revision | None) -> Iterator[str]:
    """Jobs whose function was missing when the revision in force was checked."""
    checked = None if latest is None else Checked.from_json(latest.checked)
    missing = {name for name, fact in checked.functions.items() if is_missing(fact)} if checked is not None else set()
    return (job_id for job_id, one in definitions.items() if one.function in missing)


def next_start(old: JobRecord | None, new: JobDefinition, now: datetime) -> datetime | None:
    """When a job starts next once ``new`` is applied at ``now``: with the same times as before it stays.

    None also where its schedule cannot say it: applied, the job is set apart.
    """
    trigger = trigger_of(new)
    try:
        if old is not None and same_times(old, enabled=new.enabled, trigger=trigger):
            return old.start()
        return trigger.get_next_fire_time(None, now) if new.enabled else None
    except Exception as error:  # noqa: BLE001 - what the edit does to the other jobs is shown all the same
        logger.bind(job_id=new.id).debug("a schedule raised while an edit was looked at: {}", cause_of(error))
        return None


def _unfinished(connection: Connection, job_ids: Sequence[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    wanted = set(job_ids)
    statement = select(tasks.c.id, tasks.c.job_id, tasks.c.status).where(text(UNFINISHED_SQL)).order_by(tasks.c.id)
    for row in connection.execute(statement):
        if row.job_id in wanted:
            found[row.job_id] = (*found.get(row.job_id, ()), (row.id, row.status))
    return found
