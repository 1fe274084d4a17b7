"""The plan: which jobs the config file adds, changes and removes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from atlas.scheduler.definition import JobDefinition, JobSource
from atlas.scheduler.errors import ConfigError
from atlas.scheduler.jobs_file.functions import is_missing
from atlas.scheduler.jobs_file.json_reading import read_json
from atlas.scheduler.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from atlas.scheduler.definition_text import KnownDefinition
    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.jobs_file.parsing import JobsFile


NAMED: Final = 20
"""Jobs of a kind that a summary names."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would change."""

    added: tuple[JobDefinition, ...]
    changed: tuple[JobDefinition, ...]
    removed: tuple[str, ...]
    """Ids of file jobs that the file has no more; they stop and keep their history."""
    unchanged: int
    """How many stay as they are."""

    def __bool__(self) -> bool:
        """True if anything changes."""
        return bool(self.added or self.changed or self.removed)

    @property
    def summary(self) -> str:
        """``+a +b ~c -d``: what is added, changed, removed, by id.

        Of more than `NAMED` of a kind the first are named and all are counted: ``+a +b … (+20000) ~c -d``. It stands in
        one line of the log, of the revisions and of the audit.
        """
        kinds = (
            ("+", [one.id for one in self.added]),
            ("~", [one.id for one in self.changed]),
            ("-", list(self.removed)),
        )
        return " ".join(_named(sign, ids) for sign, ids in kinds if ids) or "no change to jobs"


def _named(sign: str, ids: list[str]) -> str:
    named = " ".join(f"{sign}{one}" for one in ids[:NAMED])
    return named if len(ids) <= NAMED else f"{named} … ({sign}{len(ids)})"


def make_plan(records: Iterable[JobRecord], parked: Iterable[str], wanted: JobsFile, *, file: Path | str) -> Plan:
    """Compare what runs with the file; touches nothing.

    Raises:
        ConfigError: A key of the file belongs to a job made by code.
    """
    mine = {record.id: record for record in records}
    clashes = [one for one in wanted.definitions if one in mine and mine[one].source is JobSource.CODE]
    if clashes:
        document = read_json(wanted.text)
        why = Message("a job made by code has this id; rename this one, or remove that one")
        raise ConfigError([document.problem(file, ("cron_jobs", one), why, on_key=True) for one in clashes])
    added, changed = [], []
    for job_id in wanted.definitions:
        record = mine.get(job_id)
        if record is None:
            added.append(wanted.definitions[job_id])
        elif job_id not in wanted.kept and record.definition != wanted.definitions[job_id]:
            changed.append(wanted.definitions[job_id])
    gone = [
        record.id for record in mine.values() if record.source is JobSource.FILE and record.id not in wanted.definitions
    ]
    hidden = set(parked)
    changed += [definition for definition in added if definition.id in hidden]
    added = [definition for definition in added if definition.id not in hidden]
    return Plan(tuple(added), tuple(changed), tuple(sorted(gone)), len(wanted.definitions) - len(added) - len(changed))


def function_lost(old: KnownDefinition, new: JobDefinition, functions: Mapping[str, str]) -> str | None:
    """In words that a job whose function was there makes no tasks any more; None where it has one, or had none."""
    if not new.enabled or old.function == new.function or not is_missing(functions.get(new.function, "thread")):
        return None
    pattern = "will not run: there is no function {new}; it was {old}, which ran"
    return Message(pattern, new=repr(new.function), old=repr(old.function))
