"""Secrets that enter anywhere are found nowhere: not in logs, the database, error bodies or the process list.

Another place to look at is one more line in ``places``, another way in one more in ``enter``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.passwords import hash_password
from tests.integration.server import PROGRAMS, RegistryProcess, clean_environment
from tests.integration.sockets import Answer, Connection, basic

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SCOPE = "repository:team/app:pull,push"


def canary(kind: str) -> str:
    """Return a secret that stands nowhere by chance; letters and digits, so that no escaping hides it."""
    return f"canary{kind}{secrets.token_hex(8)}"


class CanaryCase(SynchronousTestCase):
    """One server that logs everything it can, and a client that puts secrets wherever one can be put."""

    options: ClassVar[Sequence[str]] = ()
    log_format = "json"

    def setUp(self) -> None:
        """Start the server."""
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        self.htpasswd = self.directory / "htpasswd"
        self.file_password = canary("file")
        self.file_hash = hash_password(self.file_password, 4)
        plain = canary("plainline")
        self.htpasswd.write_text(
            f"guest:{self.file_hash}\nbob:{plain}\n{canary('nocolon')}\nx:$apr1${plain}\n"
        )
        settings = self.directory / "dockreg.toml"
        settings.write_text(
            f'[access]\nhtpasswd = "{self.htpasswd}"\n'
            f'[log]\nlevel = "debug"\nformat = "{self.log_format}"\naudit_pulls = true\nwire = true\n'
            '[server]\ntrusted_proxies = ["127.0.0.0/8"]\n'
        )
        options = ["--config", str(settings), *self.options]
        self.server = RegistryProcess(self.directory / "root", options=options)
        self.server.start()
        self.addCleanup(self.server.kill)
        #: What must be found nowhere, by what it is.
        self.known = {
            "file password": self.file_password,
            "plain line": plain,
            "hash of the file": self.file_hash,
        }
        self.answers: list[Answer] = []
        self.last_metrics = b""
        self.printed: list[str] = []

    # --- ways in

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """Return the answer to a request; every one that is an error is looked at later."""
        with Connection(self.server.port) as connection:
            answer = connection.request(method, path, body, headers)
        self.answers.append(answer)
        return answer

    def new(self, kind: str) -> str:
        """Return a secret that is looked for later."""
        self.known[kind] = canary(kind.replace(" ", ""))
        return self.known[kind]

    def enter_users(self) -> None:
        """Set, use, mistype and change a password; make a robot, log in, fetch tokens."""
        password, self.changed = self.new("password"), self.new("new password")
        self.server.add_user("alice", password, "*:team/**")
        self.known["basic"] = basic("alice", password).removeprefix("Basic ")
        self.assertEqual(200, self.ask("GET", "/v2/", {"Authorization": basic("alice", password)}).status)
        token_path = f"/token?scope={SCOPE}&offline_token=true&service=x"
        answer = self.ask("GET", token_path, {"Authorization": basic("alice", password)})
        document = json.loads(answer.body)
        self.known["access token"] = self.token = document["token"]
        self.known["refresh token"] = document["refresh_token"]
        self.known["signature"] = self.token.split(".")[2]
        robot = json.loads(self.server.dockreg("token", "create", "alice", "--json"))
        self.known["robot"] = robot["token"]
        for kind in ("robot", "access token"):
            bearer = {"Authorization": f"Bearer {self.known[kind]}"}
            self.assertEqual(404, self.ask("GET", "/v2/team/app/tags/list", bearer).status)
            self.assertIn(self.ask("GET", "/v2/other/tags/list", bearer).status, (401, 403))
        refresh = f"grant_type=refresh_token&refresh_token={self.known['refresh token']}&scope={SCOPE}"
        self.assertEqual(200, self.ask("POST", "/token", FORM, refresh.encode()).status)
        self.server.dockreg("user", "passwd", "alice", "--password-stdin", text=self.changed + "\n")
        self.assertEqual(401, self.ask("GET", "/v2/", {"Authorization": basic("alice", password)}).status)
        guest = basic("guest", self.file_password)
        self.assertEqual(200, self.ask("GET", "/v2/", {"Authorization": guest}).status)

    def enter_wrongly(self) -> None:
        """Secrets where they do not belong, but are put; all refused, or ignored."""
        for number, value in enumerate([self.new("misplaced"), *self.every_token()]):
            encoded = base64.b64encode(f"alice:{value}".encode()).decode()
            self.known[f"misplaced basic {number}"] = encoded
            for field in (
                f"Basic {encoded}", f"Bearer {value}", f"Basic {value}", f"Digest {value}", value,
                f"Bearer {value[:-1]}x", basic("alice", value + "x"), basic("nobody", value),
                f"bAsIc {encoded}",
                f"Basic {encoded[:-2]}", f"Bearer {encoded}", basic("al\nice", value),
            ):  # fmt: skip
                self.ask("GET", "/v2/team/app/tags/list", {"Authorization": field})
                self.ask("GET", "/token", {"Authorization": field})
            for header in (
                "Cookie",
                "X-Registry-Auth",
                "Proxy-Authorization",
                "X-Forwarded-For",
                "Forwarded",
            ):
                self.ask("GET", "/v2/", {header: f"token={value}"})
            for name in (
                "password",
                "token",
                "access_token",
                "refresh_token",
                "authorization",
                "x",
                "_state",
            ):
                for path in ("/v2/", "/token", "/v2/team/app/tags/list", "/nowhere", "/v2/_catalog"):
                    self.ask("GET", f"{path}?{name}={quote(value)}&n=1")
            self.ask("GET", f"/v2/?{value}")
            self.ask("GET", f"/v2/?Authorization=Basic%20{encoded}")
            self.ask("GET", "/v2/", {"Referer": f"https://alice:{value}@r.example/?token={value}"})
            for host in ("127.0.0.1", "r.example:5000"):
                self.ask("GET", f"http://alice:{value}@{host}/v2/")
            for target in (
                f"ftp://alice:{value}@h/",
                f"//alice:{value}@h/v2/",
                f"http://alice:{value}@h/%zz",
            ):
                self.ask("GET", target)
            self.enter_bodies(value)

    def enter_bodies(self, value: str) -> None:
        """Put a secret into bodies of every kind."""
        for fields in (
            f"grant_type=password&username=alice&password={value}", f"grant_type={value}",
            f"grant_type=refresh_token&refresh_token={value}", f"password={value}",
            f"grant_type=password&username=x%zz&password={value}%ff",
        ):  # fmt: skip
            self.ask("POST", "/token", FORM, fields.encode())
        document = json.dumps({"username": "alice", "password": value, "config": value})
        self.ask("POST", "/token", {"Content-Type": "application/json"}, document.encode())
        who = {"Authorization": basic("alice", self.changed)}
        for content_type in ("application/vnd.oci.image.manifest.v1+json", "application/json"):
            headers = {**who, "Content-Type": content_type}
            self.ask("PUT", "/v2/team/app/manifests/v1", headers, document.encode())
            self.ask("PUT", "/v2/team/app/manifests/v1", headers, document[:-1].encode())

    def every_token(self) -> list[str]:
        """Return what the server itself gave out."""
        return [self.known[kind] for kind in ("robot", "refresh token", "access token")]

    def enter_commands(self) -> None:
        """Secrets in the environment, in files that settings name, and in the settings themselves."""
        value = self.new("environment")
        secret_file = self.directory / "secret"
        secret_file.write_text(value)
        for environment in (
            {"DOCKREG_SERVER_PUBLIC_URL": f"https://user:{value}@r.example"},
            {"DOCKREG_SERVER_PUBLIC_URL_FILE": str(secret_file)},
            {"DOCKREG_SERVER_PUBLIC_URL": value},
        ):
            for command in (["config", "show"], ["user", "list"]):
                self.printed.append(self.command(*command, environment=environment))
        long = self.new("long password") + "x" * 80
        self.printed.append(self.command("user", "add", "carol", "--password-stdin", text=long))
        for listing in (["user", "list"], ["user", "show", "alice"], ["token", "list"], ["config", "show"]):
            self.printed.append(self.command(*listing, "--json"))
        self.printed.append(self.command("import", "htpasswd", str(self.htpasswd)))

    def command(self, *arguments: str, text: str = "", environment: dict[str, str] | None = None) -> str:
        """Return everything that the command prints; it may be refused."""
        done = subprocess.run(
            [str(PROGRAMS / "dockreg"), "--root", str(self.server.root), *arguments],
            input=text, capture_output=True, text=True, check=False, timeout=60,
            env=clean_environment(environment),
        )  # fmt: skip
        return done.stdout + done.stderr

    # --- places

    def places(self) -> Iterator[tuple[str, bytes]]:
        """Yield every place with its bytes."""
        yield "log", "\n".join(self.server.output).encode()
        for path in sorted(self.server.root.rglob("*")):
            if path.is_file():
                # Database, its log, journal, audit log, keys, content: byte by byte.
                yield str(path.relative_to(self.server.root)), path.read_bytes()
        for number, answer in enumerate(self.answers):
            head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
            yield f"head of answer {number}", head.encode()
            if answer.status >= 400:
                yield f"body of answer {number}", answer.body
        yield "metrics", self.metrics()
        yield "printed by the command", "\n".join(self.printed).encode()
        yield from processes()

    def metrics(self) -> bytes:
        """Return the page of metrics; the last one after the server has stopped."""
        with contextlib.suppress(OSError), Connection(self.server.port) as connection:
            answer = connection.request(
                "GET", "/metrics", b"", {"Authorization": basic("admin", self.server.admin_password)}
            )
            self.assertIn(b"dockreg_logins_total", answer.body)
            self.last_metrics = answer.body
        return self.last_metrics

    def hits(self) -> list[str]:
        """Return where which secret was found."""
        return [
            f"{kind} in {place}"
            for place, content in self.places()
            for kind, value in self.known.items()
            if value.encode() in content and not is_meant(kind, place)
        ]


class JsonLogTests(CanaryCase):
    """With the log for programs."""

    def test_no_hits(self) -> None:
        """However a secret came in, it is found in no log, no file, no error and no list of processes."""
        self.enter_users()
        self.enter_wrongly()
        hits = self.hits()
        os.kill(self.server.pid, signal.SIGHUP)
        self.enter_commands()
        self.known["password of admin"] = self.server.admin_password
        self.assertEqual([], sorted({*hits, *self.hits()}))
        # Everything that was done is in the logs: they were read, not empty.
        text = "\n".join(self.server.output)
        for word in ("/v2/team/app/tags/list", "[hidden]", "line 2 gives no access"):
            self.assertIn(word, text)
        audit = (self.server.root / "audit.log").read_text()
        for word in ("alice?", '"user.password"', '"token.create"', '"login"'):
            self.assertIn(word, audit)
        self.server.stop()
        self.assertEqual([], self.hits())

    def test_would_be_found(self) -> None:
        """A secret that does stand somewhere is found there."""
        self.known["planted"] = canary("planted")
        (self.server.root / "journal" / "planted").write_text(f"x{self.known['planted']}x")
        self.ask("GET", f"/v2/{self.known['planted']}/tags/list")
        deadline = time.monotonic() + 10
        while "planted in log" not in self.hits() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertLessEqual({"planted in journal/planted", "planted in log"}, set(self.hits()))


class TextLogTests(CanaryCase):
    """With the log for people, written by two workers."""

    options = ("--workers", "2")
    log_format = "text"

    def test_no_hits(self) -> None:
        """What clients send stands in no line."""
        self.enter_users()
        self.enter_wrongly()
        self.server.stop()
        self.assertEqual([], self.hits())
        self.assertIn("[hidden]", "\n".join(self.server.output))


def is_meant(kind: str, place: str) -> bool:
    """Tell whether something may stand where it was found: the first password, an imported hash."""
    if kind == "password of admin":
        return place == "admin-password"
    return kind == "hash of the file" and place.startswith(("registry.db", "journal/"))


def processes() -> Iterator[tuple[str, bytes]]:
    """Yield the command line of every process, and the environment of ours, as ``ps`` shows them."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        for name in ("cmdline", "environ", "comm"):
            try:
                yield f"/proc/{process.name}/{name}", (process / name).read_bytes()
            except OSError:
                # It has ended, or is another user's.
                continue
