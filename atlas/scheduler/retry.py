"""When a failed attempt is tried again, and after how long: a frozen value and pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from atlas.scheduler.errors import ArgumentsError, NoRetryError
from atlas.scheduler.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how soon a failed attempt is followed by another.

    The wait before retry ``n`` is ``delay_s * backoff ** (n - 1)``, at most ``max_delay_s``, and then up to the share
    ``jitter`` of it is taken off by chance, so that tasks which failed together do not come back together.

    Attributes:
        max_retries: Retries after the first attempt; 3 allows four failures. 0 means none.
        delay_s: Wait before the first retry, seconds.
        backoff: Factor from one wait to the next, at least 1.
        max_delay_s: Longest wait, seconds.
        jitter: Share of a wait that chance may take off, 0 to 1.
        retry_on: Names of the exception classes that are retried (``"TimeoutError"``, ``"httpx.TransportError"``,
            base classes included); empty means every `Exception`. A `NoRetryError` is never retried.

    Raises:
        ArgumentsError: A value is out of its range.
    """

    max_retries: int = 3
    delay_s: float = 2.0
    backoff: float = 2.0
    max_delay_s: float = 300.0
    jitter: float = 0.25
    retry_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        retries: object = self.max_retries  # a caller without type checks may give anything
        if not isinstance(retries, int) or not 0 <= retries <= 1_000_000:
            bounds = {"low": "0", "high": "1,000,000"}
            msg = Message(
                "{name} {value} is not a whole number in {low} to {high}",
                name="max_retries",
                value=repr(retries),
                **bounds,
            )
            raise ArgumentsError(msg)
        for name, number, low in (
            ("retry_delay", self.delay_s, 0.0),
            ("retry_max_delay", self.max_delay_s, 0.0),
            ("retry_backoff", self.backoff, 1.0),
        ):
            value: object = number
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= low):
                msg = Message(
                    "{name} {value} is not a finite number of at least {low}",
                    name=name,
                    value=repr(value),
                    low=f"{low:g}",
                )
                raise ArgumentsError(msg)
        jitter: object = self.jitter
        if not (isinstance(jitter, int | float) and 0.0 <= jitter <= 1.0):
            raise ArgumentsError(Message("retry_jitter {value} is not in 0 to 1", value=repr(jitter)))
        names: object = self.retry_on
        if isinstance(names, str) or not all(isinstance(name, str) for name in self.retry_on):
            raise ArgumentsError(Message("retry_on {value} is not a list of the names of errors", value=repr(names)))
        object.__setattr__(self, "retry_on", tuple(self.retry_on))  # a list has no hash, and the policy is a key

    def allows(self, failures: int) -> bool:
        """True if a task that has failed ``failures`` times (the latest included) gets another attempt."""
        return failures <= self.max_retries

    def covers(self, error_names: tuple[str, ...]) -> bool:
        """True if an error with these class names (the class and its bases, short and dotted) is one to retry."""
        if _NO_RETRY in error_names:
            return False
        return not self.retry_on or not set(self.retry_on).isdisjoint(error_names)

    def wait_s(self, retry: int, *, draw: float) -> float:
        """Seconds before retry number ``retry``, from 1; ``draw`` is a chance number in 0 to 1: 0 waits longest."""
        exponent = retry - 1
        # In logarithms: 2.0 ** 5000 overflows long before the cap is looked at.
        if self.delay_s > 0 and self.max_delay_s > 0 and self.backoff > 1:
            over = math.log(self.delay_s) + exponent * math.log(self.backoff) >= math.log(self.max_delay_s)
            full = self.max_delay_s if over else self.delay_s * self.backoff**exponent
        else:
            full = self.delay_s
        return min(full, self.max_delay_s) * (1.0 - self.jitter * draw)


_NO_RETRY: Final = f"{NoRetryError.__module__}.{NoRetryError.__qualname__}"


def error_names(error: BaseException) -> tuple[str, ...]:
    """Names by which ``retry_on`` may mean ``error``: its class and every base, short and with the module."""
    names: list[str] = []
    for kind in type(error).__mro__[:-1]:
        names += (kind.__name__, f"{kind.__module__}.{kind.__qualname__}")
    return tuple(names)
