"""The server as a process: how it starts, what it refuses, and how it stops."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import TWISTD, RegistryProcess, clean_environment, free_port
from tests.integration.sockets import MIB, Connection, basic, digest_of_blocks

#: The first bytes of a TLS client: a handshake record with a ClientHello.
TLS_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(32)


class ProcessTestCase(SynchronousTestCase):
    """Has a directory of its own, and ends what a test starts."""

    def setUp(self) -> None:
        """Make the directory."""
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)

    def server(self, root: Path | None = None, *options: str, port: int | None = None) -> RegistryProcess:
        """Return a server that is not started yet and that is killed after the test."""
        server = RegistryProcess(root or self.directory / "root", port=port, options=options)
        self.addCleanup(server.kill)
        return server


class LifeTests(ProcessTestCase):
    def test_ready_line(self) -> None:
        """The server says where it listens, and where its data are."""
        server = self.server()
        server.start()
        self.assertIn(f"dockreg ready on {server.base_url} (root {server.root}, users ", server.ready_line)
        with Connection(server.port) as client:
            self.assertEqual(200, client.request("GET", "/healthz").status)
            self.assertEqual(200, client.request("GET", "/readyz").status)
            self.assertEqual(200, client.request("GET", "/").status)
        server.stop()

    def test_first_start(self) -> None:
        """An admin's password is made once, readable by the owner only, and never logged."""
        server = self.server()
        server.start()
        password_file = server.root / "admin-password"
        self.assertEqual(0o600, password_file.stat().st_mode & 0o777)
        first = server.admin_password
        self.assertGreaterEqual(len(first), 16)
        with Connection(server.port, basic("admin", first)) as client:
            self.assertEqual(200, client.request("GET", "/v2/").status)
        server.stop()
        self.assertNotIn(first, "\n".join(server.output))
        server.start()
        self.assertEqual(first, server.admin_password)
        server.stop()

    def test_challenge(self) -> None:
        """Without credentials, and with wrong ones, the answer is 401 with one challenge."""
        server = self.server()
        server.start()
        for authorization in ("", basic("admin", "wrong"), basic("nobody", "x"), "Basic %%%", "Nonsense"):
            with Connection(server.port, authorization) as client:
                answer = client.request("GET", "/v2/")
            self.assertEqual(401, answer.status, authorization)
            self.assertTrue(answer.headers["www-authenticate"].startswith(("Basic realm=", "Bearer realm=")))
            self.assertEqual("registry/2.0", answer.headers["docker-distribution-api-version"])
            self.assertIn(b"UNAUTHORIZED", answer.body)
        server.stop()

    def test_request_in_flight(self) -> None:
        """SIGTERM lets an upload in flight finish, takes no new connection, and exits with 0."""
        server = self.server()
        server.start()
        size = 8 * MIB
        with Connection(server.port, basic("admin", server.admin_password)) as client:
            location = client.request("POST", "/v2/flight/blobs/uploads/").headers["location"]
            path = f"{location}?digest={digest_of_blocks(size)}"
            client.send_head("PUT", path, {"Content-Length": str(size)})
            client.send_blocks(MIB)
            server.terminate()
            self._wait_until_refused(server.port)
            # What is left of the same body.
            rest = _blocks_from(MIB, size)
            client.socket.sendall(rest)
            self.assertEqual(201, client.answer().status)
        self.assertEqual(0, server.wait())

    def _wait_until_refused(self, port: int) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return
            time.sleep(0.02)  # nothing tells a client that a listener is closed
        self.fail("the server still accepts connections 10 s after SIGTERM")

    def test_idle_connections_do_not_delay_the_stop(self) -> None:
        """Kept-alive connections without a request do not hold the server up."""
        server = self.server()
        server.start()
        with Connection(server.port) as idle, Connection(server.port):
            self.assertEqual(200, idle.request("GET", "/healthz").status)
            began = time.monotonic()
            server.stop()
            self.assertLess(time.monotonic() - began, 3.0)

    def test_interrupt(self) -> None:
        """SIGINT stops the server as well, with 0."""
        server = self.server()
        server.start()
        os.kill(server.pid, 2)
        self.assertEqual(0, server.wait())

    def test_impatience(self) -> None:
        """A second signal, such as another Ctrl-C, changes nothing about an orderly stop."""
        server = self.server()
        server.start()
        with Connection(server.port, basic("admin", server.admin_password)) as client:
            location = client.request("POST", "/v2/flight/blobs/uploads/").headers["location"]
            client.send_head("PATCH", location, {"Content-Length": "2"})
            client.socket.sendall(b"x")
            server.terminate()
            self._wait_until_refused(server.port)
            server.terminate()
            os.kill(server.pid, 2)
            client.socket.sendall(b"x")
            self.assertEqual(202, client.answer().status)
        self.assertEqual(0, server.wait())
        self.assertEqual([], server.complaints())

    def test_stalled_output(self) -> None:
        """A reader of the log that stands still holds up no client, and finds all lines later."""
        for options in ((), ("--workers", "2")):
            server = self.server(self.directory / f"root{len(options)}", *options)
            server.start()
            long_query = "x" * 500
            with server.reading, Connection(server.port) as client:
                client.socket.settimeout(10)
                for number in range(1000):
                    client.request("GET", f"/v2/?number={number}&{long_query}")
            server.stop()
            self.assertEqual(1000, sum("/v2/?number=" in line for line in server.output))

    def test_restart_after_kill(self) -> None:
        """After a kill -9 the next start needs no help."""
        server = self.server()
        server.start()
        server.kill()
        server.start()
        server.stop()

    def test_cut_blob(self) -> None:
        """A blob that a crash cut short counts as missing soon after the start; a push of it heals it."""
        content = b"content"
        digest = hashlib.sha256(content).hexdigest()
        server = self.server()
        server.start()
        who, place = basic("admin", server.admin_password), f"/v2/cut/blobs/sha256:{digest}"
        push = f"/v2/cut/blobs/uploads/?digest=sha256:{digest}"
        with Connection(server.port, who) as client:
            self.assertEqual(201, client.request("POST", push, content).status)
        server.kill()
        path = server.root / "blobs" / "sha256" / digest[:2] / digest
        path.chmod(0o600)
        path.write_bytes(content[:3])
        server.start()
        with Connection(server.port, who) as client:
            ends_at = time.monotonic() + 10
            while client.request("HEAD", place).status != 404 and time.monotonic() < ends_at:
                time.sleep(0.05)  # a process of its own
            self.assertEqual(404, client.request("GET", place).status)
            self.assertEqual(201, client.request("POST", push, content).status)
            self.assertEqual(content, client.request("GET", place).body)
        server.stop()
        self.assertEqual(1, len(os.listdir(server.root / "quarantine")))

    def test_no_traceback_in_the_log(self) -> None:
        """A life of ordinary requests and broken connections leaves no traceback in the log."""
        server = self.server()
        server.start()
        with Connection(server.port, basic("admin", server.admin_password)) as client:
            location = client.request("POST", "/v2/cut/blobs/uploads/").headers["location"]
            client.send_head("PATCH", location, {"Content-Length": "1000"})
            client.socket.sendall(b"x" * 10)
        with Connection(server.port) as client:
            client.socket.sendall(b"nonsense\r\n\r\n")
        server.stop()
        self.assertEqual([], server.complaints())


