"""Keeps collectors out of private networks: a request goes to the address that was checked, or nowhere.

A name is resolved once per request, every address of it is judged, and the connection is made to one of exactly these
addresses. A name that answers differently the second time (DNS rebinding) gains nothing: there is no second time.
"""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

import httpx

from atlas.collectors.errors import SourceError
from atlas.collectors.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from ipaddress import IPv4Address

    Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_NAT64: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052: on networks without IPv4 every name resolves into this one; the last 32 bits are what counts."""


def refusal(address: str) -> str | None:
    """Why ``address`` may not be connected to, or None if it is one of the public internet.

    >>> refusal("169.254.169.254")
    'link-local'
    >>> refusal("8.8.8.8") is None
    True
    """
    ip = _meant(ip_address(address))
    for kind in ("unspecified", "loopback", "link_local", "multicast", "site_local", "reserved"):
        if getattr(ip, f"is_{kind}", False):
            return kind.replace("_", "-")
    return None if ip.is_global else "private"


def _meant(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address behind one that only wraps it: IPv4 in IPv6, NAT64, 6to4."""
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip.sixtofour is not None:
            return ip.sixtofour
        if ip in _NAT64:
            return ip_address(int(ip) & 0xFFFFFFFF)
    return ip


async def resolve(host: str, port: int) -> list[str]:
    """Every address of ``host``, in the order the system prefers.

    Raises:
        SourceError: The name has no address, or no name server answers.
    """
    try:
        found = await in_thread(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror as error:
        again = error.errno == socket.EAI_AGAIN
        raise SourceError(f"host {host} has no address ({error.strerror})", transient=again) from error
    except UnicodeError as error:
        raise SourceError(f"{host!r} is no host name") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends each request to an address it has checked.

    Args:
        inner: What connects; it is given addresses instead of names.
        allow_hosts: Hosts whose addresses are not judged, lower case.
        resolve: Turns (host, port) into addresses.
    """

    def __init__(
        self, inner: httpx.AsyncBaseTransport, *, allow_hosts: Collection[str] = (), resolve: Resolve = resolve
    ) -> None:
        self._inner, self._resolve = inner, resolve
        self._allow = frozenset(host.lower().rstrip(".") for host in allow_hosts)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer of the first checked address that takes the connection.

        Raises:
            SourceError: The scheme is not http(s), or an address is not public.
        """
        url = request.url
        if url.scheme not in {"http", "https"} or not url.host:
            raise SourceError(f"only http and https addresses with a host are read, not {url.scheme or 'relative'}:")
        host = url.raw_host.decode("ascii")
        last: httpx.TransportError | None = None
        for address in await self._addresses(host, url.port or (443 if url.scheme == "https" else 80)):
            try:
                return await self._inner.handle_async_request(_pinned(request, host, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                last = error
        raise last or SourceError(f"host {host} has no address")

    async def aclose(self) -> None:
        """Close what connects."""
        await self._inner.aclose()

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        addresses = await self._resolve(host, port)
        if host.lower().rstrip(".") not in self._allow:
            for address in addresses:
                if why := refusal(address):
                    raise SourceError(
                        f"{host} has the {why} address {address}; "
                        f"add {host} to collect.allow_hosts in config.yaml if it is meant"
                    )
        return addresses


def _pinned(request: httpx.Request, host: str, address: str) -> httpx.Request:
    # A copy: redirects and cookies are worked out from the original. The Host header is set already, and the
    # certificate is checked against the name, not the address.
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
