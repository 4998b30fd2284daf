"""Where a listener of the settings is reached from this machine."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from dataclasses import dataclass, replace

from dockreg_tx.endpoint_strings import endpoint_arguments, ssl_arguments, tls_arguments
from dockreg_tx.listeners import speaks_tls
from dockreg_tx.settings import Settings

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be replaced
_WEB_PORTS = {True: 443, False: 80}


#: What OpenSSL calls the alert of a server that wants a client's certificate: of TLS 1.3, and of older ones.
_CERTIFICATE_WANTED = frozenset(
    {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE", "SSLV3_ALERT_BAD_CERTIFICATE"}
)
#: Paths of a certificate and its key.
Identity = tuple[str, str]


class NotReached(Exception):
    """Nobody answers, or something else than 200; the text says what."""


class CertificateWanted(NotReached):
    """The server is there, and talks only to those who show a certificate that it accepts."""


@dataclass(frozen=True, slots=True)
class Address:
    """A listener: a socket's ``path``, or host and port."""

    host: str
    port: int
    path: str
    is_tls: bool

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}"


def _interface(text: str) -> str:
    """Return the address at which an endpoint listens, as it says it."""
    (kind, *plain), named = endpoint_arguments(text)
    if kind in {"ssl", "tls"}:
        return (ssl_arguments if kind == "ssl" else tls_arguments)(text).get("interface", "")
    default = "::" if kind == "tcp6" else ""
    return named.get("interface", plain[1] if len(plain) > 1 else default)


def reachable_address(text: str, settings: Settings) -> Address | None:
    """Return how this machine reaches a listener; None for kinds that do not tell, such as ``systemd``."""
    plain, named = endpoint_arguments(text)
    if plain[0] == "unix":
        path = named.get("address") or (plain[1] if len(plain) > 1 else "")
        return Address("", 0, path, is_tls=False)
    # The directory of a tls: endpoint comes before its port.
    port = named.get("port") or next((part for part in plain[1:] if part.isdigit()), "")
    if plain[0] not in {"tcp", "tcp6", "ssl", "tls"} or not port.isdigit():
        return None
    interface = _interface(text)
    return Address(_EVERYWHERE.get(interface, interface), int(port), "", speaks_tls(text, settings))


def client_address(text: str, settings: Settings) -> Address | None:
    """Return how clients reach a listener; one for every address by the name of this machine."""
    address = reachable_address(text, settings)
    if address is None or address.path:
        return None
    return replace(address, host=own_name()) if _interface(text) in _EVERYWHERE else address


def own_name() -> str:
    """Return what this machine calls itself, by its whole name if it has one."""
    whole = socket.getfqdn()
    return socket.gethostname() if whole.startswith("localhost") else whole


def ask(address: Address, path: str, *, timeout_seconds: float, identity: Identity | None = None) -> str:
    """Return the body of a 200; ``identity`` is shown to a server that asks for a certificate.

    Raises:
        NotReached: it is another status, or there is no answer in time.
        CertificateWanted: there is none because of our certificate, or because we have none.
    """
    connection = _Connection(address, timeout_seconds, identity)
    try:
        connection.request("GET", path, headers={"Connection": "close", "User-Agent": "dockreg-healthcheck"})
        answer = connection.getresponse()
        body = answer.read(65_536).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        if is_certificate_wanted(error):
            raise CertificateWanted(f"{address} asks for a client's certificate") from error
        raise NotReached(f"{address} does not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise NotReached(f"{address}{path} says {answer.status}: {' '.join(body.split())[:200]}")
    return body


def is_certificate_wanted(error: object) -> bool:
    """Tell whether a connection failed because the server does not accept our certificate, or wants one."""
    return isinstance(error, ssl.SSLError) and error.reason in _CERTIFICATE_WANTED


class _Connection(http.client.HTTPConnection):
    """One request to a listener of any kind."""

    def __init__(self, address: Address, timeout_seconds: float, identity: Identity | None) -> None:
        super().__init__(address.host or "localhost", address.port or None, timeout=timeout_seconds)
        self._address = address
        self._identity = identity

    def connect(self) -> None:
        """Connect; who answers on this machine's own listener needs no certificate that we trust."""
        address = self._address
        if address.path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(address.path)
            return
        super().connect()
        if address.is_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if self._identity is not None:
                context.load_cert_chain(*self._identity)
            self.sock = context.wrap_socket(self.sock, server_hostname=address.host)


def host_and_port(url: str) -> str:
    """Return what image names begin with for a registry at this address."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    if re.search(r":[0-9]+$", host) or "." in host or host == "localhost":
        return host
    # Without a dot or a port it would be a name on Docker Hub.
    return f"{host}:{_WEB_PORTS[scheme == 'https']}"
