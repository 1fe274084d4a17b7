"""Fetches one address over HTTP: checked addresses, few redirects, bounded size, one deadline over all of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Self

import httpx

from atlas.collectors.body import Body
from atlas.collectors.errors import SourceError
from atlas.collectors.guard import GuardedTransport, resolve
from atlas.collectors.memory import NOTHING, Validators

if TYPE_CHECKING:
    from atlas.collectors.guard import Resolve
    from atlas.scheduler.clock import Clock

_TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_STATUS_WORDS: Final = {
    401: "it wants a sign-in",
    403: "it refuses us",
    404: "there is nothing at this address",
    410: "it is gone for good",
    429: "it gets too many requests from us",
}
_MAX_VALIDATOR: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """How far a server is trusted.

    Attributes:
        timeout_s: Longest time from the first look-up of the name to the last byte, redirects included, seconds.
        max_bytes: Longest unpacked body.
        max_ratio: Largest unpacked ÷ packed size.
        allow_hosts: Hosts that may have private addresses.
    """

    timeout_s: float = 30.0
    max_bytes: int = 10_000_000
    max_ratio: int = 100
    max_redirects: int = 5
    user_agent: str = "AtlasScheduler"
    allow_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A complete answer.

    Attributes:
        address: Where it came from after redirects, without user name and password.
        body: Its unpacked bytes.
        content_type: The header, "" if there was none.
        validators: What to ask with next time.
    """

    address: str
    body: bytes
    content_type: str
    validators: Validators


class Fetcher:
    """Fetches addresses; an async context manager that holds the connections.

    Args:
        limits: How far a server is trusted.
        clock: Time, for servers that say until when to wait.
        resolve: Turns (host, port) into addresses.
    """

    def __init__(self, limits: FetchLimits, clock: Clock, *, resolve: Resolve = resolve) -> None:
        self._limits, self._clock = limits, clock
        # A kept connection belongs to an address; behind a CDN it would serve another host's name. So none is kept.
        inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(inner, allow_hosts=limits.allow_hosts, resolve=resolve),
            headers={"User-Agent": limits.user_agent, "Accept-Encoding": "gzip, deflate"},
            timeout=httpx.Timeout(limits.timeout_s, connect=min(10.0, limits.timeout_s)),
            trust_env=False,  # a proxy or .netrc from the environment would go around the guard
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def fetch(self, address: str, *, accept: str = "*/*", known: Validators = NOTHING) -> Fetched | None:
        """The answer of ``address``, or None when the server says that nothing changed since ``known``.

        Raises:
            SourceError: There is no complete answer within the limits.
        """
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await self._follow(address, {"Accept": accept, **known.headers()})
        except TimeoutError as error:
            raise SourceError(f"no complete answer within {self._limits.timeout_s:g} s") from error
        except httpx.TimeoutException as error:
            raise SourceError(f"no answer in time ({type(error).__name__})", transient=True) from error
        except httpx.TransportError as error:
            hopeless = "CERTIFICATE_VERIFY_FAILED" in str(error)
            reason = f"the connection failed ({type(error).__name__}: {str(error) or 'no detail'})"
            raise SourceError(reason, transient=not hopeless) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise SourceError(f"the address cannot be asked ({type(error).__name__}: {error})") from error

    async def _follow(self, address: str, headers: dict[str, str]) -> Fetched | None:
        request = self._client.build_request("GET", address, headers=headers)
        for _hop in range(self._limits.max_redirects + 1):
            response = await self._client.send(request, stream=True)
            try:
                # has_redirect_location, since is_redirect is true for 304 as well.
                if not response.has_redirect_location:
                    return await self._take(
                        response, conditional="If-None-Match" in headers or "If-Modified-Since" in headers
                    )
            finally:
                await response.aclose()
            assert response.next_request is not None
            request = response.next_request
        raise SourceError(f"more than {self._limits.max_redirects} redirects")

    async def _take(self, response: httpx.Response, *, conditional: bool) -> Fetched | None:
        if response.status_code == 304 and conditional:
            return None
        if response.status_code != 200:
            raise self._refused(response)
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length[:20]) > self._limits.max_bytes:
            raise SourceError(f"the answer is longer than {self._limits.max_bytes:,} bytes")
        body = Body(
            response.headers.get("Content-Encoding", ""),
            max_bytes=self._limits.max_bytes,
            max_ratio=self._limits.max_ratio,
        )
        async for piece in response.aiter_raw():
            body.feed(piece)
        return Fetched(
            address=str(response.url.copy_with(userinfo=b"", fragment=None)),
            body=body.finish(),
            content_type=response.headers.get("Content-Type", ""),
            validators=Validators(
                etag=_usable(response.headers.get("ETag")), last_modified=_usable(response.headers.get("Last-Modified"))
            ),
        )

    def _refused(self, response: httpx.Response) -> SourceError:
        status = response.status_code
        words = _STATUS_WORDS.get(status) or response.reason_phrase or "no words"
        return SourceError(
            f"the server answers {status}: {words}",
            transient=status in _TRANSIENT_STATUS,
            retry_after_s=self._retry_after_s(response.headers.get("Retry-After", "").strip()),
        )

    def _retry_after_s(self, text: str) -> float | None:
        """Seconds meant by a ``Retry-After`` header: a number or a date (RFC 9110, 10.2.3)."""
        if text.isascii() and text.isdecimal():
            return float(text[:9])
        try:
            until = parsedate_to_datetime(text)
        except ValueError:
            return None
        return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - self._clock.now()).total_seconds())


def _usable(value: str | None) -> str | None:
    """``value`` if it can be sent back as it is."""
    if value is None or len(value) > _MAX_VALIDATOR or not (value.isascii() and value.isprintable()):
        return None
    return value or None
