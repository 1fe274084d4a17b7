"""Every error Atlas raises on purpose.

::

    AtlasError
    ├── ConfigError (ValueError)            a file or setting is wrong; carries located problems
    ├── UnknownRevisionError (LookupError)  no such version of the config file
    ├── RevisionRefusedError                a text is refused as things stand
    ├── CronExpressionError (ValueError)    a cron text is wrong; names field, token, range
    ├── ScheduleError (ValueError)          zone, interval, date, calendar: not the cron text itself
    ├── FunctionError
    │   ├── UnknownFunctionError (LookupError)
    │   └── FunctionRefusedError (ValueError)
    ├── ArgumentsError (ValueError)         arguments or a policy value cannot be used
    ├── TaskError
    │   ├── UnknownTaskError (LookupError)
    │   ├── DuplicateTaskError (ValueError)
    │   ├── TransitionError (ValueError)
    │   ├── TaskUnfinishedError (ValueError)
    │   ├── TaskFailedError
    │   ├── TaskTimeoutError
    │   ├── TaskCancelledError
    │   ├── ResultOmittedError (LookupError)
    │   └── ResultNotReadyError (TimeoutError)
    ├── QueueError
    │   ├── QueueFullError
    │   └── QueueStoppedError
    ├── JobError
    │   ├── UnknownJobError (LookupError)
    │   ├── JobBusyError
    │   ├── JobUnboundError (LookupError)
    │   ├── JobRefusedError
    │   └── JobOwnershipError (ValueError)
    └── StoreError
        ├── StoreUnavailableError (TimeoutError)
        ├── StoreHeldError
        ├── LeaseLostError
        ├── StoreVersionError
        └── StoreMismatchError (ValueError)

Two stand outside. `TaskStopped` is a `BaseException` like `asyncio.CancelledError`, so that ``except Exception`` in a
function does not swallow a cancel or a timeout. `NoRetryError` is raised by functions, not by Atlas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from atlas.scheduler.as_json import fields_as_json
from atlas.scheduler.error_text import error_line
from atlas.scheduler.message import Message, joined

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def _as_it_was(kind: type[BaseException], told: tuple[Any, ...]) -> BaseException:
    """An error of ``kind`` that says ``told``, whatever it is made from."""
    error = kind.__new__(kind)
    error.args = told
    return error


class _Copied(BaseException):
    """Copies and pickles keep what the error says and its attributes.

    Python would make it anew from its text, which is not what it was made from; a `multiprocessing.Pool` waits for ever
    for an error that cannot be read back.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return _as_it_was, (type(self), self.args), self.__dict__


class AtlasError(_Copied, Exception):
    """Base of every error Atlas raises on purpose."""


class TaskStopped(_Copied):
    """Raised inside a function by ``current_task().check()`` once its task was cancelled or ran out of time.

    Attributes:
        reason: ``"cancelled"``, ``"timeout"``, ``"replaced"`` (by a newer task of its job) or ``"shutdown"``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the task was asked to stop: {reason}")
        self.reason = reason


class NoRetryError(Exception):
    """Raised by a function whose task another attempt would not help: it is FAILED at once, whatever retries are left.

    Other errors may have it as a base: ``class FeedGoneError(LookupError, NoRetryError)``.
    """


# --- configuration ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in a file: where, what, and what would be right.

    Attributes:
        file: The file as the user named it, or None for a value that came from elsewhere.
        line: 1-based line, 0 when unknown.
        column: 1-based column, 0 when unknown.
        path: Dotted path of the value, such as ``cron_jobs.daily_report.timeout``.
        value: The offending text as it stands in the file, already shortened; None when nothing stands there.
        message: What is wrong and what would be right, in one sentence.
        severity: ``"error"`` or ``"warning"``.
    """

    file: Path | str | None
    line: int = 0
    column: int = 0
    severity: str = "error"
    path: str
    value: str | None = None
    message: str

    def __str__(self) -> str:
        """``file:line:column: path: "value": message`` with the parts that are known."""
        return self.place + self.message

    @property
    def place(self) -> str:
        """What stands in front of the message: ``file:line:column: path: "value": `` with the parts that are known."""
        where = [] if self.file is None else [str(self.file)]
        if where and self.line:
            where[0] += f":{self.line}:{self.column}"
        value = [] if self.value is None else [self.value]
        return "".join(f"{part}: " for part in (*where, *([self.path] if self.path else []), *value))

    def to_json(self) -> dict[str, Any]:
        """The parts as JSON values."""
        return fields_as_json(self) | {"file": None if self.file is None else str(self.file)}


