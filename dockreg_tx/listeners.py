"""Listeners: endpoint strings of the settings, bound, with every failure as one line."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from dockreg_tx.certificates import Certificates, CertificateUnusable
from dockreg_tx.endpoint_strings import with_backlog, without_tls
from dockreg_tx.settings import Settings
from dockreg_tx.tls_directories import TlsDirectory

_LARGEST_PORT = 65535
#: With Twisted's 50, a crowd that comes at once has connections dropped, and tries again a second later.
#: More than net.core.somaxconn the kernel does not give.
WAITING_CONNECTIONS = 4096
ParseEndpoint = Callable[[Any, str], IStreamServerEndpoint]


class StartRefused(Exception):
    """The server cannot start; the text is one line that says why."""


def check_listeners(reactor: Any, settings: Settings) -> None:
    """Refuse listeners that cannot work, without keeping anything open.

    Raises:
        StartRefused: a malformed endpoint, an unreadable certificate, an address in use.
    """
    check_certificates(reactor, settings)
    for text in (*settings.server.listen, *filter(None, [settings.server.metrics_listen])):
        endpoint = _endpoint(reactor, text)
        if isinstance(endpoint, TCP4ServerEndpoint | TCP6ServerEndpoint):
            _probe(text, endpoint)


def check_certificates(reactor: Any, settings: Settings) -> None:
    """Refuse certificates that cannot be read.

    Raises:
        StartRefused: with one line.
    """
    certificates = certificates_of(settings)
    for text in (*settings.server.listen, *filter(None, [settings.server.metrics_listen])):
        _endpoint(reactor, text)
        _secured(text, Factory(), certificates, reactor)


def bind(
    reactor: Any,
    settings: Settings,
    factory: IProtocolFactory,
    parse: ParseEndpoint = serverFromString,
    certificates: Certificates | None = None,
) -> list[IListeningPort]:
    """Listen on every endpoint.

    Args:
        reactor: where the ports live.
        settings: name the endpoints.
        factory: serves them.
        parse: makes an endpoint of its string.
        certificates: to be shown; None for bare sockets, whatever is to be spoken there.

    Raises:
        StartRefused: one of them cannot be bound; none is left open.
    """
    ports: list[IListeningPort] = []
    for text in settings.server.listen:
        try:
            endpoint = _endpoint(reactor, text, parse)
            secured = factory if certificates is None else _secured(text, factory, certificates, reactor)
            ports.append(_listen(text, endpoint, secured))
        except StartRefused:
            for port in ports:
                port.stopListening()
            raise
    return ports


def _secured(
    text: str, factory: IProtocolFactory, certificates: Certificates, reactor: Any
) -> IProtocolFactory:
    """Return what speaks TLS on this listener; where it takes none, what serves itself.

    Raises:
        StartRefused: it has no certificate to show.
    """
    if text.startswith("tls:"):
        try:
            directory = TlsDirectory(text, factory, reactor)
        except CertificateUnusable as error:
            raise StartRefused(str(error)) from None
        certificates.directories.append(directory)
        return directory
    certificate = certificates.of_endpoints.get(text)
    if certificate is None and _is_tcp(text):
        certificate = certificates.of_settings
    if certificate is None:
        return factory
    return TLSMemoryBIOFactory(certificate, False, factory, clock=reactor)


def _listen(text: str, endpoint: IStreamServerEndpoint, factory: IProtocolFactory) -> IListeningPort:
    outcome: list[IListeningPort | Failure] = []
    listening: Deferred[IListeningPort] = endpoint.listen(factory)
    listening.addBoth(outcome.append)
    bound = outcome[0] if outcome else Failure(StartRefused("the endpoint does not listen at once"))
    if isinstance(bound, Failure):
        raise StartRefused(f"cannot listen on {text}: {_reason(bound.value)}")
    return bound


def bind_metrics(
    reactor: Any, settings: Settings, factory: IProtocolFactory, certificates: Certificates
) -> list[IListeningPort]:
    """Listen where the settings want ``/metrics`` alone; plain, unless its endpoint string says otherwise.

    Raises:
        StartRefused: it cannot be bound.
    """
    text = settings.server.metrics_listen
    if not text:
        return []
    # [tls] is not for this one.
    secured = factory if _is_tcp(text) else _secured(text, factory, certificates, reactor)
    return [_listen(text, _endpoint(reactor, text), secured)]


def addresses(settings: Settings, ports: list[IListeningPort]) -> list[str]:
    """Return where clients reach these ports, as URLs where that can be said."""
    found = []
    for text, port in zip(settings.server.listen, ports, strict=True):
        address: Any = port.getHost()
        host = getattr(address, "host", None)
        if host is None:
            found.append(text)
            continue
        shown = f"[{host}]" if ":" in host else host
        scheme = "https" if speaks_tls(text, settings) else "http"
        found.append(f"{scheme}://{shown}:{address.port}")
    return found


def speaks_tls(text: str, settings: Settings) -> bool:
    """Tell whether the listener of this endpoint string takes TLS."""
    return text.startswith(("ssl:", "tls:")) or (bool(settings.tls.certificate) and _is_tcp(text))


def _is_tcp(text: str) -> bool:
    if text.startswith("systemd:"):
        return "domain=UNIX" not in text and not text.startswith("systemd:UNIX")
    return text.startswith(("tcp:", "tcp6:"))


def _endpoint(reactor: Any, text: str, parse: ParseEndpoint = serverFromString) -> IStreamServerEndpoint:
    """Return the endpoint of a string; of kinds with TLS the socket, for their certificates stay for good."""
    try:
        return parse(reactor, with_backlog(without_tls(text), WAITING_CONNECTIONS))
    except LookupError:
        raise StartRefused(f"cannot listen on {text!r}: no such socket was passed to us") from None
    except Exception as error:  # noqa: BLE001 - plugins of any origin parse these strings
        raise StartRefused(f"cannot listen on {text!r}: {_malformed(error)}") from None


def _malformed(error: Exception) -> str:
    """Say what is wrong with an endpoint string; Python's words about functions and literals help nobody."""
    if isinstance(error, TypeError):
        reason = "its kind takes other arguments"
    elif str(error).startswith("invalid literal for int()"):
        reason = f"{str(error).rpartition(': ')[2]} is no number"
    elif isinstance(error, ValueError):
        reason = _reason(error)
    else:
        return _reason(error)
    return f"{reason}; write for example tcp:5000:interface=127.0.0.1"


