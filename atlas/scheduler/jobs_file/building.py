"""`build_jobs`: checked entries of the jobs file → `JobDefinition` objects; checks what depends on two values.

Policies resolve as job, ``defaults`` of the file, ``config.yaml``, built in. Equal parts (retry policies, calendars,
the record of where values came from) are one object for all jobs, since ten thousand of them stay in memory.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from atlas.scheduler.cron.expression import parse_cron
from atlas.scheduler.definition import POLICY_FIELDS, RETRY_FIELDS, JobDefinition, JobPolicies, JobSource
from atlas.scheduler.errors import CronExpressionError, ScheduleError
from atlas.scheduler.jobs_file.findings import Finding
from atlas.scheduler.jobs_file.format import IntervalTrigger, Policies
from atlas.scheduler.jobs_file.functions import FunctionCheck
from atlas.scheduler.jobs_file.values import NOTE, did_you_mean
from atlas.scheduler.message import Message, message_of
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.schedule import Calendar, Interval, Schedule
from atlas.scheduler.task import NO_ARGUMENTS, Overlap
from atlas.scheduler.zones import shift_around, zone_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from zoneinfo import ZoneInfo

    from atlas.scheduler.jobs_file.format import JobEntry, JobsDocument
    from atlas.scheduler.jobs_file.located_json import Path
    from atlas.scheduler.registry import Registry

DEFAULT_ANCHOR: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - in the zone of each job
"""A fire time of every interval without an anchor: a midnight, so that "10m" and "24h" fall on round times."""

_OWN_TIMES: Final = ("triggers", "start_at", "end_at")
"""What makes a schedule one that few jobs share."""

_as_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode
"""As `encode_arguments`, without its round trip: what was just read from JSON survives it. Sorted, as rows hold it."""
_FIELDS: Final = {name: field for name, field in POLICY_FIELDS.items() if name in Policies.model_fields}
_OTHERS: Final = {name: field for name, field in _FIELDS.items() if name not in RETRY_FIELDS}
_BUILT_IN: Final = {name: attrgetter(field)(JobPolicies()) for name, field in _FIELDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDefaults:
    """What holds where neither a job nor the file's ``defaults`` say anything; see `JobPolicies`.

    Raises:
        ScheduleError: There is no such zone.
    """

    timeout_s: float | None = 600.0
    max_retries: int = 3
    keep_days: float | None = None
    log_max_bytes: int | None = None
    timezone: str = "UTC"
    """Zone of a file without one."""
    set_in_settings: frozenset[str] = frozenset()
    """Those of ``timeout``, ``max_retries``, ``keep_days``, ``log_max_bytes``, ``timezone`` that ``config.yaml`` sets;
    the others are built in."""

    def __post_init__(self) -> None:
        """Refuse a zone that does not exist, before any file is read with it."""
        zone_named(self.timezone)

    def values(self) -> dict[str, Any]:
        """The values by the names that the jobs file has for them."""
        return {
            "timeout": self.timeout_s,
            "max_retries": self.max_retries,
            "keep_days": self.keep_days,
            "log_max_bytes": self.log_max_bytes,
            "timezone": self.timezone,
        }


class BuiltJobs(NamedTuple):
    """What `build_jobs` made."""

    definitions: dict[str, JobDefinition]
    """By job id, in the order of the file; without the jobs that have errors."""
    reload: Literal["auto", "manual"]
    timezone: str
    errors: list[Finding]
    warnings: list[Finding]
    functions: dict[str, str]


def build_jobs(
    jobs: JobsDocument,
    entries: Iterable[tuple[str, JobEntry]],
    raw: Any,
    defaults: PolicyDefaults,
    registry: Registry | None,
) -> BuiltJobs:
    """Definitions of all jobs of a checked file, ``jobs`` without what is wrong in it and ``raw`` as it was read.

    Without a ``registry`` no function is looked up.
    """
    builder = _Builder(jobs, _object(raw), defaults, registry)
    for job_id, entry in entries:
        builder.add(job_id, entry)
    builder.look_at_the_whole()
    return BuiltJobs(
        builder.definitions,
        jobs.reload or "auto",
        builder.timezone,
        builder.errors,
        builder.warnings,
        builder.functions,
    )


class _Builder:
    """Builds one definition after the other and collects what is wrong."""

    def __init__(
        self, jobs: JobsDocument, raw: dict[str, Any], outside: PolicyDefaults, registry: Registry | None
    ) -> None:
        self.definitions: dict[str, JobDefinition] = {}
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self.timezone: str = jobs.timezone or outside.timezone
        self._raw_jobs = _object(raw.get("cron_jobs"))
        self._functions = None if registry is None else FunctionCheck(registry)
        defaults = _given(jobs.defaults) if jobs.defaults else {}
        self._values = {**_BUILT_IN, **outside.values(), **defaults}
        self._value_from = dict.fromkeys(outside.set_in_settings & self._values.keys(), "config.yaml")
        self._value_from |= dict.fromkeys(defaults, "defaults")
        if jobs.timezone:
            self._value_from["timezone"] = "defaults"
        self._value_froms: dict[frozenset[str], dict[str, str]] = {}
        self._policies: dict[tuple[Any, ...], JobPolicies] = {}
        self._zones: dict[str, ZoneInfo] = {}
        self._schedules: dict[Schedule, Schedule] = {}
        self._plain_schedules: dict[tuple[Any, ...], Schedule] = {}
        self._calendars = {
            name: Calendar(name, exclude=tuple(one.exclude or ()), include=tuple(one.include or ()))
            for name, one in (jobs.calendars or {}).items()
        }
        self._known_calendars = [name for name in _object(raw.get("calendars")) if not name.startswith(NOTE)]
        self._warn_of_cut_delay(("defaults",), defaults, self._values)

    def add(self, job_id: str, entry: JobEntry) -> None:
        """Build the definition of one job."""
        path = ("cron_jobs", job_id)
        given = _given(entry)
        before = len(self.errors)
        function = sys.intern(entry.function or job_id)
        arguments = NO_ARGUMENTS
        if entry.args or entry.kwargs:
            arguments = _as_json({"args": entry.args or [], "kwargs": entry.kwargs or {}})
        raw = _object(self._raw_jobs.get(job_id))
        schedule = self._schedule(path, entry, raw)
        if self._functions is not None and not _is_missing(entry, raw, ("function", "args", "kwargs", "executor")):
            errors, warnings = self._functions.check(path, entry, function)
            self.errors += errors
            self.warnings += warnings
        if given:
            values = {**self._values, **given}
            self._warn_of_cut_delay(path, given, values)
            self._warn_of_instances(path, given, values)
        if schedule is None or len(self.errors) > before:
            return
        self.definitions[job_id] = JobDefinition(
            id=job_id,
            source=JobSource.FILE,
            title=entry.name or job_id,
            schedule=schedule,
            function=function,
            arguments=arguments,
            description=entry.description or "",
            tags=tuple(entry.tags or ()),
            owner=entry.owner or "",
            runbook=entry.runbook or "",
            policies=self._policies_of(given, entry),
            enabled=entry.enabled is not False,
        )

    @property
    def functions(self) -> dict[str, str]:
        """What was found under the functions' names."""
        return {} if self._functions is None else self._functions.facts()

    def look_at_the_whole(self) -> None:
        """Warn of what only the whole file shows."""
        for key, value in self._raw_jobs.items():
            if key.startswith(NOTE) and not {"cron_expression", "triggers", "function"}.isdisjoint(_object(value)):
                message = Message(
                    "keys that begin with {note} are notes, so this is no job; rename it if it should be one", note=NOTE
                )
                self.warnings.append(Finding(("cron_jobs", key), message, on_key=True))
        if not self.definitions and not self.errors:
            message = Message("no jobs: every job that came from this file stops")
            self.warnings.append(Finding(("cron_jobs",), message, on_key=True, shown=False))

    # --- when --------------------------------------------------------------------------------------------------------

    def _schedule(self, path: Path, entry: JobEntry, raw: dict[str, Any]) -> Schedule | None:
        if not raw.keys().isdisjoint(_OWN_TIMES):
            return self._looked_at(path, entry, raw)
        key = (tuple(entry.cron_expression or ()), entry.timezone, entry.spread, entry.calendar)
        found = self._plain_schedules.get(key) or self._looked_at(path, entry, raw)
        if found is not None:
            self._plain_schedules[key] = found
        return found

    def _looked_at(self, path: Path, entry: JobEntry, raw: dict[str, Any]) -> Schedule | None:
        """The schedule of a job, once each of its parts is looked at."""
        before = len(self.errors)
        if "cron_expression" not in raw and not raw.get("triggers"):
            self.errors.append(Finding(path, Message('never fires; add "cron_expression" or "triggers"'), on_key=True))
        timezone = entry.timezone or self.timezone
        zone = self._zones.get(timezone) or self._zones.setdefault(timezone, zone_named(timezone))
        for index, text in enumerate(entry.cron_expression or ()):
            try:
                parse_cron(text, timezone)
            except CronExpressionError as error:
                item = () if isinstance(raw["cron_expression"], str) else (index,)
                self.errors.append(Finding((*path, "cron_expression", *item), error.reason, inside=error.offset))
        start_at = entry.start_at and self._instant(entry.start_at, zone, (*path, "start_at"))
        end_at = entry.end_at and self._instant(entry.end_at, zone, (*path, "end_at"))
        if start_at and end_at and end_at < start_at:
            message = Message(
                "before start_at, which is {start}; swap them or change one",
                start=start_at.astimezone(zone).isoformat(),
            )
            self.errors.append(Finding((*path, "end_at"), message))
        intervals, dates = [], []
        for index, trigger in enumerate(entry.triggers or ()):
            where = (*path, "triggers", index)
            if isinstance(trigger, IntervalTrigger):
                anchor = self._instant(trigger.anchor or DEFAULT_ANCHOR, zone, (*where, "anchor"))
                intervals.append(Interval(trigger.every, anchor))
            else:
                at = self._instant(trigger.at, zone, (*where, "at"))
                if (start_at and at < start_at) or (end_at and at > end_at):
                    message = Message("never fires: not between start_at and end_at of the job")
                    self.errors.append(Finding((*where, "at"), message))
                dates.append(at)
        if entry.calendar is not None and entry.calendar not in self._known_calendars:
            self.errors.append(Finding((*path, "calendar"), self._no_calendar(entry.calendar)))
        if len(self.errors) > before or _is_missing(entry, raw, ("cron_expression", "triggers")):
            return None
        schedule = Schedule(
            cron=tuple(entry.cron_expression or ()),
            intervals=tuple(intervals),
            dates=tuple(dates),
            timezone=timezone,
            start_at=start_at,
            end_at=end_at,
            spread_s=entry.spread or 0.0,
            calendar=self._calendars.get(entry.calendar or ""),
        )
        shared = self._schedules.get(schedule)
        if shared is None:
            try:
                shared = self._schedules[schedule] = schedule.validated()
            except (ScheduleError, CronExpressionError) as error:
                self.errors.append(Finding(path, message_of(error), on_key=True))
        return shared

    def _instant(self, moment: datetime, zone: ZoneInfo, path: Path) -> datetime:
        """``moment`` in UTC; without an offset it is meant in ``zone``."""
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
            shift = shift_around(moment)
            if shift is not None and shift.after > shift.before:
                shown = moment.astimezone(UTC).astimezone(zone).isoformat()
                message = Message(
                    "the clock in {zone} leaves this time out; {shown} is taken", zone=zone.key, shown=shown
                )
                self.warnings.append(Finding(path, message))
        return moment.astimezone(UTC)

    def _no_calendar(self, name: str) -> str:
        if not self._known_calendars:
            return Message('no such calendar; the file has none, add it to "calendars"')
        proposal = did_you_mean(name, self._known_calendars)
        known = Message("; known are {names}", names=", ".join(self._known_calendars))
        return Message("no such calendar{proposal}", proposal=proposal or known)

    # --- policies ----------------------------------------------------------------------------------------------------

    def _policies_of(self, given: Mapping[str, Any], entry: JobEntry) -> JobPolicies:
        """The policies of a job; one object for all jobs that set the same ones alike."""
        key = (*given.items(), entry.executor, entry.timezone is None)
        found = self._policies.get(key)
        if found is None:
            values = {**self._values, **given}
            found = self._policies[key] = JobPolicies(
                executor=entry.executor,
                retry=_retry_policy(*[values[name] for name in RETRY_FIELDS]),
                value_from=self._sources(given, entry),
                **{field: values[name] for name, field in _OTHERS.items()},
            )
        return found

    def _sources(self, given: Mapping[str, Any], entry: JobEntry) -> dict[str, str]:
        """Where each policy comes from; one object for all jobs that set the same fields."""
        names = frozenset(given) | ({"timezone"} if entry.timezone else frozenset())
        sources = self._value_froms.get(names)
        if sources is None:
            sources = self._value_froms[names] = {**self._value_from, **dict.fromkeys(names, "job")}
        return sources

    def _warn_of_cut_delay(self, path: Path, given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        if ("retry_delay" in given or "retry_max_delay" in given) and values["retry_delay"] > values["retry_max_delay"]:
            name = "retry_delay" if "retry_delay" in given else "retry_max_delay"
            first, longest = values["retry_delay"], values["retry_max_delay"]
            message = Message(
                "retry_delay {first} s is cut to retry_max_delay {longest} s; change one of them",
                first=f"{first:g}",
                longest=f"{longest:g}",
            )
            self.warnings.append(Finding((*path, name), message))

    def _warn_of_instances(self, path: Path, given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        if "max_instances" in given and values["overlap"] is not Overlap.ALLOW:
            message = Message(
                'counts only with "overlap": "allow"; here it is "{overlap}"', overlap=values["overlap"].value
            )
            self.warnings.append(Finding((*path, "max_instances"), message))


def _given(entry: Policies) -> dict[str, Any]:
    """The policies that ``entry`` sets itself."""
    given = {name: getattr(entry, name) for name in entry.model_fields_set if name in _BUILT_IN}
    if "retry_on" in given:
        given["retry_on"] = tuple(given["retry_on"])
    return given


@lru_cache(maxsize=1024)
def _retry_policy(*values: Any) -> RetryPolicy:
    return RetryPolicy(**dict(zip(RETRY_FIELDS.values(), values, strict=True)))


def _is_missing(entry: JobEntry, raw: dict[str, Any], names: tuple[str, ...]) -> bool:
    """True if the file has one of ``names`` and the entry has not, because it is wrong."""
    return any(name in raw and getattr(entry, name) is None for name in names)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
