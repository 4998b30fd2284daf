"""Several processes that serve one registry."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.images import image, sha256
from tests.integration.server import TWISTD, RegistryProcess, clean_environment, free_port
from tests.integration.sockets import MIB, Connection, basic, digest_of_blocks
from tests.integration.test_listeners import write_certificate
from tests.integration.test_process import ProcessTestCase

PATIENCE_SECONDS = 15.0
FOREGROUND = ("-n", "--pidfile=", "dockreg")
#: Does what systemd does for a service with a socket.
ACTIVATE = """
import os, socket, sys
listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="http", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def children(pid: int) -> dict[int, int]:
    """Return the process ids of a server's workers by their numbers."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            continue
        if b"dockreg_tx.workers" in command:
            found[int(child)] = int(command[command.index(b"dockreg_tx.workers") + 1])
    return found


def eventually(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once something is true of other processes."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)  # other processes do not tell


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, zombies left out."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def accepts(port: int) -> bool:
    """Tell whether anybody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def end(server: RegistryProcess) -> None:
    """Kill a server that a test has left behind, and wait for its workers."""
    try:
        pids = list(children(server.pid))
    except (FileNotFoundError, AssertionError):
        return
    server.kill()
    eventually(lambda: not any(map(is_running, pids)), "the end of the workers")


class WorkersTestCase(ProcessTestCase):
    """Starts servers with workers."""

    def workers(self, count: int = 2, *options: str, listen: str = "") -> RegistryProcess:
        """Return a started server that is stopped after the test."""
        server = RegistryProcess(
            self.directory / "root",
            options=["--workers", str(count), *options],
            environment={"DOCKREG_LOG_FORMAT": "json"},
            listen=listen,
        )
        self.addCleanup(end, server)
        server.start()
        return server

    def connections(self, server: RegistryProcess, who: str) -> list[Connection]:
        """Return one connection to each worker of a server, in the order of their numbers."""
        found: dict[int, Connection] = {}
        spare: list[Connection] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found) < len(children(server.pid)):
            self.assertLess(time.monotonic(), deadline, f"only workers {sorted(found)} were met")
            connection = Connection(server.port, who)
            self.addCleanup(connection.close)
            spare.append(connection)
            found.setdefault(self.worker_of(server, connection), connection)
        for connection in spare:
            if connection not in found.values():
                connection.close()
        return [found[number] for number in sorted(found)]

    def worker_of(self, server: RegistryProcess, connection: Connection) -> int:
        """Return the number of the worker that serves a connection; it has logged which one it is."""
        mark = f"/none-{os.urandom(8).hex()}"
        connection.request("GET", mark)
        found: list[int] = []

        def look() -> bool:
            lines = [line for line in server.output if mark in line]
            found.extend(int(json.loads(line)["worker"]) for line in lines)
            return bool(found)

        eventually(look, "the access log names the worker")
        return found[0]


