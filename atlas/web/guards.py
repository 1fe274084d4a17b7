"""What every request passes before anything else looks at it.

::

    host ─► size ─► sign-in ─► origin (changes) ─► read-only (changes) ─► rate (changes) ─► the app
    421     413     401 · 303  403                 403                    429

Every answer, refusals included, leaves with the headers that let a browser load nothing from elsewhere.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from loguru import logger
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse

from atlas.scheduler.message import Message
from atlas.web.errors import comes_from_elsewhere, once_more, refusal
from atlas.web.prefix import placed
from atlas.web.site import is_local, local_path

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send
    from starlette.types import Message as Sent

    from atlas.web.site import Site

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: with that, browsers send "Origin: null" and every form would be refused.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
MAX_BODY: Final = 262_144
MAX_CONFIG_BODY: Final = 8_388_608
"""A jobs file, percent-encoded."""
OPEN: Final = frozenset({"/healthz", "/readyz", "/sign-in", "/favicon.ico"})
LARGE: Final = ("/config", "/act/apply", "/api/v1/check", "/api/v1/plan", "/api/v1/apply")
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
LOOKS: Final = frozenset({"/sign-in", "/sign-out", "/config", "/api/v1/check", "/api/v1/plan"})
"""What is sent there is looked at and changes nothing, so that read-only sites take it too."""


class Guard:
    """The middleware; pure ASGI, so that streams stay streams."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        scope = placed(scope)
        request = Request(scope)
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"

        async def send_with_headers(message: Sent) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        body = _Body(receive, MAX_CONFIG_BODY if path.startswith(LARGE) else MAX_BODY)
        answer = self._refused(request, path, body.limit)
        if answer is not None:
            await answer(scope, receive, send_with_headers)
            return
        started = False

        async def send_once(message: Sent) -> None:
            nonlocal started
            started = True
            await send_with_headers(message)

        try:
            await self._app(scope, body, send_once)
        except _TooLargeError:
            if not started:
                await self._too_large(request, body.limit)(scope, receive, send_with_headers)
        except Exception:
            logger.exception("a request failed", method=request.method, path=path)
            if started:
                raise
            text = Message("something went wrong here; the log says what")
            await refusal(request, 500, "internal", text)(scope, receive, send_with_headers)

    def _refused(self, request: Request, path: str, max_body: int) -> Response | None:
        site, headers = self._site, request.headers
        if not self._is_host(headers.get("host", "")):
            # Neither page nor JSON: whoever sees this is not one of ours, or an operator who reads it once.
            text = "This host name is not one of ours. Add it to web.allowed_hosts in the settings.\n"
            return PlainTextResponse(text, 421)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > max_body:
            return self._too_large(request, max_body)
        changes = request.method not in SAFE
        signed_in = self._sign_in(request, path)
        if signed_in is not None:
            return signed_in
        if changes:
            if not self._is_own(request):
                return refusal(
                    request, 403, "foreign_origin", Message("a change must come from these pages, not another site")
                )
            if site.read_only and path not in LOOKS:
                return refusal(
                    request, 403, "read_only", Message("this site is read-only: web.read_only in the settings")
                )
            key = client_of(request)
            if wait_s := site.changes.wait_s(key):
                return refusal(request, 429, "too_many", Message("too many changes in a minute"), wait_s=wait_s)
            site.changes.count(key)
        return None

    def _sign_in(self, request: Request, path: str) -> Response | None:
        """Notes who asks; a refusal where nobody known does."""
        site, access = self._site, self._site.access
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        cookie = request.cookies.get(access.cookie, "")
        # A browser sends what a proxy before us asked it for: "Basic …" is no program's.
        is_program = kind.lower() == "bearer"
        request.scope["atlas.by"] = "api" if is_program else "web"
        if access.is_open or path in OPEN or path.startswith("/static/"):
            return None
        if is_program:
            if access.is_token(given.strip()):
                return None
            key = client_of(request)
            if wait_s := site.guesses.wait_s(key):
                return refusal(request, 429, "too_many", Message("too many wrong tokens"), wait_s=wait_s)
            site.guesses.count(key)
            return refusal(request, 401, "wrong_token", Message("this is not the token"))
        if cookie and access.is_session(cookie):
            return None
        if request.method == "GET" and not path.startswith(("/api/", "/metrics", "/live")):
            root = quote(str(request.scope.get("root_path", "")).rstrip("/"))
            asked = local_path(request)
            if comes_from_elsewhere(request) and is_local(asked):
                return once_more(request, root + asked)
            after = "" if asked == "/" else f"?next={quote(asked, safe='')}"
            return RedirectResponse(f"{root}/sign-in{after}", 303)
        return refusal(request, 401, "sign_in", Message("sign in, or send 'Authorization: Bearer TOKEN'"))

    def _is_host(self, host: str) -> bool:
        """True for loopback, any plain address (a rebound name is never one) and the names in the settings."""
        try:
            name = urlsplit("//" + host).hostname
            if name is None or "@" in host or "/" in host:
                return False
            if name == "localhost" or name in self._site.allowed_hosts:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _is_own(self, request: Request) -> bool:
        """True if a browser says that the change came from this site; programs with the token send no origin.

        A proxy may put its own name for us in the place of the one the browser knows; `allowed_hosts` has that one.
        """
        headers, allowed = request.headers, self._site.allowed_hosts
        told = headers.get("sec-fetch-site", "")
        if told not in {"", "same-origin", "none"}:
            return False
        origin = headers.get("origin")
        if origin is None:
            return request.scope.get("atlas.by") == "api"
        try:
            parts = urlsplit(origin)
            # Another port is another site, unless the browser vouches for it.
            is_named = parts.hostname in allowed and (parts.port is None or told == "same-origin")
        except ValueError:
            return False
        return parts.scheme in {"http", "https"} and (is_named or parts.netloc == headers.get("host", ""))

    @staticmethod
    def _too_large(request: Request, limit: int) -> Response:
        return refusal(request, 413, "too_large", Message("a request here is at most {n} bytes", n=f"{limit:,}"))


def client_of(request: Request) -> str:
    """The address brakes count by; behind a proxy that the server trusts, the one it tells in X-Forwarded-For."""
    return request.client.host if request.client else ""


class _TooLargeError(Exception):
    """The body grew past its limit while it was read."""


class _Body:
    """Receives the body, and counts it: a chunked one brings no length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self.limit, self._read = receive, limit, 0

    async def __call__(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self.limit:
                raise _TooLargeError
        return message
