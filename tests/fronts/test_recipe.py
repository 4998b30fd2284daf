"""The check of ``docs/proxies.md``, through the fronts that it shows."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.fronts.front import CADDY, HAPROXY, NGINX, Front, Kind, missing
from tests.integration.server import RegistryProcess
from tests.recipes import shell_block


class RecipeTests(SynchronousTestCase):
    timeout = 180

    def check(self, kind: Kind) -> None:
        """Type the lines of the page, with another host and name."""
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-front-", ignore_cleanup_errors=True)
        self.addCleanup(temporary.cleanup)
        directory = Path(temporary.name)
        directory.chmod(0o755)
        trusted = {"DOCKREG_SERVER_TRUSTED_PROXIES": '["127.0.0.1/32"]', "DOCKREG_LOG_FORMAT": "text"}
        server = RegistryProcess(directory / "root", environment=trusted)
        server.start()
        self.addCleanup(server.kill)
        (directory / "front").mkdir()
        front = Front(kind, server.port, directory / "front")
        front.start()
        self.addCleanup(front.stop)
        told = "registry=https://registry.example.org credentials=admin:password"
        text = shell_block("proxies.md", "check")
        self.assertIn(told, text)
        here = f"registry=https://127.0.0.1:{front.port} credentials=admin:{server.admin_password}"
        done = subprocess.run(
            ["sh", "-eu", "-c", text.replace(told, here).replace("curl ", "curl --interface 127.0.0.7 ")],
            cwd=directory,
            env={**os.environ, "CURL_CA_BUNDLE": str(directory / "front" / "certificate.pem")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        self.assertEqual(0, done.returncode, f"{done.stdout}\n{done.stderr}\n{front.output}")
        front.stop()
        server.stop()
        pushed = [line for line in server.output if "/v2/try/it/blobs/uploads/" in line]
        self.assertEqual([True], ["127.0.0.7 - admin" in line for line in pushed], pushed)

    def test_nginx(self) -> None:
        """All lines succeed through nginx, and the log knows the client."""
        self.check(NGINX)

    def test_caddy(self) -> None:
        """So they do through Caddy."""
        self.check(CADDY)

    def test_haproxy(self) -> None:
        """So they do through HAProxy."""
        self.check(HAPROXY)

    for _test, _kind in ((test_nginx, NGINX), (test_caddy, CADDY), (test_haproxy, HAPROXY)):
        _test.skip = missing(_kind) or None  # type: ignore[attr-defined]  # trial reads it
