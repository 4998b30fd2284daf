"""``/metrics`` of a running server: one sum over its workers, whoever answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.server import RegistryProcess, free_port
from tests.integration.sockets import Connection, basic

REQUESTS = 30
DEADLINE_SECONDS = 20.0


def total(text: str, name: str, **labels: str) -> float:
    """Return the sum of the samples of a name that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


class MetricsTests(SynchronousTestCase):
    def serve(self, workers: int, **environment: str) -> RegistryProcess:
        """Start a server with a listener for metrics."""
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        self.metrics_port = free_port()
        server = RegistryProcess(
            Path(temporary.name) / "root",
            options=["--workers", str(workers)],
            environment={
                "DOCKREG_SERVER_METRICS_LISTEN": f"tcp:{self.metrics_port}:interface=127.0.0.1",
                **environment,
            },
        )
        server.start()
        self.addCleanup(server.stop)
        return server

    def page(self) -> str:
        """Return what the listener of its own answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def ask(self, server: RegistryProcess, count: int) -> None:
        """Ask for the base, over so many connections."""
        for _ in range(count):
            with Connection(server.port) as connection:
                self.assertEqual(401, connection.request("GET", "/v2/").status)

    def answered(self) -> float:
        """Return how many such requests were counted."""
        return total(self.page(), "dockreg_requests_total", endpoint="base", method="GET", status="4xx")

    def wait_for_workers(self, number: int) -> None:
        """Return when so many workers count."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while total(self.page(), "dockreg_workers") != number:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_one_process(self) -> None:
        """One process counts each request; that listener has nothing else, and its requests are in no log."""
        server = self.serve(1)
        self.ask(server, REQUESTS)
        self.assertEqual(REQUESTS, self.answered())
        with Connection(self.metrics_port) as connection:
            self.assertEqual(404, connection.request("GET", "/v2/").status)
        with Connection(server.port) as connection:
            self.assertEqual(401, connection.request("GET", "/metrics").status)
        server.stop()
        # Those of the main listener are.
        logged = [line for line in server.output if '"GET /metrics ' in line or "/metrics HTTP" in line]
        self.assertEqual(1, len(logged), logged)

    def test_health(self) -> None:
        """That listener answers for the whole server's health, without credentials, workers or not."""
        for workers, low_water, status, failing in (
            (1, "1B", 200, []),
            (2, "1B", 200, []),
            (2, "9000TiB", 503, ["space"]),
        ):
            server = self.serve(workers, DOCKREG_STORAGE_LOW_WATER=low_water)
            for method in ("GET", "HEAD"):
                with Connection(self.metrics_port) as connection:
                    answer = connection.request(method, "/debug/health")
                self.assertEqual(status, answer.status)
                if method == "GET":
                    self.assertEqual(failing, list(json.loads(answer.body)))
            server.stop()

    def test_workers(self) -> None:
        """Parent and workers tell the same sum; no counter falls when workers die or are replaced."""
        server = self.serve(2)
        self.ask(server, REQUESTS)
        self.assertEqual(REQUESTS, self.answered())
        admin = {"Authorization": basic("admin", server.admin_password)}
        for _ in range(4):
            with Connection(server.port) as connection:
                text = connection.request("GET", "/metrics", b"", admin).body.decode()
            counted = total(text, "dockreg_requests_total", endpoint="base", method="GET", status="4xx")
            self.assertEqual(REQUESTS, counted)
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while children[0] in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.wait_for_workers(2)
        self.assertEqual(REQUESTS, self.answered())
        os.kill(server.pid, signal.SIGHUP)
        while not any("settings reloaded" in line for line in server.output):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.ask(server, REQUESTS)
        self.assertEqual(2 * REQUESTS, self.answered())

    def test_promtool(self) -> None:
        """Prometheus' own tool has nothing to say against the page of a server that works."""
        if shutil.which("promtool") is None:
            raise SkipTest("promtool is not installed")
        self.ask(self.serve(2), REQUESTS)
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=self.page(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertEqual((0, ""), (done.returncode, done.stdout + done.stderr))