def _blocks_from(start: int, size: int) -> bytes:
    from tests.integration.sockets import blocks

    return b"".join(blocks(size))[start:]


class StartRefusalTests(ProcessTestCase):
    def refused(self, *options: str, environment: dict[str, str] | None = None) -> str:
        """Start a server that must refuse, and return its one line."""
        done = subprocess.run(
            [*TWISTD, "-n", "--pidfile=", "dockreg", *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            cwd=self.directory,
            env=clean_environment(environment),
        )
        text = done.stdout + done.stderr
        self.assertNotIn("Traceback", text)
        self.assertNotEqual(0, done.returncode, text)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        self.assertEqual(1, len(lines), text)
        return lines[0]

    def options(self, name: str = "root") -> list[str]:
        """Return options for a root and a free port."""
        listen = f"tcp:{free_port()}:interface=127.0.0.1"
        return ["--root", str(self.directory / name), "--listen", listen]

    def config(self, text: str) -> list[str]:
        """Return options with a configuration file of this text."""
        path = self.directory / "dockreg.toml"
        path.write_text(text)
        return ["--config", str(path), *self.options()]

    def test_unknown_key(self) -> None:
        """An unknown key is named, with its file."""
        line = self.refused(*self.config("[server]\nlissten = []\n"))
        self.assertIn("lissten", line)
        self.assertIn("dockreg.toml", line)

    def test_wrong_value(self) -> None:
        """A wrong value is named with its key and what is allowed."""
        line = self.refused(*self.config('[access]\nanonymous = "maybe"\n'))
        self.assertIn("anonymous", line)
        self.assertIn("pull", line)

    def test_bare_number(self) -> None:
        """A duration without a unit is refused with a hint."""
        self.assertIn("expire_after", self.refused(*self.config("[uploads]\nexpire_after = 24\n")))

    def test_broken_toml(self) -> None:
        """A file that is no TOML is named."""
        self.assertIn("dockreg.toml", self.refused(*self.config("[server\n")))

    def test_missing_config(self) -> None:
        """A configuration file that is not there is named."""
        self.assertIn("none.toml", self.refused("--config", "none.toml", *self.options()))

    def test_unknown_variable(self) -> None:
        """A misspelt variable is named."""
        line = self.refused(*self.options(), environment={"DOCKREG_SERVER_LISSTEN": "x"})
        self.assertIn("DOCKREG_SERVER_LISSTEN", line)

    def test_wrong_option_value(self) -> None:
        """A wrong value of an option is named."""
        self.assertIn("anonymous", self.refused(*self.options(), "--anonymous", "perhaps"))

    def test_wrong_endpoint(self) -> None:
        """A listen address that is none is named."""
        line = self.refused("--root", str(self.directory / "root"), "--listen", "tcp:many")
        self.assertIn("tcp:many", line)

    def test_no_such_port(self) -> None:
        """A port beyond the last one is named."""
        line = self.refused("--root", str(self.directory / "root"), "--listen", "tcp:99999")
        self.assertIn("99999", line)

    def test_late_refusal(self) -> None:
        """What only shows while starting is said on standard error too."""
        line = self.refused("--root", str(self.directory / "root"), "--listen", "unix:/none/socket")
        # Nothing of the pid that its lock would name.
        self.assertTrue(line.endswith("unix:/none/socket: No such file or directory"), line)

    def test_tls_without_certificates(self) -> None:
        """A ``tls:`` endpoint is refused when its directory is missing or holds no certificate."""
        root = ["--root", str(self.directory / "root"), "--listen"]
        self.assertIn("/none/pem", self.refused(*root, f"tls:/none/pem:port={free_port()}"))
        self.assertIn("no .pem", self.refused(*root, f"tls:port={free_port()}:path={self.directory}"))

    def test_key_of_another_certificate(self) -> None:
        """A certificate and a key that do not belong together are named."""
        (self.directory / "dockreg.pem").write_text("nothing")
        path = str(self.directory / "dockreg.pem")
        line = self.refused(*self.config(f'[tls]\ncertificate = "{path}"\nkey = "{path}"\n'))
        self.assertIn(path, line)

    def test_audit_file(self) -> None:
        """An audit log that can never be written is named."""
        for path in (self.directory / "none" / "audit.log", self.directory):
            line = self.refused(*self.config(f'[log]\naudit_file = "{path}"\n'))
            self.assertIn(f"cannot write the audit log {path}: ", line)

    def test_root_is_a_file(self) -> None:
        """A root that is no directory is named."""
        (self.directory / "root").write_text("")
        self.assertIn(str(self.directory / "root"), self.refused(*self.options()))

    def test_newer_format(self) -> None:
        """A root of a newer version is refused by name."""
        server = self.server()
        server.start()
        server.stop()
        marker = server.root / "format"
        text = marker.read_text()
        changed = text.replace("1", "999", 1)
        self.assertNotEqual(text, changed)
        marker.write_text(changed)
        self.assertIn("999", self.refused(*self.options()))

    def test_second_server(self) -> None:
        """A second server on the same root names the first one."""
        server = self.server()
        server.start()
        self.assertIn(str(server.pid), self.refused(*self.options()))
        server.stop()

    def test_port_in_use(self) -> None:
        """A port that someone else listens on is named."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            listen = f"tcp:{port}:interface=127.0.0.1"
            line = self.refused("--root", str(self.directory / "root"), "--listen", listen)
        self.assertIn(str(port), line)

    def test_socket_in_use(self) -> None:
        """A socket that another server listens on is refused, and stays."""
        path = self.directory / "socket"
        first = self.server(self.directory / "first", "--listen", f"unix:{path}")
        first.start()
        line = self.refused("--root", str(self.directory / "root"), "--listen", f"unix:{path}")
        self.assertIn("the address is in use", line)
        self.assertTrue(path.is_socket())

    def test_unreadable_root(self) -> None:
        """A root that the server's user may not open is named."""
        root = self.directory / "closed" / "root"
        root.parent.mkdir(mode=0o700)
        self.directory.chmod(0o755)
        listen = f"tcp:{free_port()}:interface=127.0.0.1"
        become_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable]
        done = subprocess.run(
            [*become_nobody, *TWISTD, "-n", "--pidfile=", "dockreg", "--root", root, "--listen", listen],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            cwd="/",
            env=clean_environment(),
        )
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        self.assertNotEqual(0, done.returncode)
        self.assertEqual(1, len(lines), done.stderr)
        self.assertIn(str(root), lines[0])

    if os.geteuid() != 0:
        test_unreadable_root.skip = "only root can become another user"  # type: ignore[attr-defined] # trial's


