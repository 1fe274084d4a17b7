"""The plan: which jobs the config file adds, changes and removes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atlas.scheduler.definition import JobDefinition, JobSource
from atlas.scheduler.errors import ConfigError, Problem
from atlas.scheduler.told import Told

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.jobs import JobsFile


@dataclass(frozen=True, slots=True)
class Plan:
    """What would change.

    Attributes:
        added: Jobs that are new.
        changed: Jobs that are different.
        removed: Ids of file jobs that the file has no more; they stop and keep their history.
        unchanged: How many stay as they are.
    """

    added: tuple[JobDefinition, ...]
    changed: tuple[JobDefinition, ...]
    removed: tuple[str, ...]
    unchanged: int

    def __bool__(self) -> bool:
        """True if anything changes."""
        return bool(self.added or self.changed or self.removed)

    @property
    def summary(self) -> str:
        """``+a +b ~c -d``: what is added, changed, removed, by id."""
        parts = (
            [f"+{one.id}" for one in self.added]
            + [f"~{one.id}" for one in self.changed]
            + [f"-{one}" for one in self.removed]
        )
        return " ".join(parts) or "no change to jobs"


def make_plan(records: Iterable[JobRecord], parked: Iterable[str], wanted: JobsFile, *, file: Path | str) -> Plan:
    """Compare what runs with the file; touches nothing.

    Raises:
        ConfigError: A key of the file belongs to a job made by code.
    """
    mine = {record.id: record for record in records}
    clashes = [
        Problem(
            file=file,
            path=f"cron_jobs.{job_id}",
            message=Told("a job made by code has this id; rename this one, or remove that one"),
        )
        for job_id in wanted.definitions
        if job_id in mine and mine[job_id].source is JobSource.CODE
    ]
    if clashes:
        raise ConfigError(clashes)
    added, changed = [], []
    for job_id, definition in wanted.definitions.items():
        record = mine.get(job_id)
        if record is None:
            added.append(definition)
        elif record.definition is not definition and record.definition != definition:
            changed.append(definition)
    gone = [
        record.id for record in mine.values() if record.source is JobSource.FILE and record.id not in wanted.definitions
    ]
    hidden = set(parked)
    changed += [definition for definition in added if definition.id in hidden]
    added = [definition for definition in added if definition.id not in hidden]
    return Plan(tuple(added), tuple(changed), tuple(sorted(gone)), len(wanted.definitions) - len(added) - len(changed))
