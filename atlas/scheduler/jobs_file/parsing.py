"""`parse_jobs`: text of `config/cron_jobs.json` → `JobDefinition` objects, or one `ConfigError` with all its mistakes.

::

    bytes ──► read_jobs_text ──► LocatedJson ──► JobsDocument ──► one JobDefinition per job
              size, encoding     syntax,         types, names,    cron texts, zones, calendars,
                                 doubled keys    bounds           functions and their arguments

Every stage reports what it can and hands on the rest, so that one reading finds all errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from atlas.scheduler.definition_text import digest_of
from atlas.scheduler.errors import ConfigError, Problem
from atlas.scheduler.jobs_file.building import BuiltJobs, build_jobs
from atlas.scheduler.jobs_file.findings import Finding, findings
from atlas.scheduler.jobs_file.format import JobEntry, JobsDocument, JobsFrame
from atlas.scheduler.jobs_file.json_reading import read_json
from atlas.scheduler.jobs_file.text import read_jobs_text, unreadable
from atlas.scheduler.message import Message

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.jobs_file.building import PolicyDefaults
    from atlas.scheduler.registry import Registry


@dataclass(frozen=True, slots=True)
class JobsFile:
    """A jobs file that was accepted.

    Attributes:
        definitions: Every job by id, in the order of the file.
        text: The text as read, without a byte order mark.
        reload: ``"auto"``: an edit applies by itself; ``"manual"``: only when somebody says so.
        timezone: Zone of every job without its own.
        warnings: What is probably not meant, in file order.
        functions: The functions that jobs name, and what was found under each name; empty where none were looked up.
        kept: Jobs whose entries are as in the text in force: their definitions are those that run.
    """

    definitions: Mapping[str, JobDefinition]
    text: str
    digest: str
    reload: Literal["auto", "manual"]
    timezone: str
    warnings: tuple[Problem, ...]
    functions: Mapping[str, str]
    kept: Collection[str] = frozenset()


def load_jobs(path: Path | str, *, defaults: PolicyDefaults) -> JobsFile:
    """The jobs in the file at ``path``, whatever functions there are; see `read_jobs_text` and `parse_jobs`.

    Raises:
        ConfigError: The file cannot be read or used.
    """
    return parse_jobs(read_jobs_text(path), file=path, defaults=defaults, registry=None)


def parse_jobs(text: str, *, file: Path | str, defaults: PolicyDefaults, registry: Registry | None) -> JobsFile:
    """The jobs in ``text``; ``file`` is its name for messages, and without a ``registry`` no function is checked.

    Raises:
        ConfigError: Something is wrong; it holds every error, in file order.
    """
    text = text.removeprefix("\ufeff")
    try:
        digest = digest_of(text)
    except UnicodeEncodeError as error:
        message = Message("half of a surrogate pair is no character; save the file as UTF-8")
        raise unreadable(file, message, text[: error.start]) from None
    document = read_json(text)
    problems = list(document.problems(file))
    if not document.complete:
        raise ConfigError(problems)
    built = build_document(document.value, defaults, registry)
    unusable = {fault.path for fault in document.faults}
    problems += [
        document.problem(file, one.path, one.message, on_key=one.on_key, shown=one.shown, inside=one.inside)
        for one in built.errors
        if one.path not in unusable
    ]
    if problems:
        raise ConfigError(_in_file_order(problems))
    warnings = [
        document.problem(file, one.path, one.message, on_key=one.on_key, shown=one.shown, severity="warning")
        for one in built.warnings
    ]
    return JobsFile(
        built.definitions, text, digest, built.reload, built.timezone, tuple(_in_file_order(warnings)), built.functions
    )


def build_document(value: Any, defaults: PolicyDefaults, registry: Registry | None) -> BuiltJobs:
    """What a file's JSON value says: checked, as definitions, and what is wrong with it."""
    try:
        frame = JobsFrame.model_validate(value)
        entries = ((job_id, JobEntry.model_validate(raw)) for job_id, raw in frame.cron_jobs.items())
        return build_jobs(frame, entries, value, defaults, registry)
    except ValidationError:  # read again as a whole, to find everything that is wrong
        jobs, found = _checked(value)
        built = build_jobs(jobs, jobs.cron_jobs.items(), value, defaults, registry)
        return built._replace(errors=found + built.errors)


def _checked(value: Any) -> tuple[JobsDocument, list[Finding]]:
    """``value`` as a model, and what is wrong with it; what is wrong is left out of the model."""
    try:
        return JobsDocument.model_validate(value), []
    except ValidationError as error:
        found = findings(error)
    try:
        return JobsDocument.model_validate(_without(value, found)), found
    except ValidationError:
        return JobsDocument(cron_jobs={}), found


def _without(value: Any, found: list[Finding]) -> Any:
    """A copy of ``value`` without the fields, calendars and jobs that ``found`` names."""
    rest: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
    for group in ("cron_jobs", "calendars", "defaults"):
        if isinstance(rest.get(group), dict):
            rest[group] = dict(rest[group])
    for one in found:
        match one.path:
            case ("cron_jobs", str() as job, str() as field, *_) if job in rest["cron_jobs"]:
                rest["cron_jobs"][job] = {key: inner for key, inner in rest["cron_jobs"][job].items() if key != field}
            case (str() as group, str() as name, *_):
                rest[group].pop(name, None)
            case (str() as name,):
                rest.pop(name, None)
            case _:
                pass  # the whole document: nothing of it was copied
    rest.setdefault("cron_jobs", {})
    return rest


def _in_file_order(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.line, problem.column))
