"""TLS of a running server: certificates replaced under load, old versions refused, clients' certificates."""

from __future__ import annotations

import os
import signal
import ssl
import threading
import time
from pathlib import Path

from tests.integration.server import RegistryProcess, free_port
from tests.integration.sockets import Connection
from tests.integration.test_listeners import write_certificate
from tests.integration.test_process import ProcessTestCase

DEADLINE_SECONDS = 20.0


class Load:
    """A client that opens one connection after the other, two requests on each."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered = 0
        self.failures: list[str] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        context = trusting()
        while not self._is_over.wait(0.01):
            try:
                with Connection(self.port, wrap=context.wrap_socket) as client:
                    for _ in range(2):
                        answer = client.request("GET", "/healthz")
                        self.answered += answer.status == 200
                        if answer.headers.get("connection") == "close":
                            # A worker that is being replaced answers no second one.
                            break
            except Exception as error:  # noqa: BLE001 - whatever it is, a request has failed
                self.failures.append(repr(error))

    def end(self) -> None:
        """Ask no more."""
        self._is_over.set()
        self._thread.join()


def trusting() -> ssl.SSLContext:
    """Return what takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class CertificateCase(ProcessTestCase):
    """A server with a certificate of its own."""

    def setUp(self) -> None:
        """Make a certificate, and settings that name it."""
        super().setUp()
        self.certificate, self.key = write_certificate(self.directory)
        self.config = self.directory / "dockreg.toml"
        self.write_settings()
        self.port = free_port()

    def write_settings(self, more: str = "") -> None:
        """Write the settings."""
        self.config.write_text(f'[tls]\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n{more}')

    def endpoint(self, port: int) -> str:
        """Return an endpoint string that names the files itself."""
        return f"ssl:{port}:{self.key}:certKey={self.certificate}:interface=127.0.0.1"

    def start(self, workers: int = 1, listen: str = "") -> RegistryProcess:
        """Start a server."""
        options = ["--config", str(self.config), "--workers", str(workers)]
        server = RegistryProcess(self.directory / "root", port=self.port, options=options, listen=listen)
        self.addCleanup(server.kill)
        server.start()
        return server


class CertificateTests(CertificateCase):
    def shown(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Return the certificate that a new connection gets."""
        return ssl.get_server_certificate((host, port or self.port))

    def replace(self) -> str:
        """Replace the certificate as certbot does, and return it."""
        directory = self.directory / "next"
        directory.mkdir(exist_ok=True)
        for new, old in zip(write_certificate(directory), (self.certificate, self.key), strict=True):
            os.replace(new, old)
        return Path(self.certificate).read_text()

    def wait_until_shown(self, certificate: str, port: int = 0, host: str = "127.0.0.1") -> None:
        """Return when a new connection gets this certificate."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.shown(port, host) != certificate:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)

    def check_replacing(self, workers: int, listen: str = "", metrics_port: int = 0) -> None:
        """Replace the certificate by SIGHUP and by nothing but the file, under load."""
        server = self.start(workers, listen)
        load = Load(self.port)
        for sends_signal in (True, False):
            certificate = self.replace()
            if sends_signal:
                os.kill(server.pid, signal.SIGHUP)
            self.wait_until_shown(certificate)
            if metrics_port:
                self.wait_until_shown(certificate, metrics_port)
        load.end()
        self.assertEqual([], load.failures)
        self.assertGreater(load.answered, 50)
        server.stop()

    def test_replacing(self) -> None:
        """No request fails while one process gets other certificates."""
        self.check_replacing(1)

    def test_replacing_with_workers(self) -> None:
        """No request fails while workers get other certificates."""
        self.check_replacing(2)

    def test_replacing_of_endpoints(self) -> None:
        """Certificates of ``ssl:`` endpoints are replaced too, that of the listener for metrics included."""
        metrics_port = free_port()
        self.config.write_text(f'[server]\nmetrics_listen = "{self.endpoint(metrics_port)}"\n')
        self.check_replacing(2, self.endpoint(self.port), metrics_port)

    def test_directory(self) -> None:
        """Certificates in the directory of a ``tls:`` endpoint are replaced, too."""
        directory = self.directory / "pem"
        directory.mkdir()
        pem, port = directory / "any.pem", free_port()
        pem.write_bytes(self.certificate.read_bytes() + self.key.read_bytes())
        server = self.start(1, f"tls:{directory}:port={port}:interface=\\:\\:1")
        for sends_signal in (True, False):
            certificate = self.replace()
            (self.directory / "both").write_text(certificate + self.key.read_text())
            os.replace(self.directory / "both", pem)
            if sends_signal:
                os.kill(server.pid, signal.SIGHUP)
            self.wait_until_shown(certificate, port, "::1")
        server.stop()

    def test_directory_on_ipv4(self) -> None:
        """A ``tls:`` endpoint listens on an interface of IPv4 as well."""
        directory = self.directory / "pem"
        directory.mkdir()
        (directory / "any.pem").write_bytes(self.certificate.read_bytes() + self.key.read_bytes())
        server = self.start(1, f"tls:{directory}:port={self.port}:interface=127.0.0.1")
        self.assertEqual(self.certificate.read_text(), self.shown())
        server.stop()

    def test_unusable(self) -> None:
        """A key that does not fit is named, and the old certificate stays."""
        server = self.start()
        before = self.shown()
        (self.directory / "other").mkdir()
        _, key = write_certificate(self.directory / "other")
        os.replace(key, self.key)
        os.kill(server.pid, signal.SIGHUP)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not any("settings not reloaded" in line for line in server.output):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.assertEqual(before, self.shown())
        server.stop()

    def test_old_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken, 1.0 and 1.1 refused."""
        server = self.start()
        for version, is_spoken in (
            (ssl.TLSVersion.TLSv1, False),
            (ssl.TLSVersion.TLSv1_1, False),
            (ssl.TLSVersion.TLSv1_2, True),
            (ssl.TLSVersion.TLSv1_3, True),
        ):
            context = trusting()
            # Or OpenSSL would refuse the old ones on our side.
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
            try:
                with Connection(self.port, wrap=context.wrap_socket) as client:
                    self.assertEqual(200, client.request("GET", "/healthz").status)
                self.assertTrue(is_spoken, version)
            except OSError as error:
                self.assertFalse(is_spoken, f"{version}: {error}")
        server.stop()

    def test_clients_certificates(self) -> None:
        """With an authority for clients, only those with its certificate get an answer."""
        (self.directory / "client").mkdir()
        authority, key = write_certificate(self.directory / "client")
        self.write_settings(f'client_ca = "{authority}"\n')
        server = self.start()
        for certificate, private, is_known in ((authority, key, True), (self.certificate, self.key, False)):
            context = trusting()
            context.load_cert_chain(certificate, private)
            try:
                with Connection(self.port, wrap=context.wrap_socket) as client:
                    self.assertEqual(200, client.request("GET", "/healthz").status)
                self.assertTrue(is_known)
            except (OSError, EOFError):
                self.assertFalse(is_known)
        with self.assertRaises(Exception), Connection(self.port, wrap=trusting().wrap_socket) as client:  # noqa: B017
            client.request("GET", "/healthz")
        server.stop()
