"""Runs one attempt in this process: touches the world and decides nothing."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Final

from atlas.scheduler.context import TaskContext, enter_task
from atlas.scheduler.errors import TaskStopped
from atlas.scheduler.outcome import Crashed, Outcome, Stopped, not_to_be_awaited, raised, returned

if TYPE_CHECKING:
    from collections.abc import Callable

    from atlas.scheduler.tasks.live import Attempt


CANCELLED_BY_OTHERS: Final = Crashed("the coroutine was cancelled, not by Atlas: its loop closes, or code did it")
"""Counted like a crash: it may happen again each time, and then the task must end."""


def run_attempt(attempt: Attempt) -> Outcome:
    """Call a plain function in this thread, in a new and empty context; nothing it raises gets out."""
    live = attempt.live
    if attempt.failure is not None:
        return attempt.failure
    assert live.function is not None  # else the attempt would have a failure
    try:
        value = Context().run(_call, attempt.context, live.function.call, *live.args, **live.kwargs)
        not_to_be_awaited(value, live.function.name)
    except TaskStopped:
        return Stopped(live.stop or "cancelled")
    except BaseException as error:  # noqa: BLE001 - SystemExit included: a function must not end the slot
        return raised(error)
    return returned(value)


def _call(context: TaskContext, call: Callable[..., object], *args: object, **kwargs: object) -> object:
    enter_task(context)
    return call(*args, **kwargs)


async def await_attempt(attempt: Attempt) -> Outcome:
    """Await a coroutine function; runs as an asyncio task of its own, made in an empty context."""
    live = attempt.live
    if attempt.failure is not None:
        return attempt.failure
    assert live.function is not None  # see run_attempt
    enter_task(attempt.context)
    try:
        value = await live.function.call(*live.args, **live.kwargs)
    except TaskStopped:
        return Stopped(live.stop or "cancelled")
    except asyncio.CancelledError as error:
        if live.stop is not None:
            return Stopped(live.stop)
        this = asyncio.current_task()
        return CANCELLED_BY_OTHERS if this is not None and this.cancelling() else raised(error)
    except BaseException as error:  # noqa: BLE001 - see run_attempt
        return raised(error)
    return returned(value)
