"""Two transactions that meet: the one that gives way is repeated at once, and is no outage."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from atlas.scheduler.errors import LeaseLostError, StoreUnavailableError
from atlas.scheduler.events import SchedulerEvent
from atlas.scheduler.job_state import Pause, read_pauses, write_pauses
from atlas.scheduler.store import writer
from atlas.scheduler.store.refusals import is_about_values, is_conflict, is_jobs_own
from atlas.scheduler.store.store import Store, open_store
from tests.queue_bench import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


class SaidError(Exception):
    """What a driver raises: an SQLSTATE and words."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__(f"SQLSTATE {sqlstate}")
        self.sqlstate = sqlstate


@pytest.fixture
def log() -> Iterator[list[tuple[str, str]]]:
    """Level and message of what is logged from warnings on."""
    lines: list[tuple[str, str]] = []
    number = logger.add(
        lambda message: lines.append((message.record["level"].name, message.record["message"])), level="WARNING"
    )
    yield lines
    logger.remove(number)


def heard(store: Store) -> list[str]:
    """What is told of the scheduler as a whole from now on."""
    kinds: list[str] = []
    store.events.subscribe(lambda event: kinds.append(str(event.kind)) if isinstance(event, SchedulerEvent) else None)
    return kinds


def pause(connection: Connection, job_id: str, reason: str) -> None:
    write_pauses(connection, {job_id: Pause(NOW, None, "test", reason)})


def test_a_deadlock_with_a_client_is_repeated_and_told_as_a_warning_only(
    postgres_url: str, log: list[tuple[str, str]]
) -> None:
    store = open_store(postgres_url)
    for job_id in ("a", "b"):
        store.write(lambda connection, job_id=job_id: pause(connection, job_id, "old"))  # type: ignore[misc]
    kinds, runs = heard(store), [0]
    a_is_held, b_is_held = threading.Event(), threading.Event()

    def client() -> None:
        engine = create_engine(postgres_url)
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL deadlock_timeout = '1min'"))  # the scheduler is to give way
            pause(connection, "b", "client")
            b_is_held.set()
            assert a_is_held.wait(LIMIT_S)
            pause(connection, "a", "client")
        engine.dispose()

    def scheduler(connection: Connection) -> None:
        runs[0] += 1
        if runs[0] == 1:
            connection.execute(text("SET LOCAL deadlock_timeout = '1ms'"))
            assert b_is_held.wait(LIMIT_S)
            pause(connection, "a", "scheduler")
            a_is_held.set()
            waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not connection.execute(waits).scalar():
                pass
        pause(connection, "a", "scheduler")
        pause(connection, "b", "scheduler")

    other = threading.Thread(target=client)
    other.start()
    store.write(scheduler)
    other.join(LIMIT_S)
    assert runs == [2]
    assert {job_id: one.reason for job_id, one in store.read(read_pauses).items()} == dict.fromkeys("ab", "scheduler")
    assert store.writer.may_start()
    assert (store.writer.fault, store.writer.failing_s) == (None, 0.0)
    assert store.events.drain()
    assert kinds == []
    assert log == [("WARNING", "a commit gave way to another transaction; it is repeated at once")]
    store.close()


def test_every_change_of_a_batch_that_gave_way_is_written_once(store: Store, log: list[tuple[str, str]]) -> None:
    kinds, runs = heard(store), [0]

    def gives_way(connection: Connection) -> int:
        pause(connection, f"job{runs[0]}", "why")
        runs[0] += 1
        if runs[0] <= 3:
            raise OperationalError("UPDATE", {}, SaidError("40001"))
        return runs[0]

    assert store.write(gives_way) == 4
    assert list(store.read(read_pauses)) == ["job3"]
    assert store.writer.may_start()
    assert kinds == []
    assert [level for level, _message in log] == ["WARNING"] * 3


def test_a_conflict_that_does_not_end_is_an_outage_like_any_other(
    store: Store, log: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_FIRST_S", 0.01)
    kinds = heard(store)

    def gives_way(_connection: Connection) -> None:
        raise OperationalError("UPDATE", {}, SaidError("40P01"))

    with pytest.raises(StoreUnavailableError):
        store.write(gives_way, wait_s=0.05)
    store.write(lambda _connection: None)
    assert store.events.drain()
    assert kinds == ["fault", "recovered"]
    assert [level for level, _message in log].count("WARNING") == writer.MAX_CONFLICTS


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (OperationalError("x", {}, SaidError("40P01")), "conflict"),
        (OperationalError("x", {}, SaidError("40001")), "conflict"),
        (OperationalError("x", {}, SaidError("54000")), "values"),
        (InterfaceError("x", {}, SaidError("P0001")), "values"),
        (IntegrityError("x", {}, SaidError(None)), "values"),
        (DataError("x", {}, SaidError(None)), "values"),
        (ProgrammingError("x", {}, SaidError(None)), "values"),
        (IntegrityError("x", {}, SaidError(None), connection_invalidated=True), "unwell"),
        (OperationalError("x", {}, SaidError("57P01")), "unwell"),
        (OperationalError("x", {}, SaidError(None)), "unwell"),
    ],
    ids=str,
)
def test_what_the_error_of_a_database_means(error: Any, means: str) -> None:
    assert (is_conflict(error), is_about_values(error)) == (means == "conflict", means == "values")
    assert is_jobs_own(error) == (means == "values")


@pytest.mark.parametrize(
    ("error", "own"),
    [
        (ValueError(), True),
        (OSError(), True),
        (OverflowError(), True),
        (MemoryError(), False),
        (LeaseLostError("another process leads"), False),
        (StoreUnavailableError("away", waited_s=1.0), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_errors_can_be_a_job_s_own(error: Exception, own: bool) -> None:
    assert is_jobs_own(error) is own
