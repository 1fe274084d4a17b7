"""What a database's error means: it refuses what it was given, two transactions met, or it is unwell."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InvalidRequestError, ProgrammingError

from atlas.scheduler.errors import JobRefusedError, StoreError
from atlas.scheduler.outcome import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LETTERS: Final = 300

_CONFLICTS: Final = frozenset({"40001", "40P01"})
_ABOUT_VALUES: Final = frozenset({"22", "23", "42", "54", "P0"})
"""Classes of SQLSTATE: bad data, broken constraints, no such column, beyond a limit, raised by a trigger."""


def is_about_values(error: DBAPIError) -> bool:
    """True if the database refused what it was given, and would again; False if it is the database that is unwell."""
    if error.connection_invalidated:
        return False
    return isinstance(error, IntegrityError | DataError | ProgrammingError) or _state(error)[:2] in _ABOUT_VALUES


def is_conflict(error: BaseException) -> bool:
    """True for a deadlock or a failed serialization: the database is well, and would take the same once more."""
    return isinstance(error, DBAPIError) and _state(error) in _CONFLICTS


def is_jobs_own(error: Exception) -> bool:
    """True if an error can be the fault of what a job is made of; False if it tells of the database or the process."""
    if isinstance(error, DBAPIError):
        return is_about_values(error)
    return not isinstance(error, InvalidRequestError | StoreError | MemoryError)


@contextmanager
def naming_the_job(job_id: str | None) -> Iterator[None]:
    """Say of a row that the database refuses whose it is, None for nobody's.

    Raises:
        JobRefusedError: A row of the job was refused.
    """
    try:
        yield
    except DBAPIError as error:
        if job_id is None or not is_about_values(error):
            raise
        raise JobRefusedError(job_id, cause_of(error)) from error


def cause_of(error: BaseException) -> str:
    """What an error says, in one line: of a statement the database refused, without the statement."""
    cause = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    said = shorten(f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__)
    return said if len(said) <= MAX_LETTERS else f"{said[: MAX_LETTERS - 1]}…"


def _state(error: DBAPIError) -> str:
    """The SQLSTATE that PostgreSQL gives, empty for SQLite."""
    cause: Any = error.orig
    return getattr(cause, "sqlstate", None) or ""
