"""A job's definition as text: one JSON object on four lines, sealed where it stands in a row.

The first line holds what is the job's own, the others what many jobs share, so that ten thousand equal schedules and
policies are read once and are one object in memory::

    {"seal": …, "id": …, "title": …, "arguments": …,
    "source": …, "function": …, "enabled": …, "volatile": …,
    "schedule": …,
    "priority": …, "retry": …, "timeout_s": …, "value_from": …}

A row with its seal was written by this program and is as it was: its first line need not be read before somebody asks
for what it says. Any other row is read at once, so that what is wrong with it is known at once.
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from atlas.scheduler.definition import BUILT_IN, CatchUp, JobDefinition, JobPolicies, JobSource
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.schedule import Schedule
from atlas.scheduler.task import NO_ARGUMENTS, ExecutorKind, OnCrash, Overlap, TaskPriority

if TYPE_CHECKING:
    from collections.abc import Mapping


def text_of(definition: JobDefinition) -> str:
    """The definition as canonical JSON text, without a seal: equal definitions give equal text."""
    own = _encode(dict(zip(_OWN, _own(definition), strict=True)))
    arguments = definition.arguments
    if arguments != NO_ARGUMENTS:
        arguments = _encode(json.loads(arguments))
    policies = definition.policies
    return "\n".join(
        (
            f'{{"id":{_encode(definition.id)},{own[1:-1]},"arguments":{arguments},',
            _runs_json(*_runs(definition)),
            f'"schedule":{_schedule_json(definition.schedule)},',
            _policies_json(_policies(policies), tuple(policies.value_from.items())),
        )
    )


def definition_of(text: str | bytes) -> JobDefinition:
    """The definition that `text_of` or `row_of` wrote, or any JSON object that says the same.

    Raises:
        ValueError: The text is not such a definition.
    """
    try:
        raw = json.loads(text)
        raw.pop("seal", None)
        schedule = _schedule_from(f'"schedule":{_encode(raw.pop("schedule"))},')
        policies = _policies_from(_encode({name: raw.pop(name) for name in (*_POLICIES, "value_from")})[1:])
        runs = _read_runs({name: raw.pop(name) for name in _RUNS})
        return _made(raw, runs, schedule, policies)
    except (KeyError, TypeError, AttributeError) as error:
        raise _refused(error) from error


def digest_of(text: str | bytes) -> str:
    """Hash of a text."""
    return hashlib.blake2b(text.encode() if isinstance(text, str) else text, digest_size=12).hexdigest()


# --- rows -------------------------------------------------------------------------------------------------------------


def seal_of(text: str) -> str:
    """Hash of what `text_of` gave: two definitions with the same one are the same."""
    own, _, shared = text.partition("\n")
    return digest_of(own[1:] + _shared_digest(shared))


def row_of(text: str, seal: str) -> bytes:
    """What `text_of` gave, with what `seal_of` gave for it."""
    return f'{_SEAL}{seal}",{text[1:]}'.encode()


class SharedLines(NamedTuple):
    """What all lines but the first say, one object for all jobs with equal ones."""

    runs: Mapping[str, Any]
    """``source``, ``function``, ``enabled`` and ``volatile`` of the definition."""
    schedule: Schedule
    policies: JobPolicies
    digest: str
    """Hash of the lines."""


def shared_lines(lines: bytes) -> SharedLines:
    """What these lines say.

    Raises:
        ValueError: They are not the lines of a definition, or cannot be used here: a zone may be gone.
    """
    runs, schedule, policies = lines.decode().split("\n")
    try:
        return SharedLines(_runs_from(runs), _schedule_from(schedule), _policies_from(policies), digest_of(lines))
    except (KeyError, TypeError, AttributeError) as error:
        raise _refused(error) from error


class UnreadDefinition(NamedTuple):
    """A definition whose first line is not read yet; what the others say is known."""

    id: str
    own: str
    """The first line, without its seal."""
    shared: SharedLines

    @property
    def source(self) -> JobSource:
        """The config file or code."""
        source: JobSource = self.shared.runs["source"]
        return source

    @property
    def function(self) -> str:
        """Name in the registry."""
        return str(self.shared.runs["function"])

    @property
    def enabled(self) -> bool:
        """False means DISABLED."""
        return bool(self.shared.runs["enabled"])

    @property
    def volatile(self) -> bool:
        """True if its function lives in one process only."""
        return bool(self.shared.runs["volatile"])

    @property
    def schedule(self) -> Schedule:
        """When it fires."""
        return self.shared.schedule

    @property
    def policies(self) -> JobPolicies:
        """How its tasks are run, tried again, caught up and kept."""
        return self.shared.policies

    def read(self) -> JobDefinition:
        """The whole."""
        runs, schedule, policies, _digest = self.shared
        return _made(json.loads(f"{{{self.own[:-1]}}}"), runs, schedule, policies)


KnownDefinition: TypeAlias = JobDefinition | UnreadDefinition
"""As much as is known of a job's definition without reading on."""


