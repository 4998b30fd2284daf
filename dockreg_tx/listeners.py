"""Listeners: endpoint strings of the settings, bound, with every failure as one line."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure

from dockreg_tx.settings import Settings


class StartRefused(Exception):
    """The server cannot start; the text is one line that says why."""


def check_listeners(reactor: Any, settings: Settings) -> None:
    """Refuse listeners that cannot work, without keeping anything open.

    Raises:
        StartRefused: a malformed endpoint, an unreadable certificate, an address in use.
    """
    for text, endpoint in _endpoints(reactor, settings):
        if isinstance(endpoint, TCP4ServerEndpoint | TCP6ServerEndpoint):
            _probe(text, endpoint)


def bind(reactor: Any, settings: Settings, factory: IProtocolFactory) -> list[IListeningPort]:
    """Listen on every endpoint.

    Raises:
        StartRefused: one of them cannot be bound; none is left open.
    """
    ports: list[IListeningPort] = []
    for text, endpoint in _endpoints(reactor, settings):
        outcome: list[IListeningPort | Failure] = []
        listening: Deferred[IListeningPort] = endpoint.listen(factory)
        listening.addBoth(outcome.append)
        bound = outcome[0] if outcome else Failure(StartRefused("the endpoint does not listen at once"))
        if isinstance(bound, Failure):
            for port in ports:
                port.stopListening()
            raise StartRefused(f"cannot listen on {text}: {_reason(bound.value)}")
        ports.append(bound)
    return ports


def addresses(settings: Settings, ports: list[IListeningPort]) -> list[str]:
    """Return where clients reach these ports, as URLs where that can be said."""
    found = []
    for text, port in zip(settings.server.listen, ports, strict=True):
        address: Any = port.getHost()
        host = getattr(address, "host", None)
        if host is None:
            found.append(text)
            continue
        is_tls = text.startswith(("ssl:", "tls:")) or (
            bool(settings.tls.certificate) and text.startswith("tcp")
        )
        shown = f"[{host}]" if ":" in host else host
        found.append(f"{'https' if is_tls else 'http'}://{shown}:{address.port}")
    return found


def _endpoints(reactor: Any, settings: Settings) -> list[tuple[str, IStreamServerEndpoint]]:
    found = []
    for text in settings.server.listen:
        try:
            found.append((text, serverFromString(reactor, _with_tls(text, settings))))
        except Exception as error:  # noqa: BLE001 - plugins of any origin parse these strings
            raise StartRefused(f"cannot listen on {text!r}: {_reason(error)}") from None
    return found


def _with_tls(text: str, settings: Settings) -> str:
    tls = settings.tls
    if not tls.certificate or not text.startswith("tcp:"):
        return text
    key, certificate = quoteStringArgument(tls.key), quoteStringArgument(tls.certificate)
    return f"ssl:{text.removeprefix('tcp:')}:privateKey={key}:certKey={certificate}"


def _probe(text: str, endpoint: TCP4ServerEndpoint | TCP6ServerEndpoint) -> None:
    """Bind and let go: after a fork the one line would reach nobody."""
    family = socket.AF_INET6 if isinstance(endpoint, TCP6ServerEndpoint) else socket.AF_INET
    if endpoint._port == 0:
        return
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((endpoint._interface or "", endpoint._port))
            probe.listen(1)
        except (OSError, UnicodeError) as error:
            raise StartRefused(f"cannot listen on {text}: {_reason(error)}") from None


def _reason(error: BaseException | None) -> str:
    cause = error.socketError if isinstance(error, CannotListenError) else error
    if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
        return "the address is in use: stop the other program or choose another port"
    if isinstance(cause, OSError) and cause.strerror:
        return f"{cause.strerror}: {cause.filename}" if cause.filename else cause.strerror
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
