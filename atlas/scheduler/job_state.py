"""What is true of a job beside its definition: its pause, and the function it is bound to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import delete, select

from atlas.scheduler.as_json import fields_as_json
from atlas.scheduler.durations import LONGEST_S
from atlas.scheduler.errors import ArgumentsError, FunctionError
from atlas.scheduler.message import Message, message_of
from atlas.scheduler.outcome import shorten
from atlas.scheduler.store.audit import Action, read_audit, write_audits
from atlas.scheduler.store.statements import Statement
from atlas.scheduler.store.tables import job_state
from atlas.scheduler.task import ExecutorKind
from atlas.scheduler.tasks.live import Live
from atlas.scheduler.tasks.submission import executor_for

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.definition_text import KnownDefinition
    from atlas.scheduler.job_store.apart import Apart
    from atlas.scheduler.job_store.passes import Places
    from atlas.scheduler.registry import Function, Registry
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.task import Task


FEW: Final = 500
"""Jobs that one statement names; to find more, all pauses are read."""
_NEVER_S: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""An end that no calendar holds; versions that stored one could not read it back."""
MOST_RESUMED: Final = 10_000
"""Resumes that are looked through for jobs that are set apart: as many as one call ends."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A stored override that wins over the file.

    One that was ended by hand begins and ends at that moment: by nobody's clock does it hold, and what was due before
    and not looked at is its own.
    """

    paused_at: datetime
    until: datetime | None
    """When it ends by itself, None for never."""
    by: str
    reason: str

    @classmethod
    def from_now(cls, now: datetime, until: datetime | None, *, by: str, reason: str) -> Self:
        """A pause that begins at ``now``.

        Raises:
            ArgumentsError: ``until`` is not in the future, or more than a hundred years ahead; a text is none.
        """
        texts: dict[str, object] = {"reason": reason, "by": by}  # a caller without type checks may give anything
        end: object = until
        for name, text in texts.items():
            if not isinstance(text, str):
                raise ArgumentsError(f"{name} {text!r:.80} is no text")
        if not isinstance(end, datetime | None):
            raise ArgumentsError(f"until {end!r:.80} is no instant: give a datetime with its zone")
        if until is not None and (until.tzinfo is None or until <= now):
            raise ArgumentsError(Message("until {at} must be an instant in the future, with its zone", at=until))
        if until is not None and (until - now).total_seconds() > LONGEST_S:
            msg = Message("until {at} is over a hundred years ahead; leave it out for a pause without end", at=until)
            raise ArgumentsError(msg)
        return cls(now, until, by, reason)

    def holds(self, now: datetime) -> bool:
        """True if it has not ended, by itself or by hand."""
        return self.until is None or (self.paused_at < self.until and now < self.until)

    def ended(self, at: datetime) -> Self:
        """The pause, ended by hand."""
        return replace(self, paused_at=at, until=at)

    def covers(self, due: datetime) -> bool:
        """True for what was due before its end."""
        return self.until is None or due < self.until

    def to_json(self) -> dict[str, Any]:
        """The pause as JSON values."""
        return fields_as_json(self)


@dataclass(frozen=True, slots=True)
class Binding:
    """A function that lives in this process only, with its arguments."""

    function: Function
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


