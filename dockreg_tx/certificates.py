"""The certificates that listeners show: read from files, and replaced while connections go on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    DiffieHellmanParameters,
    PrivateCertificate,
)
from twisted.logger import Logger
from twisted.python.filepath import FilePath
from zope.interface import implementer

from dockreg_tx.endpoint_strings import ssl_arguments
from dockreg_tx.settings import Settings, Tls

#: How often it is asked whether a certificate was replaced.
CERTIFICATE_INTERVAL_SECONDS = 10.0
#: Of OpenSSL's methods those that lead to TLS 1.2 or newer; the first two let client and server agree.
_METHODS = {"SSLv23_METHOD": "", "TLS_METHOD": "", "TLSv1_2_METHOD": "TLSv1_2_METHOD"}
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_log = Logger(namespace="dockreg")

#: Of each file: which it is, when it was written and how long it is.
Signature = tuple[tuple[int, int, int], ...]


class CertificateUnusable(Exception):
    """Files hold no certificate that can be shown; the text is one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSource:
    """Paths of a certificate and what goes with it; all but the first two may be empty.

    What follows the certificate in its file, or stands in ``chain``, is sent to clients with it.
    """

    #: Who names them, for messages.
    place: str
    certificate: str
    key: str
    client_ca: str = ""
    chain: str = ""
    dh_parameters: str = ""
    #: A protocol by OpenSSL's name; empty for what client and server agree on.
    method: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is read."""
        every = (self.certificate, self.key, self.client_ca, self.chain, self.dh_parameters)
        return tuple(path for path in every if path)

    def signature(self) -> Signature:
        """Return what changes when a file does; of one that is missing, zeros."""
        return tuple(map(_signature, self.files))


def source_of_settings(tls: Tls) -> CertificateSource:
    """Return what ``[tls]`` names."""
    return CertificateSource(place="[tls]", certificate=tls.certificate, key=tls.key, client_ca=tls.client_ca)


def source_of_endpoint(text: str) -> CertificateSource:
    """Return what an ``ssl:`` endpoint names."""
    found = ssl_arguments(text)
    return CertificateSource(
        place=f"cannot listen on {text}",
        certificate=found["certKey"],
        key=found["privateKey"],
        chain=found.get("extraCertChain", ""),
        dh_parameters=found.get("dhParameters", ""),
        method=found.get("sslmethod", ""),
    )


@implementer(IOpenSSLContextFactory)
class ServerCertificate:
    """Gives each new connection the certificate of the moment; those that are open keep theirs.

    Args:
        source: names the files.

    Raises:
        CertificateUnusable: they cannot be read, or do not belong together.
    """

    def __init__(self, source: CertificateSource) -> None:
        self.source = source
        self._seen = self._refused = source.signature()
        self._context = tls_options(source).getContext()

    def getContext(self) -> SSL.Context:
        """Return what a connection begins with."""
        return self._context

    def become(self, other: ServerCertificate) -> None:
        """Show what another one shows from now on."""
        self.source, self._context = other.source, other._context
        self._seen, self._refused = other._seen, other._refused

    def look(self) -> None:
        """Read the files again if they have changed; while they are wrong the old certificate stays."""
        found = self.source.signature()
        if found == self._seen:
            return
        try:
            self.become(ServerCertificate(self.source))
        except CertificateUnusable as error:
            # A key that is written after its certificate is right the next time.
            if found != self._refused:
                self._refused = found
                _log.error("certificate not replaced, the old one stays in force: {error}", error=error)
            return
        _log.info("certificate replaced by what {path} holds now", path=self.source.certificate)


class Directory(Protocol):
    """A directory of certificates: what is ``read`` can be ``shown``."""

    def read(self) -> Any:
        """Read it; raises CertificateUnusable."""

    def show(self, newest: Any) -> None:
        """Show what was read."""

    def look(self) -> None:
        """Read and show it if it has changed."""


class Certificates:
    """Every certificate that listeners of a server show.

    Args:
        settings: name them, in ``[tls]`` and in ``ssl:`` endpoints.

    Raises:
        CertificateUnusable: as ``ServerCertificate``.
    """

    def __init__(self, settings: Settings) -> None:
        self.of_settings = (
            ServerCertificate(source_of_settings(settings.tls)) if settings.tls.certificate else None
        )
        texts = (*settings.server.listen, settings.server.metrics_listen)
        self.of_endpoints = {
            text: ServerCertificate(source_of_endpoint(text)) for text in texts if text.startswith("ssl:")
        }

        #: Those of ``tls:`` endpoints, once they listen.
        self.directories: list[Directory] = []

    def __bool__(self) -> bool:
        return bool(self.of_settings or self.of_endpoints or self.directories)

    def look(self) -> None:
        """Replace those whose files have changed."""
        for each in (self.of_settings, *self.of_endpoints.values(), *self.directories):
            if each is not None:
                each.look()

    def replace(self, settings: Settings) -> None:
        """Read all of them again, those of ``[tls]`` where the settings say now.

        Raises:
            CertificateUnusable: as at the start; all old ones stay.
        """
        pairs = [
            (each, ServerCertificate(source_of_endpoint(text))) for text, each in self.of_endpoints.items()
        ]
        if self.of_settings is not None and settings.tls.certificate:
            pairs.append((self.of_settings, ServerCertificate(source_of_settings(settings.tls))))
        newest = [(each, each.read()) for each in self.directories]
        for old, new in pairs:
            old.become(new)
        for directory, new in newest:
            directory.show(new)


def _signature(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def tls_options(source: CertificateSource) -> CertificateOptions:
    """Return a certificate, its chain and its key; TLS 1.2 or newer.

    Raises:
        CertificateUnusable: one of them cannot be read, or they do not belong together.
    """
    try:
        options = _options(source)
        options.getContext()
    except CertificateUnusable:
        raise
    except OSError as error:
        raise CertificateUnusable(f"{source.place}: {error.strerror}: {error.filename}") from None
    except Exception as error:  # noqa: BLE001 - OpenSSL and cryptography have many
        raise CertificateUnusable(
            f"{source.place}: {source.certificate} and {source.key} are no PEM certificate with its key "
            f"({_reason(error)})"
        ) from None
    return options


def _reason(error: Exception) -> str:
    """Return what an error says, of OpenSSL's the last part of each."""
    parts = error.args[0] if error.args else None
    if isinstance(parts, list):
        return ", ".join(str(part[-1]) for part in parts) or type(error).__name__
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _options(source: CertificateSource) -> CertificateOptions:
    method = _METHODS.get(source.method, "")
    if source.method and source.method not in _METHODS:
        raise CertificateUnusable(
            f"{source.place}: sslmethod {source.method} is not spoken here: leave it out for TLS 1.2 or newer"
        )
    own, *chain = _some_pems(source.certificate, source)
    with open(source.key, "rb") as file:
        key = file.read()
    if b"PRIVATE KEY-----" not in key:
        raise CertificateUnusable(f"{source.place}: {source.key} holds no PEM key")
    pair = PrivateCertificate.loadPEM(own + b"\n" + key)
    if source.chain:
        chain = _some_pems(source.chain, source)
    authorities = [_loaded(pem) for pem in _some_pems(source.client_ca, source)] if source.client_ca else []
    more: dict[str, Any] = {"method": getattr(SSL, method)} if method else {}
    if source.dh_parameters:
        more["dhParameters"] = DiffieHellmanParameters.fromFile(FilePath(source.dh_parameters))
    return CertificateOptions(
        privateKey=pair.privateKey.original,
        certificate=pair.original,
        # What clients need to get from it to an authority they know.
        extraCertChain=[_loaded(pem) for pem in chain],
        verify=bool(authorities),
        requireCertificate=bool(authorities),
        caCerts=authorities or None,
        **more,
    )


def _loaded(pem: bytes) -> Any:
    return Certificate.loadPEM(pem).original


def _some_pems(path: str, source: CertificateSource) -> list[bytes]:
    found = _pems(path)
    if not found:
        raise CertificateUnusable(f"{source.place}: {path} holds no PEM certificate")
    return found


def _pems(path: str) -> list[bytes]:
    with open(path, "rb") as file:
        return _CERTIFICATE.findall(file.read())