class ConfigError(AtlasError, ValueError):
    """A file or setting cannot be used; nothing of it was applied.

    Attributes:
        problems: Everything that is wrong, in file order, at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Join ``problems`` into one message, a line each."""
        said = [Message("{place}{message}", place=problem.place, message=problem.message) for problem in problems]
        super().__init__(joined("\n", said))
        self.problems = tuple(problems)


class RevisionRefusedError(AtlasError):
    """The text of a config file is refused as things stand, by the process that leads or for a newer revision."""


class UnknownRevisionError(AtlasError, LookupError):
    """There is no such revision of the config file."""

    def __init__(self, number: int, *, newest: int | None) -> None:
        none = Message("no revision {number}: there is none yet", number=number)
        some = Message(
            "no revision {number}: the newest is {newest}; 'atlas revisions' lists them", number=number, newest=newest
        )
        super().__init__(none if newest is None else some)
        self.number, self.newest = number, newest


class CronExpressionError(AtlasError, ValueError):
    """A cron text that cannot be used.

    Attributes:
        expression: The whole text.
        field: Name of the field at fault (``"minute"`` …), or None when the text as a whole is wrong.
        token: The part at fault, as written.
        offset: 0-based position of ``token`` in ``expression``.
        reason: What is wrong and what would be right.
    """

    def __init__(
        self, expression: str, reason: str, *, field: str | None = None, token: str = "", offset: int = 0
    ) -> None:
        super().__init__(Message("{text}: {reason}", text=repr(expression), reason=reason))
        self.expression, self.reason, self.field, self.token, self.offset = expression, reason, field, token, offset


class ScheduleError(AtlasError, ValueError):
    """A schedule that cannot be used for a reason outside its cron text: zone, interval, date, calendar."""


# --- functions and arguments -----------------------------------------------------------------------------------------


class FunctionError(AtlasError):
    """A function cannot be named, found or used."""


class UnknownFunctionError(FunctionError, LookupError):
    """No function is registered or importable under this name.

    Attributes:
        nearest: The most similar known name, or None.
    """

    def __init__(self, name: str, *, nearest: str | None = None, detail: str = "") -> None:
        what = Message("no function {name}: {why}", name=repr(name), why=detail)
        none = Message("no function {name} is registered", name=repr(name))
        said = what if detail else none
        super().__init__(Message("{said}; did you mean {name}?", said=said, name=repr(nearest)) if nearest else said)
        self.name, self.nearest = name, nearest


class FunctionRefusedError(FunctionError, ValueError):
    """The function exists but may not be used so: not allow-listed, a closure in a process, volatile work by file."""


class ArgumentsError(AtlasError, ValueError):
    """Arguments or a policy value that cannot be used."""


# --- tasks -----------------------------------------------------------------------------------------------------------


class TaskError(AtlasError):
    """Something about one task."""

    def __init__(self, task_id: str, message: str) -> None:
        super().__init__(Message("task {task}: {what}", task=task_id, what=message))
        self.task_id = task_id


class UnknownTaskError(TaskError, LookupError):
    """No task has this id, or its retention has passed."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id, Message("no such task (never made, or removed by retention)"))


class DuplicateTaskError(TaskError, ValueError):
    """A task with this id exists already."""

    def __init__(self, task_id: str, message: str = Message("a task with this id exists already")) -> None:
        super().__init__(task_id, message)


class TransitionError(TaskError, ValueError):
    """A status move that is not allowed."""

    def __init__(self, task_id: str, old: str, new: str) -> None:
        super().__init__(task_id, Message("cannot go from {old} to {new}", old=old, new=new))
        self.old, self.new = old, new


class TaskUnfinishedError(TaskError, ValueError):
    """What was asked for needs a final task, and this one is not."""


class TaskFailedError(TaskError):
    """The task ended FAILED.

    Attributes:
        cause: ``error``, ``lost`` or ``quarantined``.
    """

    def __init__(self, task_id: str, error: str, *, cause: str = "error") -> None:
        """Compose the message from the cause and the line of ``error`` that names it."""
        super().__init__(task_id, f"failed ({cause}): {error_line(error) or 'no error text'}")
        self.error, self.cause = error, cause


class TaskTimeoutError(TaskError):
    """The task ended TIMEOUT: its last allowed attempt ran longer than its limit. Not a builtin ``TimeoutError``."""


class TaskCancelledError(TaskError):
    """The task ended CANCELLED."""


class ResultOmittedError(TaskError, LookupError):
    """The task succeeded, but its result was not kept: not JSON, over 64 kB, or of a volatile task long ago."""


class ResultNotReadyError(TaskError, TimeoutError):
    """The task is not final and the wait limit has passed."""


# --- queue and jobs --------------------------------------------------------------------------------------------------


class QueueError(AtlasError):
    """Something about the whole queue."""


class QueueFullError(QueueError):
    """As many tasks wait as the queue may hold; nothing was accepted."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            Message("{n} tasks wait already (max_waiting); nothing was accepted, submit again later", n=f"{limit:,}")
        )
        self.limit = limit