class JobStates:
    """Pauses and bindings of all jobs.

    Attributes:
        version: A number that changes with every binding and pause.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store, self._registry = store, registry
        self._lock = threading.Lock()
        self._pauses: dict[str, Pause] = {}
        self._bindings: dict[str, Binding] = {}
        self.version = 0

    # --- pauses -------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take the pauses from disk anew: at start, and after another process wrote."""
        pauses = self._store.read(read_pauses)
        with self._lock:
            self.version += pauses != self._pauses
            self._pauses = pauses

    def pause_of(self, job_id: str) -> Pause | None:
        """The pause in force, or None."""
        pause = self._pauses.get(job_id)
        return pause if pause is not None and pause.holds(self._store.clock.now()) else None

    def ended_pause_of(self, job_id: str) -> Pause | None:
        """The last pause, if it has ended, or None: it covers what was due in its time and nobody looked at then.

        One that was ended by hand at a time yet to come says nothing of what is due now: the clock was set back.
        """
        pause = self._pauses.get(job_id)
        is_over = pause is not None and pause.until is not None and pause.until <= self._store.clock.now()
        return pause if is_over else None

    def paused(self) -> list[str]:
        """Ids with a pause in force."""
        with self._lock:
            pauses = list(self._pauses)
        return [job_id for job_id in pauses if self.pause_of(job_id) is not None]

    def pause(self, job_ids: Sequence[str], pause: Pause) -> None:
        """Store a pause of each of these jobs, in one commit; it replaces an earlier one. The audit keeps both."""
        self._store.write(lambda connection: pause_jobs(connection, job_ids, pause))
        with self._lock:
            self._pauses.update(dict.fromkeys(job_ids, pause))
            self.version += 1

    def resume(self, job_ids: Sequence[str], *, by: str, apart: Container[str] = ()) -> list[str]:
        """See `resume_jobs`."""
        now = self._store.clock.now()
        had = self._store.write(lambda connection: resume_jobs(connection, job_ids, by=by, at=now, apart=apart))
        with self._lock:
            held = [(job_id, self._pauses[job_id]) for job_id in had if job_id in self._pauses]
            self._pauses.update({job_id: pause.ended(now) for job_id, pause in held if pause.holds(now)})
            self.version += 1
        return had

    def forget_pauses(self, job_ids: Iterable[str]) -> None:
        """Their rows are gone."""
        with self._lock:
            for job_id in job_ids:
                self._pauses.pop(job_id, None)
            self.version += 1

    def keep(self, connection: Connection) -> str:
        """Write every pause into a database that was lost; says how many."""
        with self._lock:
            pauses = dict(self._pauses)
        write_pauses(connection, pauses)
        return Message("1 pause") if len(pauses) == 1 else Message("{n} pauses", n=len(pauses))

    # --- bindings -----------------------------------------------------------------------------------------------------

    def bind(self, job_id: str, binding: Binding | None) -> Binding | None:
        """Bind a volatile job to its function, or forget it with None; returns what it was bound to before."""
        with self._lock:
            before = self._bindings.pop(job_id, None)
            if binding is not None:
                self._bindings[job_id] = binding
            self.version += 1
            return before

    def function_of(self, definition: KnownDefinition) -> Function:
        """The function a job runs.

        Raises:
            FunctionError: There is none now: the job is UNBOUND.
        """
        binding = self._bindings.get(definition.id)
        if binding is not None:
            return binding.function
        return self._registry.find(definition.function)

    def place_of(self, definition: KnownDefinition, known: Places | None = None) -> ExecutorKind | str:
        """Where the job's tasks run, or why they cannot: the job is UNBOUND. ``known`` is what was found before."""
        if definition.id not in self._bindings:
            if definition.volatile:
                return Message(
                    "its function {function} lived in another process; add_job({job}, …) binds it",
                    function=repr(definition.function),
                    job=repr(definition.id),
                )
            if known is not None:
                key = definition.function, definition.policies.executor
                found = known.get(key)
                if found is None:
                    found = known[key] = self.place_of(definition)
                return found
        try:
            return executor_for(definition.policies.executor, self.function_of(definition))
        except FunctionError as error:
            return message_of(error)

    def unbound(self, definition: KnownDefinition) -> str | None:
        """Why the job has no function, or None if it has one."""
        found = self.place_of(definition)
        return None if isinstance(found, ExecutorKind) else found

    def unbound_among(self, definitions: Iterable[KnownDefinition]) -> dict[str, str]:
        """The jobs without a function, and why."""
        known: Places = {}
        places = ((definition.id, self.place_of(definition, known)) for definition in definitions)
        return {job_id: found for job_id, found in places if not isinstance(found, ExecutorKind)}

    def live(self, task: Task) -> Live:
        """A task of a job, with its function if that lives in this process only."""
        binding = self._bindings.get(task.job_id or "")
        return Live(task) if binding is None else Live(task, binding.function, binding.args, dict(binding.kwargs))