class LifeTests(WorkersTestCase):
    def test_life(self) -> None:
        """The parent says once that all are ready; all workers serve; SIGTERM ends all with 0."""
        server = self.workers(2)
        self.assertIn(", workers 2)", server.ready_line)
        self.assertEqual([1, 2], sorted(children(server.pid).values()))
        who = basic("admin", server.admin_password)
        for connection in self.connections(server, who):
            self.assertEqual(200, connection.request("GET", "/v2/").status)
        self.assertEqual(1, sum("dockreg ready on" in line for line in server.output))
        pids = children(server.pid)
        server.stop()
        self.assertEqual([], [pid for pid in pids if is_running(pid)])
        for line in server.output:
            json.loads(line)

    def test_many_log_lines(self) -> None:
        """However fast lines come, each arrives once and whole."""
        server = self.workers(2)
        request = b"GET /healthz HTTP/1.1\r\nHost: h\r\nUser-Agent: burst\r\n\r\n"
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
        for _ in range(500):
            for client in clients:
                client.sendall(request)
            for client in clients:
                self.assertIn(b" 200 OK", client.recv(64 * 1024))
        for client in clients:
            client.close()
        server.stop()
        ids = {json.loads(line)["request_id"] for line in server.output if '"user_agent": "burst"' in line}
        self.assertEqual(2000, len(ids))

    def test_request_in_flight(self) -> None:
        """SIGTERM lets an upload in flight finish on its worker; nobody takes new connections meanwhile."""
        server = self.workers(2)
        size = 4 * MIB
        with Connection(server.port, basic("admin", server.admin_password)) as client:
            location = client.request("POST", "/v2/flight/blobs/uploads/").headers["location"]
            path = f"{location}?digest={digest_of_blocks(size)}"
            client.send_head("PUT", path, {"Content-Length": str(size)})
            server.terminate()
            eventually(lambda: not accepts(server.port), "the end of accepting")
            client.send_blocks(size)
            self.assertEqual(201, client.answer().status)
        self.assertEqual(0, server.wait())

    def test_second_server(self) -> None:
        """A second server on the root is refused, whether it has workers or not."""
        server = self.workers(2)
        for count in ("1", "2"):
            self.assertIn(f"pid {server.pid} ", self.refusal("--workers", count))
        server.stop()

    def refusal(self, *options: str, listen: str = "") -> str:
        """Start a server on the same root that must refuse, and return its one line."""
        listen = listen or f"tcp:{free_port()}:interface=127.0.0.1"
        done = subprocess.run(
            [*TWISTD, *FOREGROUND, "--root", str(self.directory / "root"), "--listen", listen, *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=clean_environment(),
        )
        self.assertEqual(1, done.returncode, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        self.assertEqual(1, len(lines), lines)
        return str(lines[0])

    def test_start_errors(self) -> None:
        """What the parent cannot bind, or a worker cannot open, is one line and status 1."""
        self.assertIn("unix:/none/socket", self.refusal("--workers", "2", listen="unix:/none/socket"))
        listen = f"tcp:{free_port()}:interface=127.0.0.1"
        broken = self.directory / "broken"
        broken.mkdir()
        (broken / "klein.py").write_text("raise RuntimeError('no klein today')\n")
        # The parent does not need it: only workers serve.
        done = subprocess.run(
            [*TWISTD, *FOREGROUND, "--workers=2", f"--root={self.directory}/other", f"--listen={listen}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={**clean_environment(), "PYTHONPATH": str(broken)},
        )
        self.assertEqual(1, done.returncode)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        self.assertEqual(1, len(lines), done.stderr)
        self.assertIn("no klein today", lines[0])

    def test_background(self) -> None:
        """In the background too: nothing that must not cross a fork is opened before it."""
        port, log = free_port(), self.directory / "log"
        listen = f"--listen=tcp:{port}:interface=127.0.0.1"
        options = ["--workers=2", f"--root={self.directory}/root", listen]
        pidfile = self.directory / "pid"
        subprocess.run(
            [*TWISTD, f"--pidfile={pidfile}", f"--logfile={log}", "dockreg", *options],
            check=True,
            timeout=30,
            env=clean_environment(),
        )
        pid = int(pidfile.read_text())
        self.addCleanup(lambda: os.kill(pid, signal.SIGKILL) if is_running(pid) else None)
        eventually(lambda: log.exists() and "dockreg ready on" in log.read_text(), "ready")
        with Connection(port) as client:
            self.assertEqual(200, client.request("GET", "/healthz").status)
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not is_running(pid), "the end")
        text = log.read_text()
        self.assertIn('"GET /healthz HTTP/1.1" 200', text)
        self.assertRegex(text, r"\[worker [12] pid \d+\]")
        self.assertNotIn("Traceback", text)


class DeathTests(WorkersTestCase):
    def test_worker_dies(self) -> None:
        """A worker that is killed is replaced; connections of the others do not notice."""
        server = self.workers(2)
        first, second = self.connections(server, basic("admin", server.admin_password))
        before = children(server.pid)
        victim = next(pid for pid, number in before.items() if number == 1)
        os.kill(victim, signal.SIGKILL)
        self.assertEqual(200, second.request("GET", "/v2/").status)
        with self.assertRaises(OSError):
            first.request("GET", "/v2/")
        eventually(lambda: len(children(server.pid)) == 2, "a new worker")
        self.assertNotIn(victim, children(server.pid))
        self.assertEqual(200, second.request("GET", "/v2/").status)
        self.connections(server, basic("admin", server.admin_password))
        server.stop()

    def test_parent_dies(self) -> None:
        """After kill -9 of the parent all workers are gone within a second, and a new server starts."""
        server = self.workers(2)
        idle = Connection(server.port)
        self.addCleanup(idle.close)
        pids = list(children(server.pid))
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: not any(map(is_running, pids)), "the end of all workers", 1.0)
        server.wait()
        server.start()
        server.stop()


class ReloadTests(WorkersTestCase):
    def setUp(self) -> None:
        """Write a settings file."""
        super().setUp()
        self.settings = self.directory / "dockreg.toml"
        self.settings.write_text('[access]\nanonymous = "none"\n')

    def ask_all_the_time(self, port: int, keep: bool, stop: threading.Event, found: list[str]) -> None:
        """Ask on kept-alive or on new connections, noting everything that is not an answer."""
        connection = Connection(port)
        try:
            while not stop.is_set():
                answer = connection.request("GET", "/healthz")
                found.append(str(answer.status))
                if not keep or answer.headers.get("connection") == "close":
                    connection.close()
                    connection = Connection(port)
        except OSError as error:
            found.append(repr(error))
        finally:
            connection.close()

    def test_reload(self) -> None:
        """SIGHUP replaces all workers without a failed request; a bad setting changes nothing."""
        server = self.workers(2, "--config", str(self.settings))
        before = set(children(server.pid))
        who = basic("admin", server.admin_password)
        idle = self.connections(server, who)
        size = 4 * MIB
        location = idle[0].request("POST", "/v2/reload/blobs/uploads/").headers["location"]
        pushing = Connection(server.port, who)
        self.addCleanup(pushing.close)
        pushing.send_head("PUT", f"{location}?digest={digest_of_blocks(size)}", {"Content-Length": str(size)})
        stop, found = threading.Event(), list[str]()
        askers = [
            threading.Thread(target=self.ask_all_the_time, args=(server.port, keep, stop, found))
            for keep in (True, True, False)
        ]
        for asker in askers:
            asker.start()
        self.settings.write_text('[access]\nanonymous = "push"\n')
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: any("settings reloaded" in line for line in server.output), "the reload")
        with Connection(server.port) as anonymous:
            self.assertEqual(200, anonymous.request("GET", "/v2/").status)
        for connection in idle:
            answer = connection.request("GET", "/v2/")
            self.assertEqual((200, "close"), (answer.status, answer.headers.get("connection")))
        pushing.send_blocks(size)
        self.assertEqual(201, pushing.answer().status)
        stop.set()
        for asker in askers:
            asker.join()
        self.assertEqual({"200"}, set(found))
        eventually(lambda: not before & set(children(server.pid)), "the end of the old workers")
        self._bad_settings(server)
        server.stop()
        # The push was the last that a retiring worker did.
        logged = [line for line in server.output if "/healthz" in line or "PUT /v2/reload" in line]
        self.assertEqual(len(found) + 1, len(logged), "those who retire write the last lines of their log")

    def _bad_settings(self, server: RegistryProcess) -> None:
        after = set(children(server.pid))
        self.settings.write_text('[access]\nanonymus = "none"\n')
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: any("anonymus" in line for line in server.output), "the refusal")
        self.assertEqual(after, set(children(server.pid)))
        with Connection(server.port) as anonymous:
            self.assertEqual(200, anonymous.request("GET", "/v2/").status)


