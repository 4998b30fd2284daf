"""Where a request comes from, and how its client addresses us; a front proxy is believed if it is trusted."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from twisted.web.iweb import IRequest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: What may stand in an address that we hand back; anything else could end the quotes around it.
_HOST = re.compile(r"[A-Za-z0-9._~-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_SCHEMES = frozenset({"http", "https"})
#: How peers on a UNIX socket are called.
LOCAL = "unix"


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a request's way here."""

    #: As the client sees us, such as ``https://registry.example.org``; no slash at the end.
    base_url: str
    #: The client's address, ``unix`` for a local socket.
    address: str
    #: Whether nobody in between can read along: TLS, a local socket, or the loopback.
    is_confidential: bool


class Origins:
    """Tells where requests come from.

    Args:
        public_url: how all clients address us, empty to take it from each request.
        trusted_proxies: networks whose ``X-Forwarded-*`` headers are believed; if there are any, those of
            peers on UNIX sockets are, too.
    """

    def __init__(self, *, public_url: str = "", trusted_proxies: Sequence[str] = ()) -> None:
        self._public_url = public_url.rstrip("/")
        self._trusted = tuple(ipaddress.ip_network(network) for network in trusted_proxies)
        # Of clients that are no proxies: one of them has few names for us.
        self._direct = lru_cache(maxsize=1024)(self._of_direct)

    def of(self, request: IRequest) -> Origin:
        """Return the origin of a request."""
        peer = _peer(request)
        is_proxied = bool(self._trusted) and self._is_trusted(peer)
        if not is_proxied:
            hosts = request.requestHeaders.getRawHeaders(b"host")
            if hosts and len(hosts) == 1 and _HOST.fullmatch(host := hosts[0].decode("latin-1")):
                return self._direct(peer, request.isSecure(), host)
        scheme = "https" if request.isSecure() else "http"
        host = _header(request, "Host")
        address = peer
        if is_proxied:
            scheme = _last_of(_header(request, "X-Forwarded-Proto"), _SCHEMES) or scheme
            host = _header(request, "X-Forwarded-Host") or host
            address = self._client(_header(request, "X-Forwarded-For")) or peer
        # Behind a proxy the client's address counts: ours to the proxy says nothing about its way.
        return Origin(
            base_url=self._public_url or f"{scheme}://{_checked(host, request)}",
            address=address,
            is_confidential=scheme == "https" or _is_local(address),
        )

    def _of_direct(self, peer: str, is_secure: bool, host: str) -> Origin:
        scheme = "https" if is_secure else "http"
        base_url = self._public_url or f"{scheme}://{host}"
        return Origin(base_url=base_url, address=peer, is_confidential=is_secure or _is_local(peer))

    def _is_trusted(self, address: str) -> bool:
        if address == LOCAL:
            return True
        parsed = _parsed(address)
        return parsed is not None and any(
            parsed.version == network.version and parsed in network for network in self._trusted
        )

    def _client(self, forwarded_for: str) -> str | None:
        """Return the last address that is not a proxy of ours: what stands before it may be invented."""
        listed = [item.strip() for item in forwarded_for.split(",") if item.strip()]
        for item in reversed(listed):
            address = _parsed(item)
            if address is None:
                return None
            if not self._is_trusted(str(address)):
                return str(address)
        return None


def _peer(request: IRequest) -> str:
    return _peer_name(getattr(request.getClientAddress(), "host", None))


@lru_cache(maxsize=1024)
def _peer_name(host: object) -> str:
    parsed = _parsed(host) if isinstance(host, str) else None
    return LOCAL if parsed is None else str(parsed)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


@lru_cache(maxsize=1024)
def _is_local(address: str) -> bool:
    parsed = _parsed(address)
    return address == LOCAL if parsed is None else parsed.is_loopback


def _header(request: IRequest, name: str) -> str:
    values = request.requestHeaders.getRawHeaders(name.encode("latin-1")) or []
    return b",".join(values).decode("latin-1")


def _last_of(listed: str, allowed: frozenset[str]) -> str | None:
    last = listed.rpartition(",")[2].strip().lower()
    return last if last in allowed else None


def _checked(host: str, request: IRequest) -> str:
    """Return a host that can stand in an address: the last that a proxy named, else our own."""
    host = host.rpartition(",")[2].strip()
    if _HOST.fullmatch(host) is not None:
        return host
    own = request.getHost()
    name, port = getattr(own, "host", None), getattr(own, "port", None)
    if not isinstance(name, str):
        return "localhost"
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
