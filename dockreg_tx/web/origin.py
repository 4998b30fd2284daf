"""Where a request comes from, and how its client addresses us; a front proxy is believed if it is trusted."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from twisted.web.iweb import IRequest

from dockreg_tx.web.forwarding import Address, Hop, forwarded_hops, parse_address, parse_node

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: What may stand in an address that we hand back; anything else could end the quotes around it.
_HOST = re.compile(r"[A-Za-z0-9._~-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_SCHEMES = frozenset({"http", "https"})
_OLDER_HEADERS = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
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
        trusted_proxies: networks whose ``X-Forwarded-*`` or ``Forwarded`` headers are believed; if there are
            any, those of peers on UNIX sockets are, too.
    """

    def __init__(self, *, public_url: str = "", trusted_proxies: Sequence[str] = ()) -> None:
        self._public_url = public_url.rstrip("/")
        self._trusted = tuple(ipaddress.ip_network(network) for network in trusted_proxies)
        # Of clients that are no proxies: one of them has few names for us.
        self._direct = lru_cache(maxsize=1024)(self._of_direct)

    def of(self, request: IRequest) -> Origin:
        """Return the origin of a request."""
        peer = _peer(request)
        is_proxied = self._is_proxy(peer)
        if not is_proxied:
            hosts = request.requestHeaders.getRawHeaders(b"host")
            direct = self._direct(peer, request.isSecure(), hosts[0]) if hosts and len(hosts) == 1 else None
            if direct is not None:
                return direct
        said = self._said(request) if is_proxied else _DIRECT
        scheme = said.scheme or ("https" if request.isSecure() else "http")
        # Behind a proxy the client's address counts: ours to the proxy says nothing about its way.
        is_local = _is_local(said.address or peer) and not said.hides_client
        return Origin(
            base_url=self._public_url
            or f"{scheme}://{_checked(said.host or _header(request, 'Host'), request)}",
            address=said.address or peer,
            is_confidential=scheme == "https" or is_local,
        )

    def _of_direct(self, peer: str, is_secure: bool, named: bytes) -> Origin | None:
        host = named.decode("latin-1")
        if _HOST.fullmatch(host) is None:
            return None
        scheme = "https" if is_secure else "http"
        base_url = self._public_url or f"{scheme}://{host}"
        return Origin(base_url=base_url, address=peer, is_confidential=is_secure or _is_local(peer))

    def client_of(self, request: IRequest) -> str:
        """Return the address of a request's client."""
        peer = _peer(request)
        return (self._said(request).address if self._is_proxy(peer) else "") or peer

    def _is_proxy(self, peer: str) -> bool:
        return bool(self._trusted) and (peer == LOCAL or self._is_trusted(parse_address(peer)))

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(
            address.version == network.version and address in network for network in self._trusted
        )

    def _said(self, request: IRequest) -> _Said:
        """Return what the proxies say.

        ``Forwarded`` counts where none of the older headers came: most proxies write those, and hand on a
        ``Forwarded`` that the client made up.
        """
        clients, scheme, host = (_header(request, name) for name in _OLDER_HEADERS)
        if clients or scheme or host:
            listed = [item for item in clients.split(",") if item.strip()]
            address = self._client(map(parse_node, reversed(listed)))
            return _Said(address, _last_of(scheme, _SCHEMES) or "", host, not address)
        hops = list(forwarded_hops(_header(request, "Forwarded")))
        return self._said_by(hops) if hops else _DIRECT

    def _said_by(self, hops: Sequence[Hop]) -> _Said:
        """Return what the proxy next to the client says: each hop is told by the proxy at its end."""
        told = 0
        while told + 1 < len(hops) and self._is_trusted(parse_node(hops[told].client)):
            told += 1
        hop = hops[told]
        address = parse_node(hop.client)
        scheme = hop.scheme if hop.scheme in _SCHEMES else ""
        return _Said("" if address is None else str(address), scheme, hop.host, address is None)

    def _client(self, nodes: Iterable[Address | None]) -> str:
        """Return the nearest of the clients, from right to left, that is no proxy of ours, else the furthest.

        What stands before it may be invented. Empty where a node on the way cannot be read.
        """
        found = ""
        for address in nodes:
            if address is None:
                return ""
            found = str(address)
            if not self._is_trusted(address):
                break
        return found


@dataclass(frozen=True, slots=True)
class _Said:
    """What trusted proxies say; empty where they say nothing."""

    address: str = ""
    scheme: str = ""
    host: str = ""
    #: There is a client behind the proxy, and it is not told which.
    hides_client: bool = False


_DIRECT = _Said()


def _peer(request: IRequest) -> str:
    return _peer_name(getattr(request.getClientAddress(), "host", None))


@lru_cache(maxsize=1024)
def _peer_name(host: object) -> str:
    parsed = parse_address(host) if isinstance(host, str) else None
    return LOCAL if parsed is None else str(parsed)


@lru_cache(maxsize=1024)
def _is_local(address: str) -> bool:
    parsed = parse_address(address)
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
