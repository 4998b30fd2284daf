"""``dockreg doctor`` and ``dockreg healthcheck``."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dockreg_tx.cli.certificate import CertificateFiles, check_certificate
from dockreg_tx.cli.endpoint import host_and_port, own_name, reachable_address
from dockreg_tx.cli.findings import State
from dockreg_tx.settings import load_settings
from tests.cli.case import CommandCase
from tests.integration.test_listeners import write_certificate

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def certificate(directory: Path, *names: str, days: int = 90) -> CertificateFiles:
    """Write a certificate that signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=9))
        .not_valid_after(NOW + timedelta(days=days))
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(alternatives, critical=False)
    found = CertificateFiles(str(directory / "cert.pem"), str(directory / "key.pem"))
    Path(found.certificate).write_bytes(
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    Path(found.key).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return found


@contextmanager
def answering(listener: socket.socket, status: bytes) -> Iterator[None]:
    """Answer one request on a socket that listens."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)
        listener.close()


class DoctorTests(CommandCase):
    """A registry that does not run."""

    def setUp(self) -> None:
        """Make the root ready."""
        super().setUp()
        self.done("init")
        os.chmod(self.root, 0o750)

    def checks(self, **environ: str) -> dict[str, list[str]]:
        """Return the states of all checks by name."""
        result = self.run_command("doctor", "--json", **environ)
        import json

        self.document: Any = json.loads(result.stdout)
        found: dict[str, list[str]] = {}
        for check in self.document["checks"]:
            found.setdefault(check["name"], []).append(check["state"])
        failed = any("fail" in states for states in found.values())
        self.assertEqual(int(failed), result.exit_code, result.output)
        return found

    def test_sound(self) -> None:
        """Nothing fails where nothing is wrong; a server that does not run is a warning."""
        found = self.checks(DOCKREG_SERVER_LISTEN="tcp:1:interface=127.0.0.1")
        self.assertEqual(["warn"], found["server"])
        self.assertEqual([], [name for name, states in found.items() if "fail" in states])
        self.assertEqual({"ok"}, set(found["root"] + found["clock"] + found["version"] + found["sqlite"]))

    def test_root(self) -> None:
        """An open root is a warning, a newer one and a full disk fail."""
        os.chmod(self.root, 0o755)
        self.assertEqual(["warn", "ok"], self.checks()["root"])
        self.assertEqual(["fail"], self.checks(DOCKREG_STORAGE_LOW_WATER="900000TiB")["disk"])
        Path(self.root, "format").write_text('{"version": 99, "instance_id": "x"}')
        self.assertEqual(["fail"], self.checks()["root"])
        self.assertEqual(["warn"], self.checks(DOCKREG_STORAGE_ROOT=self.mktemp())["root"])

    def test_database(self) -> None:
        """A damaged database fails, and says what mends it."""
        self.assertEqual(["ok"], self.checks()["database"])
        Path(self.root, "registry.db").write_bytes(b"no database" * 1000)
        self.assertEqual(["fail"], self.checks()["database"])
        self.assertIn("rebuild-index", self.run_command("doctor").stdout)

    def test_clock(self) -> None:
        """A registry that was last used in the future tells of a clock that went back."""
        os.utime(Path(self.root, "registry.db"), (2**32, 2**32))
        self.assertEqual(["fail"], self.checks()["clock"])

    def test_hosts(self) -> None:
        """The lines for docker, podman and containerd name exactly what clients type."""
        self.checks(DOCKREG_SERVER_PUBLIC_URL="http://192.0.2.1:5000", DOCKREG_SERVER_LISTEN="tcp:1")
        lines = self.document["hosts"]
        self.assertIn('{ "insecure-registries": ["192.0.2.1:5000"] }', lines["docker"])
        self.assertIn('location = "192.0.2.1:5000"', lines["podman"])
        self.assertIn('server = "http://192.0.2.1:5000"', lines["containerd"])

    def test_hosts_without_public_url(self) -> None:
        """A registry that listens everywhere is named as its machine is, not by its loopback."""
        for listen, host in (
            ("tcp:5055", own_name()),
            ("tcp:5055:interface=0.0.0.0", own_name()),
            ("tcp:5055:192.0.2.1", "192.0.2.1"),
        ):
            self.checks(DOCKREG_SERVER_LISTEN=listen)
            lines = self.document["hosts"]["docker"]
            self.assertIn(f'{{ "insecure-registries": ["{host}:5055"] }}', lines, listen)
        self.checks(DOCKREG_SERVER_LISTEN="tcp:5055:127.0.0.1")
        self.assertEqual([], self.document["hosts"]["docker"])

    def test_authority(self) -> None:
        """A certificate that signed itself is to be copied to each host."""
        files = certificate(Path(self.root), "r.example.org")
        self.checks(
            DOCKREG_SERVER_PUBLIC_URL="https://r.example.invalid",
            DOCKREG_TLS_CERTIFICATE=files.certificate,
            DOCKREG_TLS_KEY=files.key,
        )
        self.assertIn(
            f"cp {files.certificate} /etc/docker/certs.d/r.example.invalid/ca.crt",
            self.document["hosts"]["docker"],
        )
        printed = self.run_command("doctor").stdout
        self.assertIn("dockreg ", printed)

    def test_authority_elsewhere(self) -> None:
        """Of an authority that is not in the file hosts are told the name, unless this machine trusts it."""
        (Path(self.root) / "authority").mkdir()
        path, key_path = write_certificate(Path(self.root) / "authority")
        authority = x509.load_pem_x509_certificate(path.read_bytes())
        signer = serialization.load_pem_private_key(key_path.read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        own = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=9))
            .not_valid_after(NOW + timedelta(days=90))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("r.example.invalid")]), critical=False)
            .sign(signer, hashes.SHA256())
        )
        pem = (Path(self.root) / "both.pem").absolute()
        form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pem.write_bytes(
            own.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(serialization.Encoding.PEM, *form)
        )
        environ = {
            "DOCKREG_SERVER_PUBLIC_URL": "https://r.example.invalid",
            "DOCKREG_TLS_CERTIFICATE": str(pem),
            "DOCKREG_TLS_KEY": str(pem),
        }
        self.checks(**environ)
        directory = "/etc/docker/certs.d/r.example.invalid"
        self.assertEqual(
            [
                f"mkdir -p {directory}",
                "# The certificate of CN=dockreg test, unless the host trusts it anyway:",
                f"cp ca.crt {directory}/ca.crt",
            ],
            self.document["hosts"]["docker"],
        )
        self.checks(**environ, SSL_CERT_FILE=str(path))
        self.assertEqual([], self.document["hosts"]["docker"])

    def test_clients_certificates(self) -> None:
        """Where clients need certificates the authorities are checked, and hosts told where theirs go."""
        files = certificate(Path(self.root), "r.example.org")
        environ = {
            "DOCKREG_SERVER_PUBLIC_URL": "https://r.example.invalid:5443",
            "DOCKREG_TLS_CERTIFICATE": files.certificate,
            "DOCKREG_TLS_KEY": files.key,
        }
        authority, _ = write_certificate(Path(self.root))
        # Valid for a day.
        self.assertEqual(["warn"], self.checks(**environ, DOCKREG_TLS_CLIENT_CA=str(authority))["client_ca"])
        hosts = self.document["hosts"]
        for program, room in (("docker", "docker"), ("podman", "containers")):
            directory = f"/etc/{room}/certs.d/r.example.invalid:5443"
            self.assertIn(f"cp {files.certificate} {directory}/ca.crt", hosts[program])
            self.assertIn(f"cp client.crt {directory}/client.cert", hosts[program])
            self.assertIn(f"install -m 600 client.key {directory}/client.key", hosts[program])
        directory = "/etc/containerd/certs.d/r.example.invalid:5443"
        line = f'  client = [["{directory}/client.cert", "{directory}/client.key"]]'
        self.assertIn(line, hosts["containerd"])
        self.assertEqual(["fail"], self.checks(**environ, DOCKREG_TLS_CLIENT_CA="/nowhere")["client_ca"])

    def test_tls_directory(self) -> None:
        """The files of a tls: endpoint hold certificate and key together, and are checked too."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        files = certificate(directory, "r.example.org")
        key = Path(files.key)
        with open(files.certificate, "ab") as file:
            file.write(key.read_bytes())
        key.unlink()
        self.checks(DOCKREG_SERVER_LISTEN=f"tls:{directory}:port=1")
        texts = [check["text"] for check in self.document["checks"] if check["name"] == "certificate"]
        self.assertIn("for r.example.org", texts)

    def test_certificate(self) -> None:
        """Time, names and key of a certificate are checked."""
        directory = Path(self.mktemp())
        directory.mkdir()
        at = NOW.timestamp()

        def states(files: CertificateFiles, host: str, at: float = at) -> list[str]:
            return [check.state.value for check in check_certificate(files, host, now=at)]

        good = certificate(directory, "r.example.org", "*.example.net")
        self.assertEqual(["ok"] * 3, states(good, "r.example.org"))
        self.assertEqual(["ok"] * 3, states(good, "x.example.net"))
        self.assertIn("fail", states(good, "y.x.example.net"))
        self.assertEqual("fail", states(good, "r.example.org", at + 91 * 86_400)[0])
        self.assertEqual("fail", states(good, "r.example.org", at - 10 * 86_400)[0])
        self.assertEqual(State.WARN.value, states(good, "r.example.org", at + 80 * 86_400)[0])
        key = Path(good.key).read_bytes()
        self.assertIn("fail", states(certificate(directory), ""))
        other = certificate(directory, "r.example.org")
        Path(other.key).write_bytes(key)
        self.assertEqual("fail", states(other, "r.example.org")[0])
        self.assertEqual(["fail"], states(CertificateFiles("/nowhere", other.key), ""))


class HealthcheckTests(CommandCase):
    """Listeners that answer, or do not."""

    def test_tcp(self) -> None:
        """A listener that says 200 is alive, one that says 503 is not, nor one that is not there."""
        for status, code in ((b"200 OK", 0), (b"503 No", 1)):
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            with answering(listener, status):
                result = self.run_command("healthcheck", "--listen", f"tcp:{port}")
            self.assertEqual(code, result.exit_code, result.output)
        self.assertIn("does not answer", self.refused("healthcheck", "--listen", f"tcp:{port}"))

    def test_unix(self) -> None:
        """A socket in the file system is asked too."""
        path = self.mktemp()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        with answering(listener, b"200 OK"):
            result = self.run_command("healthcheck", "--ready", DOCKREG_SERVER_LISTEN=f"unix:{path}")
        self.assertEqual((0, f"unix:{path} is ready\n"), (result.exit_code, result.output))

    def test_unknown_place(self) -> None:
        """A listener that does not say where it is asks for --listen."""
        self.assertIn(
            "--listen", self.refused("healthcheck", DOCKREG_SERVER_LISTEN="systemd:domain=INET:index=0")
        )

    def test_addresses(self) -> None:
        """Every kind of endpoint string is understood."""
        settings = load_settings(config_path=None, environ={}, options={})
        for text, address in (
            ("tcp:5000:interface=127.0.0.1", "http://127.0.0.1:5000"),
            ("tcp:5000:interface=0.0.0.0", "http://127.0.0.1:5000"),
            ("tcp:port=5000", "http://127.0.0.1:5000"),
            ("tcp6:5000", "http://[::1]:5000"),
            ("tcp6:5000:interface=\\:\\:2", "http://[::2]:5000"),
            ("ssl:443:privateKey=k.pem:certKey=c.pem", "https://127.0.0.1:443"),
            ("tls:/etc/dockreg/pem:443", "https://127.0.0.1:443"),
            ("unix:/run/dockreg.sock", "unix:/run/dockreg.sock"),
        ):
            self.assertEqual(address, str(reachable_address(text, settings)))
        self.assertEqual("r.example.org", host_and_port("https://r.example.org"))
        self.assertEqual("registry:443", host_and_port("https://registry"))
        self.assertEqual("r:5000", host_and_port("http://r:5000"))
