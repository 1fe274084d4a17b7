"""How the config file stands: in force, refused, or edited and not applied; who must know hears when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from loguru import logger

from atlas.scheduler.events import SchedulerEvent, SchedulerEventKind
from atlas.scheduler.message import Message, message_of, parts_of

if TYPE_CHECKING:
    from pathlib import Path

    from atlas.scheduler.cron_manager import SyncCronManager
    from atlas.scheduler.errors import ConfigError, Problem
    from atlas.scheduler.reconcile.checked import Checked

MAX_TOLD: Final = 4000
"""Characters of an error in the figures that other processes see."""


class Standing:
    """What is true of one config file now; the lease of ``cron``, which is open, tells other processes.

    Attributes:
        error: Why the file is refused now; None while it is in force.
        drift: With ``reload: manual``, in words that the file differs from what is in force; None while it does not.
        mode: What the text in force says about reloading.
        warnings: What is probably not meant in the text in force.
    """

    def __init__(self, cron: SyncCronManager, path: Path) -> None:
        self._cron, self._path = cron, path
        self.error: ConfigError | None = None
        self.drift: str | None = None
        self.mode: Literal["auto", "manual"] = "auto"
        self.warnings: tuple[Problem, ...] = ()
        self._told: tuple[str | None, str | None] = (None, None)
        self._stood: int | None = None
        cron.config_file = path
        cron.more_figures = lambda: {"config": self.facts()}

    @property
    def revision(self) -> int | None:
        """The revision in force; tasks that fire are made of it."""
        return self._cron.running.bridge.revision

    @revision.setter
    def revision(self, number: int) -> None:
        self._cron.running.bridge.revision = number

    def in_force(self, checked: Checked | None = None) -> None:
        """The file says what runs; ``checked`` is what was found when it was looked at anew."""
        was, stood = self._told, self._stood
        self.error = self.drift = None
        if checked is not None:
            new = [warning for warning in checked.warnings if warning not in self.warnings]
            self.mode, self.warnings = checked.reload, checked.warnings
            for warning in new:
                logger.warning("{}", warning)
        if self._changed() and any(was) and self.revision == stood:  # of a new revision it is told what changed
            logger.info("the jobs file is in force again: revision {}", self.revision)

    def refused(self, error: ConfigError) -> None:
        """The file cannot be used; what ran goes on."""
        self.error, self.drift = error, None
        runs = "nothing runs" if self.revision is None else f"revision {self.revision} runs on"
        if self._changed():
            self.tell(SchedulerEventKind.CONFIG_REFUSED, {"words": f"{runs}\n{error}"})

    def drifted(self) -> None:
        """The file was edited, and waits until somebody applies it."""
        self.error = None
        self.drift = Message(
            "the file differs from revision {number}, which runs on; 'atlas apply' puts it in force",
            number=self.revision,
        )
        if self._changed():
            self.tell(SchedulerEventKind.CONFIG_CHANGED, {"words": self.drift})

    def _changed(self) -> bool:
        """Let other processes know now, unless this is what they know already."""
        told = (None if self.error is None else str(self.error), self.drift)
        if told == self._told:
            return False
        self._told, self._stood = told, self.revision
        self._cron.running.serving.renew()
        return True

    def tell(self, kind: SchedulerEventKind, detail: dict[str, Any]) -> None:
        """Tell subscribers what happened to the file."""
        store = self._cron.queue.role.store
        store.events.publish(SchedulerEvent(kind=kind, at=store.clock.now(), detail=detail))

    def facts(self) -> dict[str, Any]:
        """What other processes should know."""
        error = None if self.error is None else message_of(self.error)
        is_short = error is None or len(error) <= MAX_TOLD
        return {
            "file": str(self._path),
            "revision": self.revision,
            "reload": self.mode,
            "error": error if error is None or is_short else error[:MAX_TOLD] + "…",
            "drift": self.drift,
            "parts": {
                name: parts_of(text) for name, text in (("error", error), ("drift", self.drift)) if text and is_short
            },
        }
