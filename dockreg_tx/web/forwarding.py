"""What proxies say of a request that they pass on: ``Forwarded`` (RFC 7239) and ``X-Forwarded-*``.

Here it is read only; whom to believe is ``origin``'s matter.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Proxies in a row that are looked at; more are of no network, but of who wants to keep us busy.
HOPS_LIMIT = 32
#: No element that a proxy writes is longer, or holds more commas (inside quotes).
_ELEMENT_LIMIT_CHARACTERS = 1024
_COMMAS_LIMIT = 8

_PAIR = r'[!#$%&\'*+.^_`|~0-9A-Za-z-]+=(?:[!#$%&\'*+.^_`|~0-9A-Za-z-]+|"(?:[^"\\]|\\.)*")'
# Possessive: a run of blanks is never divided again, or a header made for it would keep us busy for ever.
_ELEMENT = re.compile(rf"[ \t]*+(?:{_PAIR})?(?:[ \t]*+;[ \t]*+(?:{_PAIR})?)*+[ \t]*+")
_EACH_PAIR = re.compile(_PAIR)
_ESCAPED = re.compile(r"\\(.)")
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a request's way, as the proxy at its end describes it; empty where that says nothing."""

    #: Who sent it to the proxy.
    client: str = ""
    scheme: str = ""
    host: str = ""


def forwarded_hops(header: str) -> Iterator[Hop]:
    """Yield the hops of a ``Forwarded`` header from right to left, as far as they can be read.

    Every proxy appends to what it was sent, which may be anything: an open quote, say, to swallow what is
    appended. So elements are taken from the end, each the shortest one that is well-formed, and what stands
    before it does not matter.
    """
    rest: str | None = header
    for _ in range(HOPS_LIMIT):
        if rest is None:
            return
        element, rest = _last_element(rest)
        if element is None:
            return
        if element.strip(" \t"):
            yield _hop(element)


def parse_node(text: str) -> Address | None:
    """Return the address of a node, without its port; None for ``unknown``, obfuscated ones and nonsense.

    Takes ``192.0.2.1``, ``192.0.2.1:80``, ``[2001:db8::1]:80`` and, as ``X-Forwarded-For`` has it, bare IPv6.
    """
    match = _NODE.fullmatch(text.strip(" \t"))
    bare = text if match is None else match[1] or match[2]
    return parse_address(bare.strip(" \t"))


def parse_address(text: str) -> Address | None:
    """Return an address without its zone, IPv4 in IPv6 as IPv4; None when it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _last_element(text: str) -> tuple[str | None, str | None]:
    """Return the last element, and what stands before its comma; None for either that there is not."""
    end = len(text)
    for _ in range(_COMMAS_LIMIT + 1):
        comma = text.rfind(",", max(len(text) - _ELEMENT_LIMIT_CHARACTERS, 0), end)
        if comma < 0 and len(text) > _ELEMENT_LIMIT_CHARACTERS:
            return None, None
        element = text[comma + 1 :]
        if _ELEMENT.fullmatch(element) is not None:
            return element, text[:comma] if comma >= 0 else None
        if comma < 0:
            return None, None
        end = comma
    return None, None


def _hop(element: str) -> Hop:
    values: dict[str, str] = {}
    for pair in _EACH_PAIR.findall(element):
        name, _, value = pair.partition("=")
        if value.startswith('"'):
            value = _ESCAPED.sub(r"\1", value[1:-1])
        # Each name may stand once (section 4); of more the first counts.
        values.setdefault(name.lower(), value)
    return Hop(values.get("for", ""), values.get("proto", "").lower(), values.get("host", ""))