def certificates_of(settings: Settings) -> Certificates:
    """Return the certificates of the settings.

    Raises:
        StartRefused: one of them cannot be shown.
    """
    try:
        return Certificates(settings)
    except CertificateUnusable as error:
        raise StartRefused(str(error)) from None


def _probe(text: str, endpoint: TCP4ServerEndpoint | TCP6ServerEndpoint) -> None:
    """Bind and let go: after a fork the one line would reach nobody."""
    family = socket.AF_INET6 if isinstance(endpoint, TCP6ServerEndpoint) else socket.AF_INET
    if endpoint._port == 0:
        return
    if not 0 < endpoint._port <= _LARGEST_PORT:
        raise StartRefused(f"cannot listen on {text}: there is no port {endpoint._port}")
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((endpoint._interface or "", endpoint._port))
            probe.listen(1)
        except (OSError, UnicodeError) as error:
            raise StartRefused(f"cannot listen on {text}: {_reason(error)}") from None


def _reason(error: BaseException | None) -> str:
    cause = error.socketError if isinstance(error, CannotListenError) else error
    # Twisted takes a lock beside a socket's path.
    is_locked = isinstance(error, CannotListenError) and str(cause) == "Cannot acquire lock"
    if is_locked or (isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE):
        return "the address is in use: stop the other program or choose another port"
    if isinstance(cause, OSError) and cause.strerror:
        # The lock beside a socket's path is a symbolic link to a pid: that is its "file name".
        named = isinstance(cause.filename, str) and not cause.filename.isdigit()
        return f"{cause.strerror}: {cause.filename}" if named else cause.strerror
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
