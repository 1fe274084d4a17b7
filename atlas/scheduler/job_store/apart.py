"""A job that can be read and not be served: it is set apart, so that the others go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from atlas.scheduler.told import Told

if TYPE_CHECKING:
    from datetime import datetime

RETRY_FIRST_S: Final = 30.0
RETRY_MAX_S: Final = 600.0
_FIRST: Final = 10
"""So many retries come quickly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Why a job is set apart, since when, and when it is tried again.

    Attributes:
        error: What went wrong with it, one line.
        since: When that was noticed, aware UTC.
        tried_at: When it was tried last, aware UTC.
        retries: How often it was tried again.
        waits: What is due of it waits for the next try; False if it is stored as skips, and the job goes on.
    """

    id: str
    error: str
    since: datetime
    tried_at: datetime
    retries: int = 0
    waits: bool = True

    @property
    def retry_in_s(self) -> float:
        """Seconds from its last try to the next one, which nobody has to ask for."""
        return RETRY_FIRST_S if self.retries < _FIRST else RETRY_MAX_S

    @property
    def words(self) -> str:
        """Why it does not fire, and what to do."""
        pattern = (
            "set apart since {at}, what is due waits: {error} (edit the job or resume it, and it is tried at once)"
            if self.waits
            else "deciding on it fails since {at}, what is due is skipped: {error} (edit the job or its function)"
        )
        return Told(pattern, at=self.since.isoformat(timespec="seconds"), error=self.error)

    def tells_what(self, old: Apart | None) -> bool:
        """True if it says what ``old`` said already."""
        return old is not None and (old.error, old.waits) == (self.error, self.waits)

    def after(self, old: Apart | None) -> Apart:
        """This one, behind an earlier one of the same job."""
        if old is None:
            return self
        retries = old.retries + 1 if old.waits and self.waits else 0
        return Apart(
            id=self.id, error=self.error, since=old.since, tried_at=self.tried_at, retries=retries, waits=self.waits
        )
