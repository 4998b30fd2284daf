"""Listeners other than plain TCP: TLS by endpoint and by settings, and a Unix socket."""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import socket
import ssl
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from tests.integration.server import RegistryProcess, free_port
from tests.integration.sockets import MIB, Connection, basic, digest_of_blocks
from tests.integration.test_process import ProcessTestCase

SIZE = 48 * MIB


def write_certificate(directory: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 and localhost, and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dockreg test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address, x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = directory / "certificate.pem", directory / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_path, key_path


class TlsTests(ProcessTestCase):
    def setUp(self) -> None:
        """Make a certificate."""
        super().setUp()
        self.certificate, self.key = write_certificate(self.directory)
        self.port = free_port()

    def connect(self, who: str = "") -> Connection:
        """Return a TLS connection."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        client = Connection(
            self.port, who, wrap=lambda plain: context.wrap_socket(plain, server_hostname="127.0.0.1")
        )
        self.addCleanup(client.close)
        return client

    def round_trip(self, server: RegistryProcess) -> None:
        """Push and pull a blob over TLS."""
        self.addCleanup(server.kill)
        server.start()
        self.assertIn(f"dockreg ready on https://127.0.0.1:{self.port}", server.ready_line)
        client, digest = self.connect(basic("admin", server.admin_password)), digest_of_blocks(SIZE)
        location = client.request("POST", "/v2/tls/blobs/uploads/").headers["location"]
        client.send_head("PUT", f"{location}?digest={digest}", {"Content-Length": str(SIZE)})
        client.send_blocks(SIZE)
        self.assertEqual(201, client.answer().status)
        client.send_head("GET", f"/v2/tls/blobs/{digest}")
        self.assertEqual(200, client.head().status)
        self.assertEqual(digest, client.digest_of_body(SIZE))
        client.close()
        server.stop()

    def test_endpoint(self) -> None:
        """An ``ssl:`` endpoint serves."""
        listen = f"ssl:{self.port}:interface=127.0.0.1:privateKey={self.key}:certKey={self.certificate}"
        self.round_trip(RegistryProcess(self.directory / "root", port=self.port, listen=listen))

    def test_settings(self) -> None:
        """With certificate and key in the settings a ``tcp:`` endpoint speaks TLS."""
        config = self.directory / "dockreg.toml"
        config.write_text(f'[tls]\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n')
        options = ["--config", str(config)]
        self.round_trip(RegistryProcess(self.directory / "root", port=self.port, options=options))

    def test_chain_and_ipv6(self) -> None:
        """What follows the certificate in its file is sent to clients, and ``tcp6:`` speaks TLS too."""
        chain = self.directory / "chain.pem"
        (self.directory / "authority").mkdir()
        authority, _ = write_certificate(self.directory / "authority")
        chain.write_bytes(self.certificate.read_bytes() + authority.read_bytes())
        config = self.directory / "dockreg.toml"
        config.write_text(f'[tls]\ncertificate = "{chain}"\nkey = "{self.key}"\n')
        listen = f"tcp6:{self.port}:interface=\\:\\:1"
        server = RegistryProcess(self.directory / "root", listen=listen, options=["--config", str(config)])
        self.addCleanup(server.kill)
        server.start()
        self.assertIn(f"dockreg ready on https://[::1]:{self.port}", server.ready_line)
        client = SSL.Connection(
            SSL.Context(SSL.TLS_CLIENT_METHOD), socket.create_connection(("::1", self.port))
        )
        self.addCleanup(client.close)
        client.set_connect_state()
        client.do_handshake()
        shown = [link.to_cryptography() for link in client.get_peer_cert_chain() or ()]
        self.assertEqual(x509.load_pem_x509_certificates(chain.read_bytes()), shown)
        began = time.monotonic()
        server.stop()
        # This client does not say goodbye.
        self.assertLess(time.monotonic() - began, 15.0)


class UnixTests(ProcessTestCase):
    def test_unix_socket(self) -> None:
        """A Unix socket serves."""
        path = self.directory / "socket"
        server = RegistryProcess(self.directory / "root", listen=f"unix:{path}")
        self.addCleanup(server.kill)
        server.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 200 "))
        server.stop()


class QueueTests(ProcessTestCase):
    def test_burst(self) -> None:
        """Who comes in a burst waits for the server alone: the kernel turns nobody away for a second."""
        server = RegistryProcess(self.directory / "root")
        self.addCleanup(server.kill)
        server.start()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            clients = [socket.create_connection(("127.0.0.1", server.port), timeout=0.9) for _ in range(300)]
        finally:
            os.kill(server.pid, signal.SIGCONT)
        for client in clients:
            client.close()
        server.stop()
