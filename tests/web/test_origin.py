"""Where requests come from, and what proxies may say about it."""

from __future__ import annotations

from typing import cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.iweb import IRequest

from dockreg_tx.web.origin import Origin, Origins


class Arrival:
    """What ``Origins`` asks of a request."""

    def __init__(self, peer: str | None, *, secure: bool = False, **headers: str) -> None:
        self._peer = peer
        self._secure = secure
        self.requestHeaders = Headers({name.replace("_", "-"): [text] for name, text in headers.items()})

    def isSecure(self) -> bool:
        return self._secure

    def getClientAddress(self) -> object:
        if self._peer is None:
            return UNIXAddress("")
        kind = IPv6Address if ":" in self._peer else IPv4Address
        return kind("TCP", self._peer, 1234)

    def getHost(self) -> object:
        return IPv4Address("TCP", "10.9.9.9", 5000)


def origin(
    peer: str | None = "192.0.2.1",
    *,
    trusted: tuple[str, ...] = (),
    public_url: str = "",
    secure: bool = False,
    **headers: str,
) -> Origin:
    """Return the origin of a request."""
    arrival = cast("IRequest", Arrival(peer, secure=secure, **headers))
    return Origins(public_url=public_url, trusted_proxies=trusted).of(arrival)


class OriginTests(SynchronousTestCase):
    """Schemes, hosts and addresses."""

    def test_direct(self) -> None:
        """Scheme, host and port are those that the client used."""
        self.assertEqual(Origin("http://r.example:5000", "192.0.2.1", False), origin(Host="r.example:5000"))
        self.assertEqual("https://r.example", origin(Host="r.example", secure=True).base_url)
        self.assertEqual("http://[::1]:5000", origin("::1", Host="[::1]:5000").base_url)

    def test_bad_host(self) -> None:
        """A host that could break out of the challenge is replaced by our own address."""
        for host in ('a"b', "a b", "a,b c", "", "a/b", "user@host", "[::1", "x" + chr(0xE9)):
            self.assertEqual("http://10.9.9.9:5000", origin(Host=host).base_url, host)

    def test_untrusted_proxy(self) -> None:
        """Whoever is not trusted cannot say who or what it is."""
        found = origin(
            Host="r", X_Forwarded_Proto="https", X_Forwarded_Host="evil", X_Forwarded_For="127.0.0.1"
        )
        self.assertEqual(Origin("http://r", "192.0.2.1", False), found)
        self.assertEqual(found, origin(trusted=("10.0.0.0/8",), Host="r", X_Forwarded_Proto="https"))

    def test_trusted_proxy(self) -> None:
        """A trusted proxy tells scheme, host and client; the last client that is no proxy counts."""
        found = origin(
            "10.0.0.1",
            trusted=("10.0.0.0/8",),
            Host="inner:5000",
            X_Forwarded_Proto="https",
            X_Forwarded_Host="r.example",
            X_Forwarded_For="127.0.0.1, 203.0.113.9, 10.0.0.2",
        )
        self.assertEqual(Origin("https://r.example", "203.0.113.9", True), found)

    def test_proxy_in_the_clear(self) -> None:
        """What came to a local proxy in the clear is not confidential."""
        found = origin("127.0.0.1", trusted=("127.0.0.0/8",), Host="r", X_Forwarded_For="203.0.113.9")
        self.assertFalse(found.is_confidential)
        self.assertTrue(origin("127.0.0.1", trusted=("127.0.0.0/8",), Host="r").is_confidential)

    def test_nonsense_from_proxy(self) -> None:
        """What a proxy says and cannot be read is as if it had not said it."""
        found = origin(
            "10.0.0.1",
            trusted=("10.0.0.0/8",),
            Host="r",
            X_Forwarded_Proto="gopher",
            X_Forwarded_For="unknown, 10.0.0.3",
        )
        self.assertEqual(Origin("http://r", "10.0.0.1", False), found)

    def test_local(self) -> None:
        """Socket and loopback are confidential; with any trusted proxy, the socket's peers are believed."""
        self.assertEqual(Origin("http://r", "unix", True), origin(None, Host="r"))
        proxied = origin(None, trusted=("10.0.0.0/8",), Host="r", X_Forwarded_For="203.0.113.9")
        self.assertEqual(Origin("http://r", "203.0.113.9", False), proxied)
        self.assertTrue(origin("::1", Host="r").is_confidential)
        self.assertTrue(origin("::ffff:127.0.0.1", Host="r").is_confidential)

    def test_public_url(self) -> None:
        """A configured address wins."""
        found = origin(public_url="https://r.example/", Host="other", X_Forwarded_Proto="http")
        self.assertEqual("https://r.example", found.base_url)
