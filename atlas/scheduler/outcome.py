"""How an attempt ended, and what becomes of its task: `run_attempt` makes an outcome, `settle` decides on it."""

from __future__ import annotations

import inspect
import json
import traceback
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, assert_never

from atlas.scheduler.errors import FunctionRefusedError
from atlas.scheduler.retry import RetryPolicy, error_names
from atlas.scheduler.task import Cause, OnCrash, Task, TaskStatus

if TYPE_CHECKING:
    from types import TracebackType

MAX_RESULT_BYTES: Final = 64_000
MAX_ERROR_BYTES: Final = 8_000
MAX_COUNTED_CRASHES: Final = 3
_TEXT: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

StopReason = Literal["cancelled", "timeout", "shutdown", "replaced"]


class Returned(NamedTuple):
    """The function returned."""

    value: Any
    """What it returned; None when only the text came back from another process."""
    text: str | None
    """Its JSON text, None when it is not JSON or longer than 64 kB."""


class Raised(NamedTuple):
    """The function raised."""

    error: str
    """The traceback as text, at most 8 kB."""
    names: tuple[str, ...]
    """The error's class and bases, short and dotted, for ``retry_on``."""


class Stopped(NamedTuple):
    """The attempt was stopped, or is given up because it does not stop."""

    reason: StopReason
    abandoned: bool = False
    """True if its code may still be running."""


class Crashed(NamedTuple):
    """The worker process died in the middle of the attempt."""

    error: str


Outcome = Returned | Raised | Stopped | Crashed


def returned(value: object) -> Returned:
    """The outcome of a function that returned ``value``."""
    if value is None:
        return Returned(None, "null")
    try:
        text = _TEXT(value)
        try:
            length = len(text) if text.isascii() else len(text.encode())
        except UnicodeEncodeError:  # lone surrogates, as `os.fsdecode` makes them, fit into a row only when escaped
            text = json.dumps(value, allow_nan=False, separators=(",", ":"))
            length = len(text)
    except Exception:  # noqa: BLE001 - no JSON; or it changes while it is read, or its own methods raise
        return Returned(value, None)
    return Returned(value, text if length <= MAX_RESULT_BYTES else None)


def not_to_be_awaited(value: object, function: str) -> object:
    """``value``, as the plain function of this name returned it.

    Raises:
        FunctionRefusedError: It is a coroutine: nothing of it ran, and no loop that it may belong to is here.
    """
    if inspect.iscoroutine(value):
        value.close()
        msg = f"{function} is a plain function but returned a coroutine; write it as 'async def'"
        raise FunctionRefusedError(msg)
    return value


def raised(error: BaseException) -> Raised:
    """The outcome of a function that raised ``error``; frames of Atlas itself are left out of the text."""
    tail = error.__traceback__
    while tail is not None and "/atlas/scheduler/" in tail.tb_frame.f_code.co_filename:
        tail = tail.tb_next
    return Raised(shorten(_text_of(error, tail)), error_names(error))


def _text_of(error: BaseException, tail: TracebackType | None) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, tail)).rstrip()
    except Exception as broken:  # noqa: BLE001 - an error whose own __str__ raises must still be reported
        return f"{type(error).__name__} (its text cannot be made: {type(broken).__name__})"


def shorten(text: str, limit_bytes: int = MAX_ERROR_BYTES) -> str:
    """``text`` of at most ``limit_bytes`` of UTF-8, cut in the middle with a mark; what no row can hold is replaced."""
    raw = text.replace("\x00", "\ufffd").encode("utf-8", "replace")
    if len(raw) <= limit_bytes:
        return raw.decode()
    mark = f"\n… {len(raw) - limit_bytes:,} bytes cut …\n"
    keep = (limit_bytes - len(mark.encode())) // 2
    return raw[:keep].decode("utf-8", "ignore") + mark + raw[-keep:].decode("utf-8", "ignore")


class Verdict(NamedTuple):
    """What becomes of a task after an attempt.

    Attributes:
        cause: Why, when it is not SUCCESS.
        result_omitted: True if there was a result that is not kept.
        wait_s: Seconds until the next attempt, for RETRYING.
        failed: True if the attempt counts as a failure.
        crashed: True if it counts as a crash.
    """

    status: TaskStatus
    cause: Cause | None = None
    error: str | None = None
    result: str | None = None
    result_omitted: bool = False
    wait_s: float | None = None
    failed: bool = False
    crashed: bool = False


def settle(task: Task, outcome: Outcome, *, draw: float) -> Verdict:
    """Decide what becomes of ``task``; touches nothing.

    ``draw`` is a chance number in 0 to 1, for the jitter of a retry.
    """
    match outcome:
        case Returned(text=text):
            return Verdict(status=TaskStatus.SUCCESS, result=text, result_omitted=text is None)
        case Raised(error=error, names=names):
            return _failure(task, Cause.ERROR, error, draw, may_retry=task.policy.retry.covers(names))
        case Stopped():
            return _stopped(task, outcome, draw)
        case Crashed(error=error):
            return crash(task, error)
        case _:
            assert_never(outcome)


def _stopped(task: Task, outcome: Stopped, draw: float) -> Verdict:
    match outcome.reason:
        case "timeout":
            text = f"the attempt ran longer than its limit of {task.policy.timeout_s:g} s"
            if outcome.abandoned:
                text += "; it does not stop, so it was abandoned and may still be running"
            return _failure(task, Cause.TIMEOUT, text, draw, may_retry=task.policy.retry.covers(_TIMEOUT_NAMES))
        case "cancelled" | "replaced":
            return Verdict(status=TaskStatus.CANCELLED, cause=Cause(outcome.reason))
        case "shutdown":
            return release(task)
        case _:
            assert_never(outcome.reason)


_TIMEOUT_NAMES: Final = error_names(TimeoutError())


def _failure(task: Task, cause: Cause, error: str, draw: float, *, may_retry: bool) -> Verdict:
    policy: RetryPolicy = task.policy.retry
    failures = task.failures + 1
    if may_retry and policy.allows(failures) and not task.cancel_requested:
        wait_s = policy.wait_s(failures, draw=draw)
        return Verdict(status=TaskStatus.RETRYING, cause=cause, error=error, wait_s=wait_s, failed=True)
    final = TaskStatus.TIMEOUT if cause is Cause.TIMEOUT else TaskStatus.FAILED
    return Verdict(status=final, cause=cause, error=error, failed=True)


def release(task: Task) -> Verdict:
    """A stop ended the attempt: the task waits for the next start, unless it may not run twice."""
    if task.volatile or task.policy.on_crash is OnCrash.FAIL:
        return Verdict(
            status=TaskStatus.FAILED,
            cause=Cause.LOST,
            error="the scheduler stopped while it was running; it may not run again",
        )
    return Verdict(status=TaskStatus.PENDING)


def crash(task: Task, error: str) -> Verdict:
    """The owner or the worker died in the middle of the attempt: again, or FAILED at the third counted crash."""
    if task.cancel_requested:
        return Verdict(status=TaskStatus.CANCELLED, cause=Cause.CANCELLED, crashed=True)
    if task.volatile or task.policy.on_crash is OnCrash.FAIL:
        return Verdict(status=TaskStatus.FAILED, cause=Cause.LOST, error=error, crashed=True)
    if task.crashes + 1 >= MAX_COUNTED_CRASHES:
        return Verdict(status=TaskStatus.FAILED, cause=Cause.QUARANTINED, error=error, crashed=True)
    return Verdict(status=TaskStatus.PENDING, cause=Cause.CRASHED, error=error, crashed=True)
