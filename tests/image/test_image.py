"""The image: what is in it, and that it serves without rights on a root filesystem that nobody may write."""

from __future__ import annotations

import json
import time

from prometheus_client.parser import text_string_to_metric_families

from tests.image.case import ImageTestCase
from tests.image.engine import IMAGE
from tests.integration.images import image

LIMIT_BYTES = 215_000_000
STOP_SECONDS = 10.0


class ContentTests(ImageTestCase):
    """What the image holds and says."""

    def test_size(self) -> None:
        """It is about as small as the documentation says."""
        size_bytes = int(self.do("podman", "image", "inspect", "--format", "{{.Size}}", IMAGE))
        self.assertTrue(100_000_000 < size_bytes < LIMIT_BYTES, size_bytes)

    def test_no_luggage(self) -> None:
        """Neither pip nor tests nor sources of the build are in it."""
        looked_for = (
            "find /opt -name 'pip*' -o -name test -o -name tests; ls -d /src /root/.cache 2>/dev/null; true"
        )
        found = self.do("podman", "run", "--rm", "--entrypoint", "sh", IMAGE, "-c", looked_for)
        self.assertEqual("", found)

    def test_configuration(self) -> None:
        """User, volume, ports, signal and health check are those of the documentation."""
        [inspected] = json.loads(self.do("podman", "image", "inspect", IMAGE))
        told = inspected["Config"]
        self.assertEqual("5000:5000", told["User"])
        self.assertEqual({"/var/lib/dockreg": {}}, told["Volumes"])
        self.assertEqual({"5000/tcp": {}, "5001/tcp": {}}, told["ExposedPorts"])
        self.assertEqual("SIGTERM", told["StopSignal"])
        self.assertEqual(["CMD", "dockreg", "healthcheck"], inspected["Healthcheck"]["Test"])


class ServingTests(ImageTestCase):
    """One container with a volume."""

    def start(self) -> str:
        """Start a container as little trusted as can be, and return its name."""
        options = (
            "--read-only",
            "--read-only-tmpfs=false",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
        )
        published = ("--publish=127.0.0.1:5000:5000", "--publish=127.0.0.1:5001:5001")
        volume = f"--volume=data-{self.home.name}:/var/lib/dockreg"
        name = self.do("podman", "run", "--detach", *options, *published, volume, IMAGE)
        self.addCleanup(self.engine.run, "podman", "rm", "--force", "--time", "0", name)
        self.wait_for("http://127.0.0.1:5000/readyz")
        return name

    def stop(self, name: str) -> None:
        """Stop a container, which must end well, and soon."""
        began_at = time.monotonic()
        self.do("podman", "stop", "--time", "45", name)
        took_seconds = time.monotonic() - began_at
        self.assertEqual("0", self.do("podman", "inspect", "--format", "{{.State.ExitCode}}", name))
        self.assertTrue(took_seconds < STOP_SECONDS, took_seconds)

    def password(self, name: str) -> str:
        """Return what the first start wrote."""
        return self.do("podman", "exec", name, "cat", "/var/lib/dockreg/admin-password")

    def test_without_rights(self) -> None:
        """As uid 5000, writing nothing but its volume, it is healthy and serves pushes and pulls."""
        name = self.start()
        self.assertEqual("5000 5000", self.do("podman", "exec", name, "sh", "-c", "echo $(id -u) $(id -g)"))
        for place in ("/x", "/tmp/x", "/opt/dockreg/x"):
            self.assertNotEqual(0, self.engine.run("podman", "exec", name, "touch", place).returncode, place)
        said = self.do("podman", "exec", name, "dockreg", "healthcheck", "--ready")
        self.assertEqual("http://127.0.0.1:5000 is ready", said)
        self.assertEqual("", self.do("podman", "healthcheck", "run", name))
        who = f"admin:{self.password(name)}"
        self.round_trip(image("in a container"), "127.0.0.1:5000/team/app:v1", who, "tls-verify=false")
        self.stop(name)

    def test_metrics(self) -> None:
        """Metrics are on a listener of their own, and there only for whoever comes."""
        name = self.start()
        text = self.curl("-f", "http://127.0.0.1:5001/metrics")
        families = {family.name for family in text_string_to_metric_families(text)}
        self.assertIn("dockreg_build_info", families)
        self.assertEqual("401", self.status("http://127.0.0.1:5000/metrics"))
        self.stop(name)

    def test_volume(self) -> None:
        """What was pushed is there in the next container; a killed one was no reason to lose it."""
        name = self.start()
        who = f"admin:{self.password(name)}"
        content = image("in a volume")
        self.round_trip(content, "127.0.0.1:5000/team/app:v1", who, "tls-verify=false")
        self.do("podman", "rm", "--force", "--time", "0", name)
        again = self.start()
        command = ("skopeo", "inspect", "--tls-verify=false", f"--creds={who}", "--format", "{{.Digest}}")
        self.assertEqual(content.manifest.digest, self.do(*command, "docker://127.0.0.1:5000/team/app:v1"))
        self.stop(again)

    def test_dead_server(self) -> None:
        """Where nobody answers the health check says so."""
        done = self.engine.run(
            "podman", "run", "--rm", "--read-only", "--entrypoint", "dockreg", IMAGE, "healthcheck"
        )
        self.assertEqual(1, done.returncode, done.stdout)