class WireTests(ProcessTestCase):
    def setUp(self) -> None:
        """Start a server."""
        super().setUp()
        self.registry = self.server()
        self.registry.start()
        self.addCleanup(self.registry.stop)
        self.who = basic("admin", self.registry.admin_password)

    def test_tls_hello(self) -> None:
        """A TLS client on the plain port is told at once that this is HTTP."""
        with Connection(self.registry.port) as client:
            began = time.monotonic()
            client.socket.sendall(TLS_HELLO)
            received = b""
            while part := client.socket.recv(4096):
                received += part
            self.assertTrue(received.startswith(b"HTTP/1.0 400 "), received[:100])
            self.assertLess(time.monotonic() - began, 0.5)

    def test_tls_client(self) -> None:
        """A real TLS client fails within 0.2 s, so that Docker's clients try plain HTTP without a wait."""
        # Reading all authorities takes its time, and is no part of it.
        trusting = ssl.create_default_context()

        def seconds() -> float:
            began = time.monotonic()
            with Connection(self.registry.port) as client, self.assertRaises(ssl.SSLError):
                trusting.wrap_socket(client.socket, server_hostname="localhost")
            return time.monotonic() - began

        self.assertLess(min(seconds() for _ in range(3)), 0.2)

    def test_long_headers(self) -> None:
        """Headers of almost 64 KiB are taken, in one line or in many."""
        with Connection(self.registry.port, self.who) as client:
            one = client.request("GET", "/v2/", headers={"X-Long": "x" * 60_000})
            self.assertEqual(200, one.status)
            many = client.request("GET", "/v2/", headers={f"X-{n}": "y" * 590 for n in range(100)})
            self.assertEqual(200, many.status)

    def test_too_long_headers(self) -> None:
        """Longer headers are answered with 431, a longer request line with 414."""
        with Connection(self.registry.port, self.who) as client:
            client.send_head("GET", "/v2/", {"X-Long": "x" * 70_000})
            self.assertEqual(431, client.answer().status)
        with Connection(self.registry.port, self.who) as client:
            client.send_head("GET", "/v2/?" + "q" * 70_000)
            self.assertEqual(414, client.answer().status)

    def test_both_spellings_of_the_base(self) -> None:
        """The base answers without its slash, and with a query."""
        with Connection(self.registry.port, self.who) as client:
            for path in ("/v2", "/v2?x=1", "/v2/", "/v2/?x=1"):
                self.assertEqual(200, client.request("GET", path).status, path)

    def test_keep_alive_and_pipelining(self) -> None:
        """Requests sent in one go are answered in order on one connection."""
        head = f"GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: {self.who}\r\n\r\n"
        with Connection(self.registry.port) as client:
            client.socket.sendall(
                ((head % "/v2/") + (head % "/v2/none/tags/list") + (head % "/healthz")).encode()
            )
            self.assertEqual([200, 404, 200], [client.answer().status for _ in range(3)])

    def test_parallel_clients(self) -> None:
        """Sixty-four connections at once are all answered."""
        found: list[int] = []

        def ask() -> None:
            with Connection(self.registry.port, self.who) as client:
                found.append(client.request("GET", "/v2/").status)

        threads = [threading.Thread(target=ask) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([200] * 64, found)


class LowWaterTests(SynchronousTestCase):
    """A disk that is nearly full."""

    def test_low_water(self) -> None:
        """Below the mark new uploads get 507 in the OCI form, and everything else goes on."""
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        server = RegistryProcess(
            Path(temporary.name) / "root", environment={"DOCKREG_STORAGE_LOW_WATER": "1000TiB"}
        )
        server.start()
        self.addCleanup(server.stop)
        connection = Connection(server.port, basic("admin", server.admin_password))
        self.addCleanup(connection.close)
        refused = connection.request("POST", "/v2/a/blobs/uploads/")
        self.assertEqual(507, refused.status)
        self.assertIn(b'"UNAVAILABLE"', refused.body)
        self.assertEqual(200, connection.request("GET", "/v2/_catalog").status)
        with Connection(server.port) as stranger:
            ready, debug = stranger.request("GET", "/readyz"), stranger.request("GET", "/debug/health")
            self.assertEqual(200, stranger.request("GET", "/healthz").status)
        self.assertEqual((503, 503), (ready.status, debug.status))
        self.assertEqual(["space"], json.loads(ready.body)["errors"][0]["detail"]["failed"])
        self.assertEqual(["space"], list(json.loads(debug.body)))
        for answer in (ready, debug):
            self.assertNotIn(str(server.root).encode(), answer.body)
