"""Runs one attempt in this process: touches the world and decides nothing."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from typing import TYPE_CHECKING

from atlas.scheduler.context import TaskContext, enter_task
from atlas.scheduler.errors import FunctionRefusedError, TaskStopped
from atlas.scheduler.outcome import Outcome, Stopped, raised, returned

if TYPE_CHECKING:
    from collections.abc import Callable

    from atlas.scheduler.lifecycle import Attempt


def run_attempt(attempt: Attempt) -> Outcome:
    """Call a plain function in this thread, in a context of its own; nothing it raises gets out."""
    live = attempt.live
    if attempt.failure is not None:
        return attempt.failure
    if live.function is None or live.context is None:
        msg = f"attempt {attempt.number} of task {live.task.id} has no function"
        raise AssertionError(msg)
    try:
        value = contextvars.copy_context().run(_call, live.context, live.function.call, *live.args, **live.kwargs)
        if inspect.iscoroutine(value):
            value.close()
            msg = f"{live.function.name} is a plain function but returned a coroutine; write it as 'async def'"
            raise FunctionRefusedError(msg)  # noqa: TRY301 - reported like every error of the function
    except TaskStopped:
        return Stopped(live.stop or "cancelled")
    except BaseException as error:  # noqa: BLE001 - SystemExit included: a function must not end the slot
        return raised(error)
    return returned(value)


def _call(context: TaskContext, call: Callable[..., object], *args: object, **kwargs: object) -> object:
    enter_task(context)
    return call(*args, **kwargs)


async def await_attempt(attempt: Attempt) -> Outcome:
    """Await a coroutine function; runs as an asyncio task of its own, so the context is its own as well."""
    live = attempt.live
    if attempt.failure is not None:
        return attempt.failure
    if live.function is None or live.context is None:
        msg = f"attempt {attempt.number} of task {live.task.id} has no function"
        raise AssertionError(msg)
    enter_task(live.context)
    try:
        value = await live.function.call(*live.args, **live.kwargs)
    except TaskStopped:
        return Stopped(live.stop or "cancelled")
    except asyncio.CancelledError as error:
        if live.stop is not None:
            return Stopped(live.stop)
        this = asyncio.current_task()
        if this is not None and this.cancelling():
            return Stopped("shutdown")  # not ours: the loop is being closed under us
        return raised(error)
    except BaseException as error:  # noqa: BLE001 - see run_attempt
        return raised(error)
    return returned(value)