class QueueStoppedError(QueueError):
    """The queue takes nothing: not started, stopping or stopped."""


class JobError(AtlasError):
    """Something about one job."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(Message("job {job}: {what}", job=job_id, what=message))
        self.job_id = job_id


class UnknownJobError(JobError, LookupError):
    """No job has this id.

    Attributes:
        nearest: The most similar job id, or None.
    """

    def __init__(self, job_id: str, *, nearest: str | None = None) -> None:
        super().__init__(
            job_id,
            Message("no such job; did you mean {name}?", name=repr(nearest)) if nearest else Message("no such job"),
        )
        self.nearest = nearest


class JobBusyError(JobError):
    """The job's overlap rule allows no further task now.

    Attributes:
        task_id: The unfinished task in the way.
    """

    def __init__(self, job_id: str, task_id: str) -> None:
        super().__init__(
            job_id, Message("task {task} is unfinished and the overlap rule allows no further one", task=task_id)
        )
        self.task_id = task_id


class JobUnboundError(JobError, LookupError):
    """The job's function is missing, so it cannot run."""

    @classmethod
    def without_function(cls, job_id: str, why: str, *, volatile: bool = False) -> Self:
        """The error of a job that has no function, with why and, unless that says it (``volatile``), what to do."""
        if volatile:
            return cls(job_id, Message("it has no function and cannot run: {why}", why=why))
        return cls(
            job_id,
            Message(
                'it has no function and cannot run; correct its "function", or register that one with the scheduler:'
                " {why}",
                why=why,
            ),
        )


class JobRefusedError(JobError):
    """The database is well and takes no task of this job; see state PARKED."""

    def __init__(self, job_id: str, cause: str) -> None:
        super().__init__(job_id, Message("the database refuses its task: {error}", error=cause))


class JobOwnershipError(JobError, ValueError):
    """The job belongs to the config file and code tries to change it, or the other way round."""

    @classmethod
    def switched_off(cls, job_id: str, file: Path | str | None) -> Self:
        """The error of a job that ``file`` switches off; None where it is not known which file that is."""
        unnamed = Message("the config file says enabled: false; change it there")
        named = Message("{file} says enabled: false; change it there", file=str(file))
        return cls(job_id, unnamed if file is None else named)


# --- store -----------------------------------------------------------------------------------------------------------


class StoreError(AtlasError):
    """Something about the database."""


class StoreUnavailableError(StoreError, TimeoutError):
    """The database did not take a change in time; the change was withdrawn.

    Attributes:
        waited_s: How long it was tried.
        may_pass: False where waiting is of no use: a wrong password, a file that is no database.
    """

    def __init__(self, message: str, *, waited_s: float, may_pass: bool = True) -> None:
        super().__init__(message)
        self.waited_s, self.may_pass = waited_s, may_pass


class StoreHeldError(StoreError):
    """Another living process schedules on this database.

    Attributes:
        holder: That process in words: host, process id, since when.
    """

    def __init__(self, url: str, holder: str) -> None:
        super().__init__(f"{url} is held by {holder}; stop that one first, or point this one at another database")
        self.holder = holder


class LeaseLostError(StoreError):
    """Another process took over while this one was stopped, so its late write is refused; it stands by from now on."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url}: another process took over from this one; nothing of this was written")


class StoreVersionError(StoreError):
    """The database was written by a newer Atlas than this one."""

    @classmethod
    def of_value(cls, where: str, error: Exception) -> Self:
        """The error for a value that cannot be read as its column's."""
        return cls(f"{where} cannot be read ({error}): it was written by a newer Atlas; install that one")


class StoreMismatchError(StoreError, ValueError):
    """Parts that must share one store were given two."""
