"""Directories of certificates that ``tls:`` endpoints name: read by Twisted, and again when files change."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.logger import Logger
from zope.interface import implementer

from dockreg_tx.certificates import CertificateUnusable
from dockreg_tx.endpoint_strings import tls_arguments

_log = Logger(namespace="dockreg")


@implementer(IProtocolFactory)
class TlsDirectory:
    """Speaks TLS with the certificates of the moment; connections that are open keep theirs.

    Args:
        text: a ``tls:`` endpoint.
        factory: makes what is spoken inside.
        reactor: Twisted's.

    Raises:
        CertificateUnusable: there is no certificate with its key.
    """

    noisy = False

    def __init__(self, text: str, factory: IProtocolFactory, reactor: Any) -> None:
        self.text = text
        self._factory = factory
        self._reactor = reactor
        self._path = tls_arguments(text)["path"]
        self._seen = self._refused = self._signature()
        self._newest = self.read()

    def read(self) -> IProtocolFactory:
        """Return what speaks TLS with the certificates that are there now; ``show`` takes it.

        Raises:
            CertificateUnusable: there is none with its key.
        """
        if not self._signature():
            reason = f"there is no .pem file in {self._path}" if self._path else "it names no directory"
            raise CertificateUnusable(f"cannot listen on {self.text}: {reason}")
        capture = _Capture(self._reactor)
        try:
            serverFromString(capture, self.text).listen(self._factory)
        except Exception as error:  # noqa: BLE001 - OpenSSL and cryptography have many
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CertificateUnusable(f"cannot listen on {self.text}: {reason}") from None
        return capture.factory

    def show(self, newest: IProtocolFactory) -> None:
        """Have new connections speak with that."""
        self._newest = newest
        self._seen = self._refused = self._signature()

    def look(self) -> None:
        """Read the files again if they have changed; while they are wrong the old certificates stay."""
        found = self._signature()
        if found == self._seen:
            return
        try:
            self.show(self.read())
        except CertificateUnusable as error:
            if found != self._refused:
                self._refused = found
                _log.error("certificates not replaced, the old ones stay in force: {error}", error=error)
            return
        _log.info("certificates replaced by what {path} holds now", path=self._path)

    def _signature(self) -> tuple[tuple[str, int, int, int], ...]:
        try:
            entries = [entry for entry in os.scandir(self._path) if entry.name.endswith(".pem")]
            found = [(entry.name, entry.stat()) for entry in entries]
        except OSError:
            return ()
        return tuple(sorted((name, each.st_ino, each.st_mtime_ns, each.st_size) for name, each in found))

    # --- for twisted

    def doStart(self) -> None:
        """As IProtocolFactory."""
        self._factory.doStart()

    def doStop(self) -> None:
        """As IProtocolFactory."""
        self._factory.doStop()

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """As IProtocolFactory."""
        return self._newest.buildProtocol(addr)


class _Capture:
    """A reactor that does not listen: it keeps what an endpoint puts around a factory."""

    factory: IProtocolFactory

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: IProtocolFactory, **_: object) -> None:
        """As IReactorTCP, but for the port."""
        self.factory = factory