def unread(line: bytes, job_id: str, shared: SharedLines) -> tuple[UnreadDefinition, str] | None:
    """The definition of a row, unread, and its seal; None unless it is sealed and is one of this job."""
    if not line.startswith(_SEAL_BYTES):
        return None
    own = line[_SEALED:].decode()
    seal = digest_of(own + shared.digest)
    if line[len(_SEAL) : _SEALED] != f'{seal}",'.encode() or not own.startswith(f'"id":{_plain(job_id)},'):
        return None
    return UnreadDefinition(job_id, own, shared), seal


def policies_in(row: bytes) -> JobPolicies:
    """The policies in a row, read once for all jobs with equal ones; the rest is read only where it was laid out anew.

    Raises:
        ValueError: The row holds no definition.
    """
    try:
        return _policies_from(row.rpartition(b"\n")[2].decode())
    except (ValueError, KeyError, TypeError, AttributeError):
        return definition_of(row).policies


# --- within -----------------------------------------------------------------------------------------------------------

_POLICIES: Final = tuple(name for name in JobPolicies.__slots__ if name != "value_from")
"""What stands on the last line, before ``value_from``."""
_RUNS: Final = ("enabled", "function", "source", "volatile")
"""What stands on the second line."""
_OWN: Final = tuple(sorted({*JobDefinition.__slots__} - {*_RUNS, "id", "schedule", "arguments", "policies"}))
"""What stands on the first line, between ``id`` and ``arguments``: it says whose it is before it is read."""
_FORMAT: Final = digest_of(",".join(_OWN))[:4]
"""Of the first line: a row of a program that has other fields counts as not sealed."""
_SEAL: Final = f'{{"seal":"{_FORMAT}-'
_SEAL_BYTES: Final = _SEAL.encode()
_SEALED: Final = len(f'{_SEAL}{digest_of("")}",')
"""Where the rest of the first line begins."""
_NO_ARGUMENTS: Final = json.loads(NO_ARGUMENTS)
_shared_digest: Final = lru_cache(maxsize=64)(digest_of)
_own: Final = attrgetter(*_OWN)
_runs: Final = attrgetter(*_RUNS)
_policies: Final = attrgetter(*_POLICIES)
_plain: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_escaped: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _refused(error: Exception) -> ValueError:
    return ValueError(f"not a job definition: {type(error).__name__}: {error}")


def _made(own: dict[str, Any], runs: Mapping[str, Any], schedule: Schedule, policies: JobPolicies) -> JobDefinition:
    arguments = own["arguments"]
    own["arguments"] = NO_ARGUMENTS if arguments == _NO_ARGUMENTS else _encode(arguments)
    own["tags"] = tuple(own["tags"])
    return JobDefinition(**own, **runs, schedule=schedule, policies=policies)


def _encode(value: Any) -> str:
    """JSON text that a row can hold: lone surrogates, as file names may have them, fit only when they are escaped."""
    text = _plain(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return _escaped(value)
    return text


@lru_cache(maxsize=1024)
def _runs_json(*runs: Any) -> str:
    return _encode(dict(zip(_RUNS, runs, strict=True)))[1:-1] + ","


@lru_cache(maxsize=32_768)
def _schedule_json(schedule: Schedule) -> str:
    return _encode(schedule.to_json())


@lru_cache(maxsize=1024)
def _policies_json(policies: tuple[Any, ...], value_from: tuple[tuple[str, str], ...]) -> str:
    raw = dict(zip(_POLICIES, policies, strict=True))
    raw["priority"] = raw["priority"].name
    raw["retry"] = {name: getattr(raw["retry"], name) for name in RetryPolicy.__slots__}
    return _encode(raw | {"value_from": dict(value_from)})[1:]


@lru_cache(maxsize=1024)
def _runs_from(line: str) -> dict[str, Any]:
    """What a second line says."""
    raw = json.loads(f"{{{line.removesuffix(',')}}}")
    return _read_runs({name: raw.pop(name) for name in _RUNS})


@lru_cache(maxsize=32_768)
def _schedule_from(line: str) -> Schedule:
    """The schedule of a line ``"schedule": …,``."""
    return Schedule.from_json(json.loads(f"{{{line.removesuffix(',')}}}")["schedule"])


@lru_cache(maxsize=1024)
def _policies_from(line: str) -> JobPolicies:
    """What a last line says."""
    return _read_policies(json.loads("{" + line))


def _read_runs(raw: dict[str, Any]) -> dict[str, Any]:
    return raw | {"source": JobSource(raw["source"]), "function": sys.intern(raw["function"])}


def _read_policies(raw: dict[str, Any]) -> JobPolicies:
    retry = raw["retry"]
    read = {
        "retry": RetryPolicy(**{**retry, "retry_on": tuple(retry["retry_on"])}),
        "priority": TaskPriority.parse(raw["priority"]),
        "executor": None if raw["executor"] is None else ExecutorKind(raw["executor"]),
        "on_crash": OnCrash(raw["on_crash"]),
        "overlap": Overlap(raw["overlap"]),
        "catchup": CatchUp(raw["catchup"]),
        # Rows of earlier versions name also what nobody set: read as they are, every job would count as changed.
        "value_from": {name: source for name, source in raw["value_from"].items() if source != BUILT_IN},
    }
    return JobPolicies(**raw | read)
