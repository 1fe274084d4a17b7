"""Makes the scheduler equal to the config file: plan, apply in one commit, keep the accepted text as a revision."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from atlas.scheduler.definition import JobDefinition, JobSource
from atlas.scheduler.errors import ConfigError, Problem
from atlas.scheduler.events import JobEventKind
from atlas.scheduler.job_store import JobChange
from atlas.scheduler.jobs import JobsFile, PolicyDefaults, load_jobs
from atlas.scheduler.store.audit import Action, write_audit
from atlas.scheduler.store.tables import revisions

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.scheduler.cron_manager import SyncCronManager
    from atlas.scheduler.job_store import JobRecord


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
            message="a job made by code has this id; rename this one, or remove that one",
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
        elif record.digest != definition.digest():
            changed.append(definition)
    gone = [
        record.id for record in mine.values() if record.source is JobSource.FILE and record.id not in wanted.definitions
    ]
    hidden = set(parked)
    changed += [definition for definition in added if definition.id in hidden]
    added = [definition for definition in added if definition.id not in hidden]
    return Plan(tuple(added), tuple(changed), tuple(sorted(gone)), len(wanted.definitions) - len(added) - len(changed))


class Reconciler:
    """Keeps a scheduler equal to one config file.

    Args:
        cron: The manager, opened.
        path: The file.
        defaults: What holds where neither a job nor the file says anything.

    Attributes:
        error: Why the file is refused now; None while it is in force.
    """

    def __init__(self, cron: SyncCronManager, path: Path, defaults: PolicyDefaults) -> None:
        """Describe it; `reload` does the work."""
        self._cron, self.path, self._defaults = cron, path, defaults
        self._lock = threading.Lock()
        self.error: ConfigError | None = None
        self.warnings: tuple[Problem, ...] = ()

    def reload(self, *, author: str) -> Plan:
        """Read the file and make the scheduler equal to it; an unchanged file writes nothing.

        Raises:
            ConfigError: The file cannot be used; what runs goes on, and `error` keeps the reason.
        """
        try:
            with self._lock:  # a second reload must compare with what the first one made
                wanted = load_jobs(self.path, defaults=self._defaults, registry=self._cron.queue.registry)
                plan = self._apply(wanted, author=author)
        except ConfigError as error:
            self.error = error
            raise
        self.error, self.warnings = None, wanted.warnings
        return plan

    def _apply(self, wanted: JobsFile, *, author: str) -> Plan:
        running = self._cron.running
        jobs, store = running.jobs, running.serving.store
        plan = make_plan(jobs.records(), [parked.id for parked in jobs.parked()], wanted, file=self.path)
        latest = self.latest_revision()
        if not plan and latest is not None and latest[1] == wanted.digest:
            running.bridge.revision = latest[0]
            return plan
        now = store.clock.now()
        changes = [
            JobChange(jobs.make_record(definition, now=now), kind)
            for kind, definitions in ((JobEventKind.ADDED, plan.added), (JobEventKind.CHANGED, plan.changed))
            for definition in definitions
        ]
        number: list[int] = []

        def keep_revision(connection: Connection) -> None:
            result = connection.execute(
                insert(revisions).values(
                    accepted_at=now.timestamp(),
                    source="file",
                    author=author,
                    digest=wanted.digest,
                    summary=plan.summary[:2000],
                    content=wanted.text,
                ),
            )
            number[:] = [int(key) for key in result.inserted_primary_key or ()]
            write_audit(
                connection,
                Action.APPLY,
                str(self.path),
                by="file",
                at=now,
                before=None if latest is None else {"revision": latest[0]},
                after={"revision": number[0], "summary": plan.summary[:2000]},
            )

        jobs.apply(changes, plan.removed, serve=running.bridge.submit_job, also=keep_revision)
        running.bridge.revision = number[0]
        return plan

    def latest_revision(self) -> tuple[int, str] | None:
        """(number, digest of the text) of the newest accepted version, None when there is none."""
        statement = select(revisions.c.number, revisions.c.digest).order_by(revisions.c.number.desc()).limit(1)
        row = self._cron.running.serving.store.read(lambda connection: connection.execute(statement).first())
        return None if row is None else (row.number, row.digest)

    def run_last_good(self) -> bool:
        """Go on with the last accepted revision, whose jobs are the rows; False if there never was one."""
        latest = self.latest_revision()
        if latest is not None:
            self._cron.running.bridge.revision = latest[0]
        return latest is not None
