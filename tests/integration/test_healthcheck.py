"""``dockreg healthcheck`` and ``dockreg doctor`` beside a server that runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.test_doctor import certificate
from tests.integration.server import PROGRAMS, RegistryProcess, clean_environment
from tests.integration.test_listeners import write_certificate


class HealthcheckTests(SynchronousTestCase):
    """A server with TLS, whose settings say so."""

    def setUp(self) -> None:
        """Start it."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        files = certificate(directory, "localhost")
        self.server = RegistryProcess(
            directory / "root", environment={"REGISTRY_PROXY_REMOTEURL": "https://example.org"}
        )
        self.environment = clean_environment(
            {
                "DOCKREG_TLS_CERTIFICATE": files.certificate,
                "DOCKREG_TLS_KEY": files.key,
                "DOCKREG_SERVER_LISTEN": self.server.listen,
                "DOCKREG_STORAGE_ROOT": str(self.server.root),
            }
        )
        self.server.environment |= self.environment
        self.addCleanup(self.server.kill)
        self.server.start()

    def run_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command with the server's settings."""
        return subprocess.run(
            [str(PROGRAMS / "dockreg"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def test_beside_a_server(self) -> None:
        """It is alive and ready over TLS, the doctor finds it, and foreign variables were named once."""
        for option, word in (((), "alive"), (("--ready",), "ready")):
            done = self.run_command("healthcheck", *option)
            self.assertEqual(
                (0, f"https://127.0.0.1:{self.server.port} is {word}\n"), (done.returncode, done.stdout)
            )
        checks = json.loads(self.run_command("doctor", "--json").stdout)["checks"]
        self.assertIn(("server", "ok"), [(check["name"], check["state"]) for check in checks])
        self.assertEqual(1, sum("REGISTRY_PROXY_REMOTEURL" in line for line in self.server.output))
        self.server.stop()
        self.assertEqual(1, self.run_command("healthcheck").returncode)

    def test_clients_certificates(self) -> None:
        """A server that asks for certificates is alive; it tells more to those who have one."""
        self.server.stop()
        (self.server.root.parent / "client").mkdir()
        authority, key = write_certificate(self.server.root.parent / "client")
        self.environment["DOCKREG_TLS_CLIENT_CA"] = str(authority)
        self.server.environment |= self.environment
        self.server.start()
        address = f"https://127.0.0.1:{self.server.port}"
        known = ("--certificate", str(authority), "--key", str(key))
        for options, status, said in (
            ((), 0, f"{address} is alive\n"),
            (known, 0, f"{address} is alive\n"),
            (("--ready", *known), 0, f"{address} is ready\n"),
            (("--ready",), 1, ""),
        ):
            done = self.run_command("healthcheck", *options)
            self.assertEqual((status, said), (done.returncode, done.stdout), done.stderr)
        self.assertIn("--certificate", done.stderr)
        checks = json.loads(self.run_command("doctor", "--json").stdout)["checks"]
        self.assertIn(
            f"{address} asks for a client's certificate",
            [check["text"] for check in checks if check["state"] == "ok"],
        )
        self.server.stop()
        self.assertEqual(1, self.run_command("healthcheck").returncode)