def read_pauses(connection: Connection, *job_ids: str) -> dict[str, Pause]:
    """Every stored pause by job, or those of some jobs."""
    statement = select(job_state).where(job_state.c.paused_at.is_not(None))
    if 0 < len(job_ids) <= FEW:
        statement = statement.where(job_state.c.job_id.in_(job_ids))
    return {
        row.job_id: Pause(datetime.fromtimestamp(row.paused_at, UTC), _end(row.paused_until), row.paused_by, row.reason)
        for row in connection.execute(statement)
    }


def _end(until: float | None) -> datetime | None:
    return None if until is None or until >= _NEVER_S else datetime.fromtimestamp(until, UTC)


def pause_jobs(connection: Connection, job_ids: Sequence[str], pause: Pause) -> None:
    """Store a pause of each job, and in the audit who paused it; it replaces an earlier one."""
    before, after = _values(_held(connection, job_ids, pause.paused_at)), pause.to_json()
    write_pauses(connection, dict.fromkeys(job_ids, pause))
    changes = [(job_id, before.get(job_id), after) for job_id in job_ids]
    write_audits(connection, Action.PAUSE, changes, by=pause.by, at=pause.paused_at)


def resume_jobs(
    connection: Connection, job_ids: Sequence[str], *, by: str, at: datetime, apart: Container[str] = ()
) -> list[str]:
    """End the pauses of these jobs, and write to the audit who did; returns those that were paused.

    Their rows stay, with their end: what was due before it, and no scheduler looked at, is still the pause's.
    The line of the audit is what the scheduler hears of, for a job that it has set apart (``apart``): it counts too.
    """
    held = _held(connection, job_ids, at)
    write_pauses(connection, {job_id: pause.ended(at) for job_id, pause in held.items()})
    found, before = [job_id for job_id in job_ids if job_id in held or job_id in apart], _values(held)
    write_audits(connection, Action.RESUME, [(job_id, before.get(job_id), None) for job_id in found], by=by, at=at)
    return found


def resumed_since(connection: Connection, apart: Mapping[str, Apart]) -> list[str]:
    """Those of these jobs that somebody has resumed since they were tried last."""
    since = min(one.tried_at for one in apart.values())
    return [
        entry.subject
        for entry in read_audit(connection, action=Action.RESUME, since=since, limit=MOST_RESUMED)
        if entry.subject in apart and entry.at > apart[entry.subject].tried_at
    ]


def _held(connection: Connection, job_ids: Sequence[str], at: datetime) -> dict[str, Pause]:
    """Those of these jobs that are paused, and how."""
    pauses = read_pauses(connection, *job_ids) if job_ids else {}
    return {job_id: pauses[job_id] for job_id in job_ids if job_id in pauses and pauses[job_id].holds(at)}


def _values(pauses: Mapping[str, Pause]) -> dict[str, dict[str, Any]]:
    values = {pause: pause.to_json() for pause in set(pauses.values())}  # of jobs that were paused together it is one
    return {job_id: values[pause] for job_id, pause in pauses.items()}


def _upsert(database: Any) -> Any:
    statement = database.insert(job_state)
    return statement.on_conflict_do_update(
        index_elements=["job_id"], set_={name: statement.excluded[name] for name in _PAUSE if name != "job_id"}
    )


_PAUSE: Final = ("job_id", "paused_at", "paused_until", "paused_by", "reason")
_WRITE_PAUSE: Final = Statement(_upsert, _PAUSE)


def write_pauses(connection: Connection, pauses: Mapping[str, Pause]) -> None:
    """Store pauses by job; they replace earlier ones."""
    rows = [
        (
            job_id,
            pause.paused_at.timestamp(),
            None if pause.until is None else pause.until.timestamp(),
            shorten(pause.by),
            shorten(pause.reason),
        )
        for job_id, pause in pauses.items()
    ]
    _WRITE_PAUSE.run(connection, rows)


def delete_pauses(connection: Connection, job_ids: Sequence[str]) -> None:
    """Remove the pauses of these jobs, as many as one statement takes."""
    connection.execute(delete(job_state).where(job_state.c.job_id.in_(job_ids)))
