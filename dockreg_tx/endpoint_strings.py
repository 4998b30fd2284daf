"""Endpoint strings taken apart, as far as Twisted's own parser keeps to itself what we need to know."""

from __future__ import annotations

import re
from collections.abc import Mapping

from twisted.internet.abstract import isIPAddress
from twisted.internet.endpoints import quoteStringArgument

#: Arguments of ``ssl:`` by their position.
_SSL_ARGUMENTS = (
    "port", "privateKey", "certKey", "sslmethod", "interface", "backlog", "extraCertChain", "dhParameters",
)  # fmt: skip
#: And of ``tls:``, which listens on IPv6, and with it on IPv4, unless its interface is an IPv4 address.
_TLS_ARGUMENTS = ("path", "port", "backlog", "interface")
_OF_THE_SOCKET = ("port", "interface", "backlog")
_WITH_BACKLOG = ("tcp", "tcp6", "unix")
#: Where these have it, their kind being the first.
_BACKLOG_POSITION = 3
#: Where ``ssl:`` looks for a key.
_KEY = "server.pem"


def endpoint_arguments(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the positional and the named arguments of an endpoint string, its kind being the first."""
    parts = [re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\):", text)]
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    return [part for part in parts if "=" not in part], named


def ssl_arguments(text: str) -> Mapping[str, str]:
    """Return all arguments of an ``ssl:`` endpoint by name, those for key and certificate in any case."""
    (_, *plain), named = endpoint_arguments(text)
    found = {"privateKey": _KEY, **dict(zip(_SSL_ARGUMENTS, plain, strict=False)), **named}
    return {"certKey": found["privateKey"], **found}


def tls_arguments(text: str) -> Mapping[str, str]:
    """Return all arguments of a ``tls:`` endpoint by name, its directory and port in any case."""
    (_, *plain), named = endpoint_arguments(text)
    return {"path": "", "port": "443", **dict(zip(_TLS_ARGUMENTS, plain, strict=False)), **named}


def without_tls(text: str) -> str:
    """Return an endpoint string for the plain socket of ``ssl:`` and ``tls:``; others are as they were."""
    if text.startswith("ssl:"):
        kind, found = "tcp", ssl_arguments(text)
    elif text.startswith("tls:"):
        found = tls_arguments(text)
        kind = "tcp" if isIPAddress(found.get("interface", "")) else "tcp6"
    else:
        return text
    kept = [f"{name}={quoteStringArgument(found[name])}" for name in _OF_THE_SOCKET if name in found]
    return ":".join([kind, *kept])


def with_backlog(text: str, connections: int) -> str:
    """Return an endpoint string of a socket that lets so many connections wait, or as many as it says."""
    plain, named = endpoint_arguments(text)
    if plain[0] not in _WITH_BACKLOG or "backlog" in named or len(plain) > _BACKLOG_POSITION:
        return text
    return f"{text}:backlog={connections}"
