"""The certificate that listeners show: read from files, and replaced while connections go on."""

from __future__ import annotations

import os
import re

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate
from twisted.logger import Logger
from zope.interface import implementer

from dockreg_tx.settings import Tls

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_log = Logger(namespace="dockreg")

#: Of each file: which it is, when it was written and how long it is.
Signature = tuple[tuple[int, int, int], ...]


class CertificateUnusable(Exception):
    """Files hold no certificate that can be shown; the text is one line that says why."""


@implementer(IOpenSSLContextFactory)
class ServerCertificate:
    """Gives each new connection the certificate of the moment; those that are open keep theirs.

    Args:
        tls: names the files.

    Raises:
        CertificateUnusable: they cannot be read, or do not belong together.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._seen = self._refused = signature(tls)
        self._context = tls_options(tls).getContext()

    def getContext(self) -> SSL.Context:
        """Return what a connection begins with."""
        return self._context

    def replace(self, tls: Tls) -> None:
        """Show another certificate from now on.

        Raises:
            CertificateUnusable: as at the start; the old one stays.
        """
        seen = signature(tls)
        self._context = tls_options(tls).getContext()
        self._tls, self._seen, self._refused = tls, seen, seen

    def look(self) -> None:
        """Read the files again if they have changed; while they are wrong the old certificate stays."""
        found = signature(self._tls)
        if found == self._seen:
            return
        try:
            self.replace(self._tls)
        except CertificateUnusable as error:
            # A key that is written after its certificate is right the next time.
            if found != self._refused:
                self._refused = found
                _log.error("certificate not replaced, the old one stays in force: {error}", error=error)
            return
        _log.info("certificate replaced by what {path} holds now", path=self._tls.certificate)


def signature(tls: Tls) -> Signature:
    """Return what changes when a file does; of one that is missing, zeros."""
    return tuple(_signature(path) for path in (tls.certificate, tls.key, tls.client_ca) if path)


def _signature(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def tls_options(tls: Tls) -> CertificateOptions:
    """Return the certificate of the settings, its chain and its key; TLS 1.2 or newer.

    Raises:
        CertificateUnusable: one of them cannot be read, or they do not belong together.
    """
    try:
        # What follows the first is what clients need to get from it to an authority they know.
        own, *chain = _pems(tls.certificate) or [b""]
        with open(tls.key, "rb") as file:
            pair = PrivateCertificate.loadPEM(own + b"\n" + file.read())
        authorities = (
            [Certificate.loadPEM(pem).original for pem in _pems(tls.client_ca)] if tls.client_ca else []
        )
        if tls.client_ca and not authorities:
            raise CertificateUnusable(f"[tls]: {tls.client_ca} holds no PEM certificate")
        options = CertificateOptions(
            privateKey=pair.privateKey.original,
            certificate=pair.original,
            extraCertChain=[Certificate.loadPEM(link).original for link in chain],
            verify=bool(authorities),
            requireCertificate=bool(authorities),
            caCerts=authorities or None,
        )
        options.getContext()
    except CertificateUnusable:
        raise
    except OSError as error:
        raise CertificateUnusable(f"[tls]: {error.strerror}: {error.filename}") from None
    except Exception as error:  # noqa: BLE001 - OpenSSL and cryptography have many
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CertificateUnusable(
            f"[tls]: {tls.certificate} and {tls.key} are no PEM certificate with its key ({reason})"
        ) from None
    return options


def _pems(path: str) -> list[bytes]:
    with open(path, "rb") as file:
        return _CERTIFICATE.findall(file.read())