class TogetherTests(WorkersTestCase):
    def test_users(self) -> None:
        """What the admin command changes is in force on every worker for the next request."""
        server = self.workers(2)
        first, second = self.connections(server, basic("carol", "first"))
        both = (first, second)
        self.assertEqual([401, 401], [each.request("GET", "/v2/").status for each in both])
        server.dockreg("user", "add", "carol", "--password-stdin", "--grant", "pull:**", text="first")
        self.assertEqual([200, 200], [each.request("GET", "/v2/").status for each in both])
        self.assertEqual([403, 403], [self._begin(each) for each in both])
        server.dockreg("grant", "add", "carol", "push:**")
        self.assertEqual([202, 202], [self._begin(each) for each in both])
        token = server.dockreg("token", "create", "carol").split()[0]
        robot = {"Authorization": basic("carol", token)}
        self.assertEqual([200, 200], [each.request("GET", "/v2/", headers=robot).status for each in both])
        server.dockreg("user", "disable", "carol")
        self.assertEqual([401, 401], [each.request("GET", "/v2/").status for each in both])
        self.assertEqual([401, 401], [each.request("GET", "/v2/", headers=robot).status for each in both])
        server.stop()

    def _begin(self, connection: Connection) -> int:
        return connection.request("POST", "/v2/team/blobs/uploads/").status

    def test_hopping_upload(self) -> None:
        """A thousand chunks that hop between workers are hashed once more at the end, not at every hop."""
        server = self.workers(2)
        both = self.connections(server, basic("admin", server.admin_password))
        chunk, count = os.urandom(64 * 1024), 1000
        location = both[0].request("POST", "/v2/hop/blobs/uploads/").headers["location"]
        began_at = self._read_bytes(server)
        for number in range(count):
            start = number * len(chunk)
            headers = {"Content-Range": f"{start}-{start + len(chunk) - 1}"}
            answer = both[number % 2].request("PATCH", location, chunk, headers)
            self.assertEqual(202, answer.status, answer.body)
        digest = sha256(chunk * count)
        self.assertEqual(201, both[0].request("PUT", f"{location}?digest={digest}").status)
        # What is hashed anew has to be read from the file. The database is read too; sockets do not count.
        self.assertLess(self._read_bytes(server) - began_at, 2 * len(chunk) * count)
        self.assertEqual(200, both[1].request("HEAD", f"/v2/hop/blobs/{digest}").status)
        server.stop()

    def _read_bytes(self, server: RegistryProcess) -> int:
        """Return how much all workers have read from files."""
        texts = [Path(f"/proc/{pid}/io").read_text() for pid in children(server.pid)]
        return sum(int(text.split("rchar:")[1].split()[0]) for text in texts)

    def test_even_distribution(self) -> None:
        """Kept connections that come in a burst are spread evenly over the workers."""
        server = self.workers(2)
        clients = [Connection(server.port) for _ in range(16)]
        found = [self.worker_of(server, client) for client in clients]
        for client in clients:
            client.close()
        self.assertGreaterEqual(min(found.count(1), found.count(2)), 6, found)
        server.stop()

    def test_pushes(self) -> None:
        """Four workers that write at once leave a sound database, and a log without a torn line."""
        server = self.workers(4)
        who = basic("admin", server.admin_password)
        errors: list[str] = []

        def push(client: int) -> None:
            try:
                for number in range(12):
                    self._push_image(server.port, who, client, number)
            except (OSError, AssertionError) as error:
                errors.append(repr(error))

        threads = [threading.Thread(target=push, args=(client,)) for client in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([], errors)
        with Connection(server.port, who) as client:
            for number in range(8):
                listing = json.loads(client.request("GET", f"/v2/many/{number}/tags/list").body)
                self.assertEqual(12, len(listing["tags"]))
        server.stop()
        for line in [*server.output, *(server.root / "audit.log").read_text().splitlines()]:
            json.loads(line)
        with sqlite3.connect(server.root / "registry.db") as database:
            self.assertEqual([("ok",)], database.execute("PRAGMA integrity_check").fetchall())
        database.close()

    def _push_image(self, port: int, who: str, client: int, number: int) -> None:
        content = image(f"{client}-{number}", layers=1)
        name = f"many/{client}"
        with Connection(port, who) as connection:
            for blob in content.blobs:
                path = f"/v2/{name}/blobs/uploads/?digest={blob.digest}"
                self.assertEqual(201, connection.request("POST", path, blob.content).status)
            headers = {"Content-Type": content.manifest.media_type, "User-Agent": "x" * 1000}
            path = f"/v2/{name}/manifests/tag-{number}"
            answer = connection.request("PUT", path, content.manifest.content, headers)
            self.assertEqual(201, answer.status)


class ListenerTests(WorkersTestCase):
    def test_unix_socket(self) -> None:
        """Workers share a Unix socket; its file outlives a worker, and goes with the server."""
        path = self.directory / "socket"
        server = self.workers(2, listen=f"unix:{path}")
        self.assertEqual(b"HTTP/1.1 200 ", self._ask(path))
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: any("settings reloaded" in line for line in server.output), "the reload")
        self.assertEqual(b"HTTP/1.1 200 ", self._ask(path))
        server.stop()
        self.assertFalse(path.exists())

    def _ask(self, path: Path) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return client.recv(4096)[:13]

    def test_tls(self) -> None:
        """Workers speak TLS on the parent's sockets: by settings, and on ``ssl:`` and ``tls:`` endpoints."""
        certificate, key = write_certificate(self.directory)
        pem = self.directory / "pem"
        pem.mkdir()
        (pem / "127.0.0.1.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
        config = self.directory / "dockreg.toml"
        config.write_text(f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
        ssl_port, tls_port = free_port(), free_port()
        server = self.workers(
            2,
            "--config",
            str(config),
            "--listen",
            f"ssl:{ssl_port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}",
            "--listen",
            f"tls:{pem}:port={tls_port}:interface=\\:\\:ffff\\:127.0.0.1",
        )
        context = ssl.create_default_context(cafile=str(certificate))
        for port in (server.port, ssl_port, tls_port):
            client = Connection(
                port, wrap=lambda plain: context.wrap_socket(plain, server_hostname="127.0.0.1")
            )
            self.addCleanup(client.close)
            self.assertEqual(200, client.request("GET", "/healthz").status)
            client.close()
        server.stop()

    def test_systemd(self) -> None:
        """Workers share a socket that systemd has bound."""
        port = free_port()
        server = RegistryProcess(
            self.directory / "root",
            port=port,
            listen="systemd:domain=INET:index=0",
            options=["--workers=2"],
            command=[sys.executable, "-c", ACTIVATE, str(port), *TWISTD],
        )
        self.addCleanup(server.kill)
        server.start()
        with Connection(port) as client:
            self.assertEqual(200, client.request("GET", "/healthz").status)
        server.stop()

    def test_not_to_be_shared(self) -> None:
        """An endpoint that has no socket is refused in one line."""
        done = subprocess.run(
            [*TWISTD, *FOREGROUND, "--workers=2", "--listen=stdio:", f"--root={self.directory}/root"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=clean_environment(),
        )
        self.assertEqual(1, done.returncode)
        self.assertEqual(1, len(done.stderr.splitlines()), done.stderr)
        self.assertIn("set workers to 1", done.stderr)
