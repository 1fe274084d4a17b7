"""`JobsReader`: reads texts of one jobs file, and no more of them than has to be read.

::

    the text in force, checked against the same ─► nothing to read
    an edit of it                                ─► what was edited
    anything else                                ─► the whole
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from atlas.scheduler.definition import JobSource
from atlas.scheduler.jobs_file.parsing import JobsFile, parse_jobs
from atlas.scheduler.reconcile.checked import Checked, file_digests
from atlas.scheduler.reconcile.edit import EditReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.jobs_file.building import PolicyDefaults
    from atlas.scheduler.reconcile.plan import Plan
    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.revisions import Revision, RevisionText


class JobsReader:
    """Reads a jobs file for one scheduler. Not thread-safe."""

    def __init__(self, path: Path, defaults: PolicyDefaults, registry: Registry) -> None:
        self._path, self._defaults, self._registry = path, defaults, registry
        self._edits: EditReader | None = None
        self._clean_for: int | None = None  # the registry's version with which the text in force had no warning
        self._functions: Mapping[str, str] = {}  # what was found for the text in force

    def read(self, text: str, latest: RevisionText | None, records: Sequence[JobRecord]) -> JobsFile:
        """``text`` as a jobs file.

        ``latest`` is the revision in force, and ``records`` are all jobs as they run.

        Raises:
            ConfigError: It cannot be used; the error holds everything that is wrong.
        """
        if latest is not None and self._clean_for == self._registry.version:
            if self._edits is None or not self._edits.knows(latest):
                self._edits = EditReader(latest, self._defaults, self._registry)
            known = {record.id: record for record in records if record.source is JobSource.FILE}
            wanted = self._edits.read(latest, text.removeprefix("\ufeff"), known)
            if wanted is not None:
                return replace(wanted, functions={**self._functions, **wanted.functions})
        return parse_jobs(text, file=self._path, defaults=self._defaults, registry=self._registry)

    def unchanged(self, latest: Revision, records: Sequence[JobRecord]) -> Checked | None:
        """The check of the text in force, if a reading would say just the same and change no job; None to read it."""
        checked = Checked.from_json(latest.checked)
        if checked is None or not checked.holds(records, self._defaults, self._registry):
            return None
        return replace(checked, warnings=tuple(replace(one, file=self._path) for one in checked.warnings))

    def check_of(self, wanted: JobsFile, plan: Plan, records: Sequence[JobRecord], digests: dict[str, str]) -> Checked:
        """What ``wanted`` is checked against.

        ``records`` are the jobs before ``plan``, and ``digests`` those of the rows that it adds and changes, by job.
        """
        rows = file_digests(records) | digests
        for job_id in plan.removed:
            rows.pop(job_id, None)
        return Checked.of(wanted, self._defaults, rows)

    def in_force(self, checked: Checked) -> None:
        """A text with this check is in force: its edits can be read as such, unless it has warnings to tell anew."""
        self._clean_for = None if checked.warnings else self._registry.version
        self._functions = checked.functions


def mode_in(text: str) -> Literal["auto", "manual"]:
    """What an accepted text says about reloading, where no check of it is known."""
    try:
        return "manual" if json.loads(text).get("reload") == "manual" else "auto"
    except (ValueError, AttributeError):
        return "auto"
