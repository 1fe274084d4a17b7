"""What `CronManager.add_job` takes by keyword, and the definition made of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypedDict

from atlas.scheduler.definition import POLICY_FIELDS, RETRY_FIELDS, CatchUp, JobDefinition, JobPolicies, JobSource
from atlas.scheduler.durations import seconds
from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.message import Message
from atlas.scheduler.nearest import did_you_mean
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.schedule import Interval, Schedule
from atlas.scheduler.task import NO_ARGUMENTS, ExecutorKind, OnCrash, Overlap, TaskPriority, member_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from atlas.scheduler.tasks.submission import QueueDefaults

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class JobOptions(TypedDict, total=False):
    """Options of a job made by code; the names and meanings are those of ``cron_jobs.json``.

    Durations are seconds or text like ``"5m"``. None is as if it were not given, but for ``timeout``. What
    policies mean say `JobPolicies` and `RetryPolicy`. The jobs file's ``defaults`` are for the jobs of the file alone:
    an edit of it changes no job of the code.

    Attributes:
        title: Display name; by default the job's name.
        timezone: Zone of the schedule; by default the manager's.
        interval: Fire every so often, from ``anchor`` on.
        anchor: Start of the interval's grid; by default 1970-01-01 UTC, so that a restart does not shift it.
        dates: Single instants to fire at.
        spread: Largest stable offset of the start.
        executor: ``thread``, ``process`` or ``async``.
        priority: URGENT, HIGH, NORMAL or LOW.
        on_crash: ``retry`` or ``fail``.
        overlap: ``skip``, ``queue``, ``replace`` or ``allow``.
        catchup: ``none``, ``latest`` or ``all``.
        log_max_bytes: Most that is kept of what one task logs, bytes; 0 keeps nothing. By default the queue's limit.
    """

    title: str | None
    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    timezone: str | None
    interval: float | str | None
    anchor: datetime | None
    dates: Sequence[datetime] | None
    start_at: datetime | None
    end_at: datetime | None
    spread: float | str | None
    tags: Sequence[str] | None
    owner: str | None
    runbook: str | None
    executor: ExecutorKind | str | None
    priority: TaskPriority | str | int | None
    max_retries: int | None
    retry_delay: float | str | None
    retry_backoff: float | None
    retry_max_delay: float | str | None
    retry_jitter: float | None
    retry_on: Sequence[str] | None
    on_crash: OnCrash | str | None
    timeout: float | str | None
    overlap: Overlap | str | None
    max_instances: int | None
    catchup: CatchUp | str | None
    catchup_window: float | str | None
    catchup_limit: int | None
    keep_days: float | None
    keep_tasks: int | None
    log_max_bytes: int | None


_WHOLE: Final = {
    "max_retries": (0, 1_000_000),
    "max_instances": (1, 1_000),
    "catchup_limit": (1, 100_000),
    "keep_tasks": (0, 1_000_000_000),
    "log_max_bytes": (0, 1_000_000_000),
}
MAX_KEEP_DAYS: Final = 36_500


def define(
    name: str,
    cron: str | Sequence[str] | None,
    function: str,
    description: str,
    options: JobOptions,
    *,
    defaults: QueueDefaults,
    timezone: str,
    arguments: str | None,
) -> JobDefinition:
    """The definition of a job made by code.

    ``arguments`` is their JSON text, None for a volatile job; ``defaults`` and ``timezone`` are for what is not given.

    Raises:
        TypeError: An option is unknown; the nearest one is proposed.
        ArgumentsError: An option has no meaning.
        CronExpressionError: The expression cannot be used.
        ScheduleError: The schedule cannot be used.
    """
    unknown = sorted(options.keys() - JobOptions.__annotations__.keys())
    if unknown:
        msg = f"add_job() got an unknown option {unknown[0]!r}{did_you_mean(unknown[0], JobOptions.__annotations__)}"
        raise TypeError(msg)
    given: dict[str, Any] = {
        option: value for option, value in options.items() if value is not None or option == "timeout"
    }
    _check(given)
    _check_text("description", description)
    timeout = given.get("timeout", defaults.timeout_s)
    policies = JobPolicies(
        executor=member_of(ExecutorKind, "executor", given["executor"]) if "executor" in given else None,
        priority=TaskPriority.parse(given.get("priority", TaskPriority.NORMAL)),
        retry=_retry(given, defaults),
        timeout_s=None if timeout is None else seconds("timeout", timeout),
        on_crash=member_of(OnCrash, "on_crash", given.get("on_crash", OnCrash.RETRY)),
        overlap=member_of(Overlap, "overlap", given.get("overlap", Overlap.SKIP)),
        max_instances=given.get("max_instances", 1),
        catchup=member_of(CatchUp, "catchup", given.get("catchup", CatchUp.LATEST)),
        catchup_window_s=seconds("catchup_window", given.get("catchup_window", 3600.0)),
        catchup_limit=given.get("catchup_limit", 100),
        keep_days=given.get("keep_days"),
        keep_tasks=given.get("keep_tasks"),
        log_max_bytes=given.get("log_max_bytes"),
        value_from={**defaults.value_from(), **{name: "job" for name in POLICY_FIELDS if name in given}},
    )
    policies.of_task(ExecutorKind.THREAD)  # refuses what would otherwise be found out at the first fire time
    return JobDefinition(
        id=name,
        source=JobSource.CODE,
        title=given.get("title") or name,
        description=description,
        schedule=_schedule(cron, given, timezone),
        function=function,
        arguments=arguments or NO_ARGUMENTS,
        volatile=arguments is None,
        tags=tuple(given.get("tags", ())),
        owner=given.get("owner", ""),
        runbook=given.get("runbook", ""),
        policies=policies,
    )


def _check(given: Mapping[str, Any]) -> None:
    """Refuse values of the wrong kind, and numbers out of their bounds; they are those of the config file."""
    for name, (low, high) in _WHOLE.items():
        value = given.get(name, low)
        if type(value) is not int or not low <= value <= high:
            bounds = {"low": f"{low:,}", "high": f"{high:,}"}
            raise ArgumentsError(
                Message(
                    "{name} {value} is not a whole number in {low} to {high}", name=name, value=repr(value), **bounds
                )
            )
    for name in ("title", "owner", "runbook", "timezone"):
        if not isinstance(given.get(name, ""), str):
            raise ArgumentsError(f"{name} {given[name]!r} is not text")
    for name in ("title", "owner", "runbook"):
        _check_text(name, given.get(name, ""))
    for name in ("tags", "retry_on"):
        value = given.get(name, ())
        if isinstance(value, str) or not all(isinstance(one, str) for one in value):
            raise ArgumentsError(f"{name} {value!r} is not a list of texts")
        for one in value:
            _check_text(name, one)
    _check_instants(given)
    days = given.get("keep_days", 1)
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days <= MAX_KEEP_DAYS:
        raise ArgumentsError(f"keep_days {days!r} is not more than 0 and at most {MAX_KEEP_DAYS:,} days")


def _check_instants(given: Mapping[str, Any]) -> None:
    """Refuse what is no datetime; `Schedule` refuses a naive one."""
    for name in ("start_at", "end_at", "anchor"):
        if not isinstance(given.get(name, EPOCH), datetime):
            raise ArgumentsError(f"{name} {given[name]!r} is not a datetime")
    dates = given.get("dates", ())
    if isinstance(dates, str | datetime) or not all(isinstance(one, datetime) for one in dates):
        raise ArgumentsError(f"dates {dates!r} is not a list of datetimes")


def _check_text(name: str, text: str) -> None:
    """Refuse what a row cannot hold: zero bytes on PostgreSQL, half a surrogate pair anywhere."""
    if "\0" in text or (not text.isascii() and text.encode("utf-8", "replace").decode() != text):
        raise ArgumentsError(f"{name} {text!r} has a zero byte or half of a surrogate pair")


def _schedule(cron: str | Sequence[str] | None, options: Mapping[str, Any], timezone: str) -> Schedule:
    expressions = () if cron is None else (cron,) if isinstance(cron, str) else tuple(cron)
    intervals: tuple[Interval, ...] = ()
    if "interval" in options:
        every_s = seconds("interval", options["interval"])
        intervals = (Interval(every_s=every_s, anchor=options.get("anchor", EPOCH)),)
    return Schedule(
        cron=expressions,
        intervals=intervals,
        dates=tuple(options.get("dates", ())),
        timezone=options.get("timezone", timezone),
        start_at=options.get("start_at"),
        end_at=options.get("end_at"),
        spread_s=seconds("spread", options.get("spread", 0.0)),
    ).validated()


def _retry(options: Mapping[str, Any], defaults: QueueDefaults) -> RetryPolicy:
    values: dict[str, Any] = {"max_retries": defaults.max_retries}
    for option, name in RETRY_FIELDS.items():
        if option in options:
            value = options[option]
            values[name] = seconds(option, value) if name.endswith("_s") else value
    return RetryPolicy(**values)
