"""Who may come in: the token in its file, what is derived from it, and a brake on guessing.

The token never leaves its file except by the hand of whoever reads it: the browser holds a session (an expiry signed
with a key derived from the token), the link that `atlas serve` prints holds a code of the same kind that works once and
for a few minutes. A new token ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from atlas.scheduler.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from atlas.scheduler.clock import Clock

SESSION_S: Final = 30 * 86_400.0
"""How long a browser stays signed in."""
LINK_S: Final = 15 * 60.0
"""How long a sign-in link works."""
MIN_TOKEN: Final = 20
MAX_TOKEN: Final = 1_000


class Access:
    """What the token opens.

    Args:
        token: The secret; None lets everybody in (only allowed where nobody but this machine can connect).
    """

    def __init__(self, token: str | None, clock: Clock) -> None:
        self._token, self._clock = token, clock
        self._key = hashlib.sha256(b"atlas web key\0" + (token or "").encode()).digest()
        self._used: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()
        self.cookie = f"atlas_{self._sign('cookie', '')[:8]}"
        """Name of the session's cookie, one per token: two installations on one host do not sign each other out."""

    @property
    def is_open(self) -> bool:
        """True if no sign-in is needed."""
        return self._token is None

    def is_token(self, given: str) -> bool:
        """True for the token itself."""
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())

    def new_session(self) -> str:
        """What the browser keeps."""
        return self._stamp("session", SESSION_S)

    def is_session(self, given: str) -> bool:
        """True for a session that has not ended."""
        return given not in self._ended and self._holds("session", given)

    def end_session(self, given: str) -> None:
        """Sign it out: a copy of it opens nothing in this process any more. A restart forgets that."""
        if self._holds("session", given):
            now = self._now()
            with self._lock:
                ended = {session: until for session, until in self._ended.items() if until > now}
                self._ended = {**ended, given: now + SESSION_S}

    def new_code(self) -> str:
        """A code for a sign-in link."""
        return self._stamp("link", LINK_S)

    def spend_code(self, given: str) -> bool:
        """True for a code that is still good; it is good no more after that."""
        if not self._holds("link", given):
            return False
        now = self._now()
        with self._lock:
            self._used = {code: until for code, until in self._used.items() if until > now}
            if given in self._used:
                return False
            self._used[given] = now + LINK_S
        return True

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _stamp(self, what: str, for_s: float) -> str:
        until = f"{self._now() + for_s:.0f}.{secrets.token_hex(6)}"
        return f"{until}.{self._sign(what, until)}"

    def _holds(self, what: str, given: str) -> bool:
        stamp, _, signature = given.rpartition(".")
        if self._token is None or not hmac.compare_digest(signature.encode(), self._sign(what, stamp).encode()):
            return False
        return float(stamp.partition(".")[0]) > self._now()

    def _sign(self, what: str, text: str) -> str:
        return hmac.new(self._key, f"{what}\0{text}".encode(), hashlib.sha256).hexdigest()


def read_or_make_token(file: Path) -> tuple[str, bool]:
    """The token in ``file``; a new one, readable for this user alone, where there is none (the second value is True).

    Raises:
        ConfigError: The file cannot be made or read, or holds no usable token.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists() and (token := _made(file)):
            return token, True
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(file, f"the token cannot be read or made: {error}") from error
    if not (MIN_TOKEN <= len(token) <= MAX_TOKEN and token.isascii() and token.isprintable() and " " not in token):
        wanted = f"{MIN_TOKEN} to {MAX_TOKEN} ASCII characters without spaces"
        raise _refusal(file, f"it holds no usable token: {wanted}; delete the file and a new one is made")
    if file.stat().st_mode & 0o077:
        file.chmod(0o600)
    return token, False


def _made(file: Path) -> str:
    """A new token in ``file``; "" where another process, a worker of the same app perhaps, made the file first.

    It gets its name when it is whole: no process reads half a token.
    """
    token, draft = secrets.token_urlsafe(32), file.with_name(f".{file.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as opened:
            opened.write(token + "\n")
        os.link(draft, file)
    except FileExistsError:
        return ""
    finally:
        draft.unlink(missing_ok=True)
    return token


def _refusal(file: Path, message: str) -> ConfigError:
    return ConfigError([Problem(file=None, path="web.token_file", value=str(file), message=message)])


class Brake:
    """Counts what happened per key within a window and says when it is too much.

    Args:
        limit: How often a key may within the window.
        window_s: Its length, seconds.
        keys: How many keys are remembered; the oldest are forgotten beyond it.
    """

    def __init__(self, limit: int, window_s: float, clock: Clock, *, keys: int = 10_000) -> None:
        self._limit, self._window_s, self._clock, self._keys = limit, window_s, clock, keys
        self._seen: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, key: str) -> float:
        """Seconds until ``key`` may again, 0 when it may now."""
        now = self._clock.monotonic()
        with self._lock:
            times = self._recent(key, now)
            return 0.0 if len(times) < self._limit else max(0.0, times[0] + self._window_s - now)

    def count(self, key: str) -> None:
        """Once more for ``key``."""
        now = self._clock.monotonic()
        with self._lock:
            times = self._recent(key, now)
            times.append(now)
            if len(times) > self._limit:
                times.popleft()
            self._seen.pop(key, None)
            self._seen[key] = times
            while len(self._seen) > self._keys:
                del self._seen[next(iter(self._seen))]

    def _recent(self, key: str, now: float) -> deque[float]:
        times = self._seen.get(key) or deque()
        while times and times[0] <= now - self._window_s:
            times.popleft()
        return times
