"""`Checked`: what an accepted file was checked against. While all of that is the same, the file says nothing new.

A start would otherwise read, check and compare ten thousand entries to find out that nothing changed::

    same text · same program · same config.yaml defaults · same functions · same rows  ─►  nothing to do
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from atlas.scheduler.definition import JobSource
from atlas.scheduler.errors import Problem
from atlas.scheduler.jobs_file.functions import function_facts
from atlas.scheduler.message import from_parts, parts_of
from atlas.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.jobs_file.building import PolicyDefaults
    from atlas.scheduler.jobs_file.parsing import JobsFile
    from atlas.scheduler.registry import Registry

PROGRAM = f"atlas {__version__}, python {sys.hexversion:x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What an accepted file was checked against, and what the check said.

    Attributes:
        program: Version of Atlas and Python.
        defaults: What held where the file says nothing.
        rows: Hash of the rows of all jobs of the file.
        jobs: How many there are.
        reload: What the file says about reloading.
        warnings: What is probably not meant in it.
    """

    program: str
    defaults: str
    functions: Mapping[str, str]
    rows: str
    jobs: int
    reload: Literal["auto", "manual"]
    warnings: tuple[Problem, ...]

    @classmethod
    def of(cls, wanted: JobsFile, defaults: PolicyDefaults, digests: Mapping[str, str]) -> Self:
        """The check of ``wanted``, whose jobs have rows with these digests once it is applied."""
        return cls(
            program=PROGRAM,
            defaults=_defaults(defaults),
            functions=wanted.functions,
            rows=_hash(digests),
            jobs=len(digests),
            reload=wanted.reload,
            warnings=wanted.warnings,
        )

    def holds(self, records: Iterable[JobRecord], defaults: PolicyDefaults, registry: Registry) -> bool:
        """True if the same text would pass the same check with the same words, and its jobs are the rows there are."""
        return (
            self.program == PROGRAM
            and self.defaults == _defaults(defaults)
            and self.rows == _hash(file_digests(records))
            and self.functions == function_facts(registry, self.functions)
        )

    def to_json(self) -> str:
        """As JSON text."""
        raw: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        warnings = [one.to_json() | {"message": parts_of(one.message)} for one in self.warnings]
        return json.dumps(raw | {"warnings": warnings}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> Self | None:
        """What `to_json` wrote, None if it was another program that did, or nobody."""
        try:
            raw = json.loads(text or "")
            warnings = (Problem(**one | {"message": from_parts(one["message"])}) for one in raw["warnings"])
            return cls(**raw | {"warnings": tuple(warnings)})
        except (ValueError, TypeError, KeyError):
            return None


_PLAIN = tuple(name for name in Checked.__slots__ if name != "warnings")


def file_digests(records: Iterable[JobRecord]) -> dict[str, str]:
    """Job → digest of its row, for the jobs of the file."""
    return {record.id: record.digest for record in records if record.source is JobSource.FILE}


def _hash(digests: Mapping[str, str]) -> str:
    made = hashlib.blake2b(digest_size=16)
    for job_id in sorted(digests):  # one by one: as one text they would be four times what is kept of them
        made.update(f"{job_id}\0{digests[job_id]}\n".encode())
    return made.hexdigest()


def _defaults(defaults: PolicyDefaults) -> str:
    return json.dumps([defaults.values(), sorted(defaults.set_in_settings)], sort_keys=True)
