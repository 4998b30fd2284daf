"""The ``Forwarded`` header (RFC 7239), and whom of those it names we believe."""

from __future__ import annotations

import ipaddress
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.web.forwarding import HOPS_LIMIT, Hop, forwarded_hops, parse_node
from dockreg_tx.web.origin import Origin
from tests.web.test_origin import origin

PROXIES = ("10.0.0.0/8", "fd00::/8")
TOKEN = st.text(st.sampled_from("abcXYZ019-_.~!#$%&'*+^`|"), min_size=1, max_size=8)
ADDRESSES = st.ip_addresses().map(str)
#: What a client may send: anything that a header may hold.
ANYTHING = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60) | st.text(
    st.sampled_from('for=1.2;,"\\ []:_proto='), max_size=60
)


def node(address: str) -> str:
    """Return an address as a ``for`` has it."""
    return f'"[{address}]"' if ":" in address else address


def quoted(text: str) -> str:
    """Return a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class ForwardedTests(SynchronousTestCase):
    """The header by itself."""

    def test_examples(self) -> None:
        """The examples of the RFC are read, right to left."""
        for header, expected in [
            ('for="_gazonk"', [Hop("_gazonk")]),
            ('For="[2001:db8:cafe::17]:4711"', [Hop("[2001:db8:cafe::17]:4711")]),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", [Hop("192.0.2.60", "http")]),
            ("for=192.0.2.43, for=198.51.100.17", [Hop("198.51.100.17"), Hop("192.0.2.43")]),
            ("for=_hidden, for=_SEVKISEK", [Hop("_SEVKISEK"), Hop("_hidden")]),
            ('for=192.0.2.43,for="[2001:db8::1]",for=unknown',
             [Hop("unknown"), Hop("[2001:db8::1]"), Hop("192.0.2.43")]),
            ('host="a\\"b,c";PROTO=HTTPS', [Hop("", "https", 'a"b,c')]),
            ("for=a;for=b", [Hop("a")]),
            ("", []), (" , ,", []), (";", [Hop()]),
        ]:  # fmt: skip
            self.assertEqual(expected, list(forwarded_hops(header)), header)

    def test_nodes(self) -> None:
        """Ports are left out, IPv4 in IPv6 is IPv4; names, hidden nodes and nonsense are no addresses."""
        for text, expected in [
            ("192.0.2.1", "192.0.2.1"), ("192.0.2.1:80", "192.0.2.1"), ("192.0.2.1:_port", "192.0.2.1"),
            ("[2001:db8::1]", "2001:db8::1"), ("[2001:db8::1]:443", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"), ("[::ffff:192.0.2.1]", "192.0.2.1"), ("fe80::1%eth0", "fe80::1"),
        ]:  # fmt: skip
            self.assertEqual(expected, str(parse_node(text)))
        for text in ("", "unknown", "_hidden", "example.org", "192.0.2.1:x", "[192.0.2.1", "1.2.3", "[::1]x"):
            self.assertIsNone(parse_node(text), text)

    @settings(derandomize=True, max_examples=500, deadline=None)
    @given(st.lists(st.tuples(TOKEN, TOKEN, st.text(st.characters(min_codepoint=32, max_codepoint=126)))))
    def test_round_trip(self, hops: list[tuple[str, str, str]]) -> None:
        """What proxies write comes back, whatever stands inside the quotes (commas are few)."""
        hops = [(a, b, c.replace(",", "")) for a, b, c in hops]
        header = ", ".join(f"for={a};proto={b};host={quoted(c)}" for a, b, c in hops)
        expected = [Hop(a, b.lower(), c) for a, b, c in reversed(hops)][:HOPS_LIMIT]
        self.assertEqual(expected, list(forwarded_hops(header)))

    @settings(derandomize=True, max_examples=2000, deadline=None)
    @given(ANYTHING, ADDRESSES, st.sampled_from(["http", "https"]), TOKEN)
    def test_last_proxy(self, before: str, address: str, scheme: str, host: str) -> None:
        """Whatever a client sent, what the last proxy appended is read as it stands."""
        element = f"for={node(address)};proto={scheme};host={quoted(host + '=,')}"
        (first, *_) = forwarded_hops(f"{before}, {element}")
        self.assertEqual(
            (address, scheme, host + "=,"), (str(parse_node_of(first)), first.scheme, first.host)
        )

    def test_time(self) -> None:
        """No header of 64 KiB keeps us busy."""
        for unit in (" ;", ",", '"', '\\"', "a=", "a=b;", 'a="', " ", "for=10.0.0.1,", "; \t;"):
            began = time.process_time()
            list(forwarded_hops((unit * 65_536)[:65_536]))
            origin("10.0.0.1", trusted=PROXIES, Forwarded=(unit * 65_536)[:65_536])
            self.assertLess(time.process_time() - began, 1.0, unit)


def parse_node_of(hop: Hop) -> object:
    """Return the address of a hop as Python writes it."""
    found = parse_node(hop.client)
    mapped = ipaddress.ip_address(hop.client.strip("[]"))
    return mapped if isinstance(mapped, ipaddress.IPv6Address) and mapped.ipv4_mapped else found


class BelievedTests(SynchronousTestCase):
    """Who and what a request is taken for."""

    def test_stranger(self) -> None:
        """Whoever is no trusted proxy cannot say who or what it is."""
        for trusted in ((), PROXIES):
            found = origin(trusted=trusted, Host="r", Forwarded="for=127.0.0.1;proto=https;host=evil")
            self.assertEqual(Origin("http://r", "192.0.2.1", False), found)

    def test_proxy(self) -> None:
        """A trusted proxy tells client, scheme and host."""
        said = 'for="[2001:db8::1]:4711";proto=https;host="r.example:444"'
        found = origin("10.0.0.1", trusted=PROXIES, Host="inner", Forwarded=said)
        self.assertEqual(Origin("https://r.example:444", "2001:db8::1", True), found)

    def test_several_proxies(self) -> None:
        """Hops are believed from right to left; the one next to the client tells how the client came."""
        said = "for=127.0.0.1;proto=https, for=203.0.113.9;proto=http;host=r, for=10.0.0.2;proto=https;host=x"
        found = origin("10.0.0.1", trusted=PROXIES, Host="inner", Forwarded=said)
        self.assertEqual(Origin("http://r", "203.0.113.9", False), found)
        said = "for=203.0.113.9;proto=https;host=r, for=10.0.0.2;proto=http;host=x"
        found = origin("10.0.0.1", trusted=PROXIES, Host="inner", Forwarded=said)
        self.assertEqual(Origin("https://r", "203.0.113.9", True), found)

    def test_all_trusted(self) -> None:
        """Of clients inside a trusted network the furthest is the client, in both headers."""
        found = origin("10.0.0.1", trusted=PROXIES, Host="r", Forwarded="for=10.0.0.9, for=10.0.0.2")
        self.assertEqual("10.0.0.9", found.address)
        found = origin("10.0.0.1", trusted=PROXIES, Host="r", X_Forwarded_For="10.0.0.9, 10.0.0.2:80")
        self.assertEqual("10.0.0.9", found.address)

    def test_hidden_client(self) -> None:
        """A client that its proxy does not name counts as the proxy, but never as one of this machine."""
        for said in ("for=_hidden", "for=unknown;proto=http", "proto=http", ";", "for=203.0.113.9, for=_x"):
            found = origin("127.0.0.1", trusted=("127.0.0.0/8",), Host="r", Forwarded=said)
            self.assertEqual(Origin("http://r", "127.0.0.1", False), found, said)
        found = origin("127.0.0.1", trusted=("127.0.0.0/8",), Host="r", X_Forwarded_For="unknown")
        self.assertFalse(found.is_confidential)
        found = origin("127.0.0.1", trusted=("127.0.0.0/8",), Host="r", Forwarded="for=_x;proto=https")
        self.assertTrue(found.is_confidential)

    def test_older_headers_win(self) -> None:
        """Beside the older headers the other does not count: the proxy may have handed it on."""
        made_up = "for=127.0.0.1;proto=https;host=evil"
        for found in (
            origin("10.0.0.1", trusted=PROXIES, Host="r", Forwarded=made_up, X_Forwarded_For="203.0.113.9"),
            origin("10.0.0.1", trusted=PROXIES, Host="r", Forwarded=made_up, X_Forwarded_Proto="http"),
            origin("127.0.0.1", trusted=("127.0.0.0/8",), Host="r", X_Forwarded_Proto="http"),
        ):
            self.assertEqual(("http://r", False), (found.base_url, found.is_confidential))

    @settings(derandomize=True, max_examples=2000, deadline=None)
    @given(ANYTHING, st.ip_addresses().filter(lambda address: not trusted(address)), st.booleans())
    def test_inventions(self, before: str, client: ipaddress.IPv4Address, is_older: bool) -> None:
        """Whatever a client puts into a header, it is taken for no other, nor its way for a safe one."""
        if is_older:
            clients = f"{before}, {client}"
            found = proxied(X_Forwarded_For=clients, X_Forwarded_Proto="http")
        else:
            found = proxied(Forwarded=f"{before}, for={node(str(client))};proto=http")
        self.assertEqual(str(parse_node(str(client))), found.address)
        self.assertEqual("http://r", found.base_url)
        self.assertEqual(client.is_loopback or is_mapped_loopback(client), found.is_confidential)

    @settings(derandomize=True, max_examples=500, deadline=None)
    @given(ANYTHING, ANYTHING, ANYTHING)
    def test_never_breaks(self, forwarded: str, clients: str, host: str) -> None:
        """Nothing that a proxy sends breaks anything, and an address always comes out."""
        for found in (proxied(Forwarded=forwarded, Host=host), proxied(X_Forwarded_For=clients)):
            ipaddress.ip_address(found.address)
            self.assertNotIn('"', found.base_url)


def proxied(**headers: str) -> Origin:
    """Return the origin of a request that a trusted proxy passes on."""
    return origin("10.0.0.1", trusted=PROXIES, **{"Host": "r", **headers})  # type: ignore[arg-type]  # texts


def trusted(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Tell whether an address is one of the proxies'."""
    found = parse_node(str(address))
    return found is not None and any(
        found.version == network.version and found in network
        for network in map(ipaddress.ip_network, PROXIES)
    )


def is_mapped_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Tell whether an address is IPv4's loopback, written as IPv6."""
    found = parse_node(str(address))
    return found is not None and found.is_loopback
