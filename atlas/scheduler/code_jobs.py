"""Jobs that code adds: what a call of `CronManager.add_job` means, and its way into the row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from loguru import logger

from atlas.scheduler.arguments import encode_arguments
from atlas.scheduler.definition import JobDefinition, JobSource
from atlas.scheduler.definition_text import seal_of, text_of
from atlas.scheduler.errors import ArgumentsError, JobOwnershipError
from atlas.scheduler.events import JobEventKind
from atlas.scheduler.job_options import JobOptions, define
from atlas.scheduler.job_state import Binding
from atlas.scheduler.job_store.records import JobChange, make_record
from atlas.scheduler.store.audit import Action, write_audit
from atlas.scheduler.task import checked_id
from atlas.scheduler.tasks.submission import executor_for, kwargs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.running_cron import RunningCron


def _arguments(options: JobOptions) -> tuple[list[Any], dict[str, Any]]:
    args: object = options.get("args") or ()  # a caller without type checks may give anything
    if not isinstance(args, Sequence) or isinstance(args, str | bytes):
        raise ArgumentsError(f"args {args!r:.80} is not a list of positional arguments; write [{args!r:.80}]")
    return list(args), kwargs_of(options.get("kwargs") or None)


@dataclass(frozen=True, slots=True)
class CodeJob:
    """A job as code asked for it, to be put among the jobs now, or each time this process takes the lead."""

    definition: JobDefinition
    binding: Binding | None
    """Its function and arguments, where the row cannot name them: a volatile job's."""
    by: str

    @classmethod
    def of(
        cls,
        name: str,
        cron: str | Sequence[str] | None,
        func: Callable[..., Any] | str | None,
        description: str,
        options: JobOptions,
        *,
        queue: TaskQueue,
        timezone: str,
        by: str,
        noted: set[str],
    ) -> Self:
        """What the arguments of `CronManager.add_job` mean for the functions and policies of ``queue``.

        ``noted`` are the functions whose jobs were said to be volatile already.

        Raises:
            AtlasError: They cannot be used, see there.
        """
        checked_id("job name", name)
        func = name if func is None else func
        args, kwargs = _arguments(options)
        function, problem = queue.registry.meant_by(func)
        arguments: str | None = None
        try:
            arguments = encode_arguments(args, kwargs)
        except ArgumentsError as error:
            if isinstance(func, str):
                raise
            problem = problem or str(error)
        refusal = function.refusal(args, kwargs)
        if refusal is not None:
            raise ArgumentsError(f"job {name}: {refusal}")
        executor_for(options.get("executor"), function, volatile_arguments=arguments is None)
        if problem is not None and function.name not in noted:
            noted.add(function.name)
            logger.bind(job_id=name, function=function.name).info("the job is volatile: {}", problem)
        definition = define(
            name,
            cron,
            function.name,
            description,
            options,
            defaults=queue.defaults,
            timezone=timezone,
            arguments=None if problem else arguments,
        )
        return cls(definition, Binding(function, args, kwargs) if problem else None, by)

    def put(self, running: RunningCron) -> None:
        """Add the job, or update the one of this name; a row that says the same already is not written.

        Raises:
            JobOwnershipError: The job of this name belongs to the config file.
        """
        name, old = self.definition.id, running.jobs.record(self.definition.id)
        if old is not None and old.source is JobSource.FILE:
            raise JobOwnershipError(name, "it belongs to the config file; change it there")
        now = running.serving.store.clock.now()
        record = make_record(self.definition, now=now, old=old)
        before = running.states.bind(name, self.binding)
        text = text_of(self.definition)
        if old is not None and (old.digest == seal_of(text) or old.text == text):
            return
        change = JobChange(record, JobEventKind.CHANGED if old else JobEventKind.ADDED)
        action, previous = (Action.ADD, None) if old is None else (Action.CHANGE, json.loads(old.text))

        def told(connection: Connection) -> None:
            after = json.loads(record.text)
            write_audit(connection, action, name, by=self.by, at=now, before=previous, after=after)

        try:
            running.jobs.apply([change], serve=running.bridge.submit_job, also=told)
        except BaseException:
            running.states.bind(name, before)
            raise
