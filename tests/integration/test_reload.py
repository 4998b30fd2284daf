"""Changing a running server: settings by SIGHUP, users by the ``dockreg`` command."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access_log import WAIT_SECONDS
from tests.integration.server import RegistryProcess

DEADLINE_SECONDS = 10.0


class ReloadCase(SynchronousTestCase):
    """A server with a settings file."""

    options: ClassVar[Sequence[str]] = ()

    def setUp(self) -> None:
        """Start a server with a settings file."""
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        self.settings = Path(temporary.name) / "dockreg.toml"
        self.settings.write_text('[access]\nanonymous = "none"\n')
        options = ["--config", str(self.settings), *self.options]
        self.server = RegistryProcess(Path(temporary.name) / "root", options=options)
        self.server.start()
        self.addCleanup(self.server.stop)

    def status(self, credentials: str | None = None) -> int:
        """Return the status of ``GET /v2/``."""
        headers = {}
        if credentials is not None:
            headers["Authorization"] = "Basic " + b64encode(credentials.encode()).decode()
        request = urllib.request.Request(self.server.base_url + "/v2/", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def wait_for_output(self, text: str) -> None:
        """Return once the server has logged ``text``."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not any(text in line for line in self.server.output):
            self.assertLess(time.monotonic(), deadline, f"{text!r} was not logged")
            time.sleep(0.02)

    def reload(self, settings: str) -> None:
        """Put settings in force, and forget the log until then."""
        self.settings.write_text(settings)
        self.server.output.clear()
        os.kill(self.server.pid, signal.SIGHUP)
        self.wait_for_output("settings reloaded")

    def check_wire(self) -> None:
        """Switch the heads of requests and answers on and off."""
        for switch, is_on in (("false", False), ("true", True), ("false", False)):
            self.reload(f'[access]\nanonymous = "none"\n[log]\nwire = {switch}\n')
            self.assertEqual(401, self.status("admin:nobody knows"))
            self.wait_for_output("GET /v2/ HTTP/1.1")
            if is_on:
                self.wait_for_output("Authorization: Basic [hidden]")
                self.wait_for_output("< HTTP/1.1 401 Unauthorized")
            self.assertEqual(is_on, any("dockreg.wire" in line for line in self.server.output))

    def check_log(self) -> None:
        """Change the access log's form, leave it out, and come back to it."""
        for settings, messages in (
            ('access = "json"', [False]),
            ('access = "none"', []),
            ('level = "warn"', []),
            ('access = "combined"', [True]),
        ):
            self.settings.write_text(f"[log]\n{settings}\n")
            os.kill(self.server.pid, signal.SIGHUP)
            deadline = time.monotonic() + DEADLINE_SECONDS
            # A worker that is replaced may take one more request.
            while self.logged() != messages:
                self.assertLess(time.monotonic(), deadline, settings)

    def logged(self) -> list[bool]:
        """Ask once, and return of each line of the access log whether it has a message."""
        self.server.output.clear()
        self.assertEqual(401, self.status())
        time.sleep(3 * WAIT_SECONDS)
        return [
            "msg" in json.loads(line)
            for line in self.server.output
            if "dockreg.access" in line and '"uri": "/v2/"' in line
        ]


class ReloadTests(ReloadCase):
    """SIGHUP and users."""

    def test_settings(self) -> None:
        """SIGHUP puts changed settings in force; a mistake in them is named and changes nothing."""
        self.assertEqual(401, self.status())
        self.settings.write_text('[access]\nanonymous = "push"\n')
        os.kill(self.server.pid, signal.SIGHUP)
        self.wait_for_output("settings reloaded")
        self.assertEqual(200, self.status())
        self.settings.write_text('[access]\nanonymus = "none"\n')
        os.kill(self.server.pid, signal.SIGHUP)
        self.wait_for_output("settings not reloaded")
        self.assertTrue(any("anonymus" in line for line in self.server.output))
        self.assertEqual(200, self.status())

    def test_wire(self) -> None:
        """SIGHUP switches the heads of requests and answers on and off; credentials are hidden."""
        self.check_wire()

    def test_log(self) -> None:
        """SIGHUP changes the form of the access log, and which lines are written."""
        self.check_log()

    def test_users(self) -> None:
        """Users changed by the admin command are changed for the next request."""
        self.assertEqual(401, self.status("carol:first"))
        self.server.dockreg("user", "add", "carol", "--password-stdin", text="first")
        self.assertEqual(200, self.status("carol:first"))
        self.server.dockreg("user", "passwd", "carol", "--password-stdin", text="second")
        self.assertEqual(401, self.status("carol:first"))
        self.assertEqual(200, self.status("carol:second"))
        self.server.dockreg("user", "disable", "carol")
        self.assertEqual(401, self.status("carol:second"))
        self.server.dockreg("user", "enable", "carol")
        self.assertEqual(200, self.status("carol:second"))
        self.server.dockreg("user", "remove", "carol", "--yes")
        self.assertEqual(401, self.status("carol:second"))


class WorkersReloadTests(ReloadCase):
    """SIGHUP, with two workers."""

    options = ("--workers", "2")

    def test_log(self) -> None:
        """New workers log as the settings say now, heads of requests and answers included."""
        self.check_wire()
        self.check_log()
