"""The face of a queue for code without an event loop, and what both faces say of a final task."""

# ruff: noqa: SLF001 - the two faces of a queue share one state

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from atlas.scheduler.awaited import refuse_on_loop
from atlas.scheduler.errors import (
    AtlasError,
    ResultNotReadyError,
    ResultOmittedError,
    TaskCancelledError,
    TaskFailedError,
    TaskTimeoutError,
)
from atlas.scheduler.store.task_rows import fetch_known
from atlas.scheduler.store.tickets import Ticket
from atlas.scheduler.task import TaskStatus
from atlas.scheduler.tasks.submission import SubmitOptions, submit_audit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Unpack

    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.serving import Serving
    from atlas.scheduler.standby import Standby
    from atlas.scheduler.task import Task


class SyncTaskQueue:
    """`TaskQueue` for code without an event loop; coroutine functions run on a private loop.

    Every method does what its namesake does; those that are awaited there raise `RuntimeError` on a running loop here.
    """

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    def start(self) -> Self:
        """`TaskQueue.start`."""
        refuse_on_loop()
        self._queue._start(None)
        return self

    def stop(self, *, drain: bool = True, timeout: float = 30.0) -> None:
        """`TaskQueue.stop`."""
        refuse_on_loop()
        self._queue._stop(drain=drain, timeout_s=timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """`stop`; an error in the block stops running tasks at once."""
        self.stop(drain=kind is None)

    def submit(self, func: Callable[..., Any] | str, *args: Any, **options: Unpack[SubmitOptions]) -> str:
        """`TaskQueue.submit`."""
        refuse_on_loop()
        role, lives = self._queue.role, self._queue._prepare(func, [args], options)
        role.submit(lives, unique="task_id" in options, loop=None, also=submit_audit(lives, options)).wait()
        return lives[0].task.id

    def submit_many(
        self, func: Callable[..., Any] | str, arguments: Iterable[Sequence[Any]], **options: Unpack[SubmitOptions]
    ) -> list[str]:
        """`TaskQueue.submit_many`."""
        refuse_on_loop()
        role, lives = self._queue.role, self._queue._prepare(func, arguments, options, many=True)
        if lives:
            role.submit(lives, unique=False, loop=None, also=submit_audit(lives, options)).wait()
        return [live.task.id for live in lives]

    def get_task_result(self, task_id: str, *, timeout: float | None = None) -> Any:
        """`TaskQueue.get_task_result`."""
        refuse_on_loop()
        role = self._queue.role
        ticket = Ticket()
        try:
            task = role.find(task_id, ticket) or ticket.wait(timeout)
        except AtlasError:
            raise
        except TimeoutError as error:
            raise ResultNotReadyError(task_id, f"not final after {timeout:g} s") from error
        finally:
            if self._queue._role is not None:
                self._queue._role.unwatch(task_id, ticket)
        return result_of(role, task)

    def cancel_task(self, task_id: str, *, by: str = "") -> bool:
        """`TaskQueue.cancel_task`."""
        return self._queue.cancel_task(task_id, by=by)

    def retry_task(self, task_id: str, *, by: str = "") -> str:
        """`TaskQueue.retry_task`."""
        refuse_on_loop()
        role = self._queue.role
        found = role.store.read(lambda connection: fetch_known(connection, task_id))
        task, ticket = role.retry(found, by=by, loop=None)
        ticket.wait()
        return task.id

    def get_queue_status(self) -> dict[str, Any]:
        """`TaskQueue.get_queue_status`."""
        return self._queue.get_queue_status()


def result_of(role: Serving | Standby, task: Task) -> Any:
    """The result of a final task, or the error that tells why there is none."""
    match task.status:
        case TaskStatus.SUCCESS:
            found, value = role.live_result(task.id)
            if found:
                return value
            if task.result_omitted:
                raise ResultOmittedError(task.id, "SUCCESS, but its result was not kept: not JSON, or over 64 kB")
            return task.value
        case TaskStatus.CANCELLED:
            raise TaskCancelledError(task.id, f"was cancelled ({task.cause})")
        case TaskStatus.TIMEOUT:
            raise TaskTimeoutError(task.id, task.error or "ran longer than its limit")
        case TaskStatus.FAILED:
            raise TaskFailedError(task.id, task.error or "", cause=str(task.cause))
        case _:
            raise ResultNotReadyError(task.id, f"is {task.status}, and this queue does not serve it")
