"""Jobs as rows of APScheduler's table: the definition as JSON, and when it starts next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, select

from atlas.scheduler.definition_text import definition_of, digest_of, row_of, seal_of, shared_lines, unread
from atlas.scheduler.job_store.records import JobRecord, Parked
from atlas.scheduler.schedule import stable_offset
from atlas.scheduler.store.statements import Statement
from atlas.scheduler.store.tables import jobs
from atlas.scheduler.triggers import trigger_for, trigger_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.definition_text import SharedLines
    from atlas.scheduler.triggers import AtlasTrigger


class JobRows(NamedTuple):
    """Every job of a store."""

    records: dict[str, JobRecord]
    parked: dict[str, Parked]


AT_ONCE: Final = 256
"""Rows whose texts are in memory together."""
_ALL: Final = select(jobs.c.id, jobs.c.job_state, jobs.c.next_run_time).order_by(jobs.c.id)
_EVERY: Final = Statement(lambda _database: _ALL)
_ONE: Final = _ALL.where(jobs.c.id == bindparam("id"))


def read_jobs(connection: Connection) -> JobRows:
    """All of them."""
    found, shared = JobRows({}, {}), _Shared()
    # one by one: together the texts are several times what is kept of them
    for job_id, raw, next_run_time in _EVERY.each(connection):
        one = _record(job_id, raw, next_run_time, shared)
        if isinstance(one, Parked):
            found.parked[one.id] = one
        else:
            found.records[one.id] = one
    return found


def read_job(connection: Connection, job_id: str) -> JobRecord | Parked | None:
    """One of them, None if there is no such job."""
    row = connection.execute(_ONE, {"id": job_id}).first()
    return None if row is None else _record(*row, _Shared())


class _Shared(dict[bytes, "tuple[SharedLines, AtlasTrigger] | None"]):
    """What many rows of one reading share, by its lines, and the trigger of a job without an offset.

    None for lines that are not plainly those of a definition.
    """

    def __missing__(self, lines: bytes) -> tuple[SharedLines, AtlasTrigger] | None:
        try:
            shared = shared_lines(lines)
            self[lines] = shared, trigger_for(shared.schedule)
        except ValueError:
            self[lines] = None
        return self[lines]


def _record(job_id: str, raw: bytes, next_run_time: float | None, shared: _Shared) -> JobRecord | Parked:
    try:
        return restore(job_id, bytes(raw), next_run_time, shared)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one row is that row's alone
        return Parked(job_id, f"{type(error).__name__}: {error}")


def restore(job_id: str, raw: bytes, next_run_time: float | None, shared: _Shared | None = None) -> JobRecord:
    """The record a row holds; ``shared`` is what was read for other rows.

    Raises:
        ValueError: The row is no definition.
    """
    next_run = None if next_run_time is None else datetime.fromtimestamp(next_run_time, UTC)
    line, _, lines = raw.partition(b"\n")
    known = (_Shared() if shared is None else shared)[lines]
    if known is not None and (found := unread(line, job_id, known[0])) is not None:
        trigger = known[1]
        if trigger.schedule.spread_s:
            trigger = trigger_for(trigger.schedule, stable_offset(job_id, trigger.schedule.spread_s))
        return JobRecord(*found, trigger, next_run)
    definition = definition_of(raw)
    if definition.id != job_id:
        raise ValueError(f"the row's definition is of job {definition.id!r}")
    return JobRecord(definition, digest_of(raw), trigger_of(definition), next_run)


def _upsert(database: Any) -> Any:
    statement = database.insert(jobs)
    return statement.on_conflict_do_update(
        index_elements=["id"],
        set_={"next_run_time": statement.excluded.next_run_time, "job_state": statement.excluded.job_state},
    )


def _row(record: JobRecord) -> dict[str, Any]:
    text = record.text
    record.digest = seal_of(text)
    next_run = None if record.next_run is None else record.next_run.timestamp()
    return {"id": record.id, "next_run_time": next_run, "job_state": row_of(text, record.digest)}


_UPSERT: Final = Statement(_upsert)
_DELETE: Final = Statement(lambda _database: delete(jobs).where(jobs.c.id == bindparam("b_id")))


def write_records(connection: Connection, records: Sequence[JobRecord], removed: Sequence[str] = ()) -> None:
    """Write the rows of ``records``, new or not, and delete those of ``removed``; the records get their digests."""
    for start in range(0, len(records), AT_ONCE):
        _UPSERT.run(connection, [_row(record) for record in records[start : start + AT_ONCE]])
    _DELETE.run(connection, [{"b_id": job_id} for job_id in removed])
