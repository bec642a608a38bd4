"""The private-address guard: which addresses a request may go to (FACTS H).

A name is resolved once, every address it has must be global, and the connection goes to the very address that was
checked, so that a name which changes its answer in between gains nothing.
"""

import asyncio
import ipaddress
import socket
from typing import Final, Protocol

import httpx2

from headrace.errors import StepError

SCHEME_PORTS: Final = {"http": 80, "https": 443}
PORTS_REFUSED: Final = frozenset({22, 23, 25, 110, 143, 465, 587, 993, 995, 6_379, 11_211})
"""Ports of protocols that an HTTP request could be mistaken for a command in (https://fetch.spec.whatwg.org, bad port)."""
RESOLVE_TIMEOUT_S: Final = 10.0
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
NAT64_LOCAL: Final = ipaddress.IPv6Network("64:ff9b:1::/48")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Resolver(Protocol):
    """Gives the addresses of a name."""

    async def resolve(self, host: str, port: int) -> list[str]:
        """Give every address; raises OSError."""
        ...


class SystemResolver:
    """This machine's resolver."""

    async def resolve(self, host: str, port: int) -> list[str]:
        """Give every address; raises OSError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        return [str(sockaddr[0]) for *_, sockaddr in found]


class AddressGuard:
    """Lets requests through to public addresses only; `allow_private` and `exempt` open it on purpose."""

    def __init__(
        self, *, allow_private: bool = False, exempt: frozenset[str] = frozenset(), resolver: Resolver | None = None
    ) -> None:
        self._allow_private = allow_private
        self._exempt = exempt
        self._resolver = resolver or SystemResolver()

    async def admit(self, url: httpx2.URL) -> str:
        """Give the address to connect to; raises StepError (validation_error, upstream_error) when there is none."""
        host = url.host.strip("[]").rstrip(".")
        port = url.port or SCHEME_PORTS.get(url.scheme, 0)
        if url.scheme not in SCHEME_PORTS or not host:
            raise _refused(url, f"only {' and '.join(SCHEME_PORTS)} addresses with a host are requested")
        if url.userinfo:
            raise _refused(url, "names and passwords do not belong into an address")
        if port in PORTS_REFUSED:
            raise _refused(url, f"port {port} belongs to another protocol")
        found = await self._resolved(url, host, port)
        for text in found:
            if not self._allowed(text):
                raise _refused(
                    url, f"{host!r} is at the private address {text}; HEADRACE_ALLOW_PRIVATE_ADDRESSES=1 allows it"
                )
        return found[0]

    async def _resolved(self, url: httpx2.URL, host: str, port: int) -> list[str]:
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            try:
                found = await self._resolver.resolve(host, port)
            except (OSError, UnicodeError) as problem:
                message = f"{host!r} cannot be resolved: {problem}"
                raise StepError(message, type="upstream_error", details={"url": shown(url)}) from problem
        if not found:
            message = f"{host!r} has no address"
            raise StepError(message, type="upstream_error", details={"url": shown(url)})
        return found

    def _allowed(self, text: str) -> bool:
        return self._allow_private or text in self._exempt or is_public(text)


def is_public(text: str) -> bool:
    """Tell whether an address is global unicast, looking through the forms in which IPv6 carries IPv4."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64_LOCAL:
            return False
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None and not _global(inner):
            return False
        if address.ipv4_mapped is not None:
            return True
    return _global(address)


def shown(url: httpx2.URL) -> str:
    """Give an address for people and errors: without a name, password, query or fragment, which may be secret."""
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))


def _global(address: Address) -> bool:
    return address.is_global and not address.is_multicast


def _refused(url: httpx2.URL, reason: str) -> StepError:
    return StepError(f"the request to {shown(url)} was not sent: {reason}", type="validation_error")
