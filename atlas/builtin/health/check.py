"""One check, and what the running scheduler is asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from atlas.scheduler.job_view import Job
    from atlas.scheduler.loop_watch import Trouble
Status = Literal["ok", "degraded", "failing"]
RANK: Final[tuple[Status, ...]] = ("ok", "degraded", "failing")


class HealthSource(Protocol):
    """What the running scheduler says of itself."""

    def get_queue_status(self) -> Mapping[str, Any]:
        """See `TaskQueue.get_queue_status`."""

    def last_tick_s(self) -> float | None:
        """Seconds since the clock last looked for due jobs; None where no clock runs."""

    def troubles(self) -> Sequence[Trouble]:
        """What befell the clock lately: restarts of its loop, steps of the wall clock, sleep."""

    def config_error(self) -> str | None:
        """Why the config file is refused now; None while it is in force."""

    def config_drift(self) -> str | None:
        """With ``reload: manual``, in words that the file differs from what is in force; None while it does not."""

    def each_job(self) -> Iterable[Job]:
        """Every job as it stands, one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one look found."""

    status: Status = "ok"
    detail: str
    remedy: str = ""
    """What to do, "" while nothing is to be done."""
