"""A live htpasswd file, and what SIGHUP leaves as it is, on a real server."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.passwords import hash_password
from tests.integration.server import RegistryProcess
from tests.integration.sockets import Answer, Connection, basic

DEADLINE_SECONDS = 10.0
FIRST, SECOND = (hash_password(word, 4) for word in ("first", "second"))


class UserFileTests(SynchronousTestCase):
    """Users of the file."""

    def setUp(self) -> None:
        """Start a server."""
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        directory = Path(temporary.name)
        self.file = directory / "htpasswd"
        self.file.write_text(f"alice:{FIRST}\nbob:$apr1$x$y\n")
        settings = directory / "dockreg.toml"
        settings.write_text('[access]\nhtpasswd_grants = ["pull:**"]\n')
        self.server = RegistryProcess(
            directory / "root",
            options=["--config", str(settings)],
            environment={"DOCKREG_ACCESS_HTPASSWD": str(self.file)},
        )
        self.server.start()
        self.addCleanup(self.server.stop)

    def get(self, path: str, authorization: str) -> Answer:
        """Return the answer to a GET."""
        with Connection(self.server.port, authorization) as connection:
            return connection.request("GET", path)

    def status(self, password: str, path: str = "/v2/") -> int:
        """Return how alice fares."""
        return self.get(path, basic("alice", password)).status

    def wait_for(self, is_so: Callable[[], bool], what: str) -> float:
        """Return after how many seconds something came true."""
        began = time.monotonic()
        while not is_so():
            self.assertLess(time.monotonic() - began, DEADLINE_SECONDS, what)
            time.sleep(0.05)
        return time.monotonic() - began

    def logged(self, text: str) -> int:
        """Return how many lines hold a text."""
        return sum(text in line for line in self.server.output)

    def test_change(self) -> None:
        """A changed file is in force within a second or so, and an unreadable one lets nobody in."""
        self.wait_for(lambda: self.logged("line 2 gives no access: a MD5 hash") == 1, "the bad line")
        self.assertEqual((200, 404), (self.status("first"), self.status("first", "/v2/team/app/tags/list")))
        self.file.write_text(f"alice:{SECOND}\n")
        self.assertLess(self.wait_for(lambda: self.status("second") == 200, "the new password"), 2.5)
        self.assertEqual(401, self.status("first"))
        self.file.unlink()
        self.assertLess(self.wait_for(lambda: self.status("second") == 401, "no file"), 2.5)
        self.wait_for(lambda: self.logged("its users are refused until it can be read") == 1, "the reason")
        self.assertEqual(200, self.get("/v2/", basic("admin", self.server.admin_password)).status)

    def test_reload(self) -> None:
        """SIGHUP reads the file at once and names its bad lines again; it forgives no guesser."""
        for _ in range(7):
            last = self.status("guess")
        self.assertEqual(429, last)
        self.file.write_text(f"alice:{FIRST}\nbob:plain\n")
        os.kill(self.server.pid, signal.SIGHUP)
        self.wait_for(lambda: self.logged("settings reloaded") == 1, "the reload")
        self.wait_for(lambda: self.logged("line 2 gives no access: not a bcrypt hash") == 1, "the bad line")
        answer = self.get("/v2/", basic("alice", "guess"))
        self.assertIn(answer.status, (401, 429))
        if answer.status == 401:
            # The wait was over; the next one is longer, as if there had been no reload.
            answer = self.get("/v2/", basic("alice", "first"))
        self.assertEqual(429, answer.status)
