"""Why a source could not be collected."""

from __future__ import annotations

from atlas.scheduler.errors import AtlasError


class SourceError(AtlasError):
    """A source could not be collected; its message is the reason, without secrets and on one line.

    Attributes:
        transient: True if asking again soon may help.
        retry_after_s: How long the server asked us to wait, seconds; None if it did not say.
    """

    def __init__(self, reason: str, *, transient: bool = False, retry_after_s: float | None = None) -> None:
        """Keep the facts; a server's own text is made one printable line of at most 300 characters."""
        line = " ".join("".join(character if character.isprintable() else " " for character in reason).split())
        super().__init__(line if len(line) <= MAX_REASON else line[: MAX_REASON - 1] + "…")
        self.transient, self.retry_after_s = transient, retry_after_s


MAX_REASON = 300
