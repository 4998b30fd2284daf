"""The official conformance runner of the distribution specification, against the server as it is started."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.local import PATH, ThisMachine, lacking
from tests.integration.server import RegistryProcess

COUNT = re.compile(r"^\s+(Skip|Pass|FAIL|Error)\.+:\s+(\d+)$", re.MULTILINE)
#: Fewer passed tests than this mean that a family of the suite did not run.
LEAST_PASSED = 800
SPARSE = {"DOCKREG_MANIFESTS_MISSING_LAYERS": "allow"}
BASIC = {"DOCKREG_ACCESS_CHALLENGE": "basic"}
EVERYBODY = {"DOCKREG_ACCESS_ANONYMOUS_GRANTS": json.dumps(["*:**"])}


def unsuccessful(report: Path) -> list[str]:
    """Return the names of the tests that failed, with what the runner says about them."""
    return [
        f"{case.get('name')}: {(case.findtext('system-out') or '').strip()}"
        for case in ElementTree.parse(report).iter("testcase")
        if case.get("status") not in {"passed", "skipped"}  # "skipped" is also what is not switched on
    ]


class ConformanceTests(SynchronousTestCase):
    skip = lacking("conformance")

    def conform(
        self,
        version: str,
        *options: str,
        server: Mapping[str, str] | None = None,
        runner: Mapping[str, str] | None = None,
        credentials: bool = True,
        tokens: bool = False,
    ) -> None:
        """Run the suite against a new server: everything must pass and nothing be skipped.

        Args:
            version: of the specification.
            options: of the server.
            server: environment of the server.
            runner: environment of the suite.
            credentials: whether the suite has those of the admin.
            tokens: whether it must have changed them for access tokens.
        """
        with tempfile.TemporaryDirectory(prefix="dockreg-conformance-") as name:
            directory = Path(name)
            registry = RegistryProcess(directory / "root", options=options, environment=server)
            registry.start()
            try:
                environment = {
                    "OCI_REGISTRY": registry.host,
                    "OCI_TLS": "disabled",
                    "OCI_VERSION": version,
                    "OCI_RESULTS_DIR": str(directory),
                    "PATH": PATH,
                    "HOME": name,
                    **(runner or {}),
                }
                if credentials:
                    environment |= {"OCI_USERNAME": "admin", "OCI_PASSWORD": registry.admin_password}
                done = ThisMachine().run(["conformance"], environment)
            finally:
                registry.stop()
            self.passes(done.returncode, done.stdout, directory / "junit.xml")
            if tokens:
                self.assertIn('"action": "token"', (registry.root / "audit.log").read_text())

    def passes(self, status: int, output: str, report: Path) -> None:
        """Compare the runner's report, its counts and its exit status."""
        self.assertTrue(report.exists(), output[-3000:])
        failed: Sequence[str] = unsuccessful(report)
        counts = dict(COUNT.findall(output))
        passed = int(counts.pop("Pass", 0))
        text = "\n".join([*failed, output[-3000:]])
        self.assertEqual([], failed, text)
        self.assertEqual({"Skip": "0", "FAIL": "0", "Error": "0"}, counts, text)
        self.assertEqual(0, status, text)
        self.assertLess(LEAST_PASSED, passed, text)

    def test_1_1(self) -> None:
        """Version 1.1 with tokens (Bearer), nothing open."""
        self.conform("1.1", "--anonymous", "none", tokens=True)

    def test_1_1_basic(self) -> None:
        """Version 1.1 with user and password (Basic), nothing open."""
        self.conform("1.1", "--anonymous", "none", server=BASIC)

    def test_1_1_anonymous_push(self) -> None:
        """Version 1.1 with credentials, where everybody may push."""
        self.conform("1.1", "--anonymous", "push")

    def test_1_1_without_credentials(self) -> None:
        """Version 1.1 without credentials, where everybody may do everything."""
        self.conform("1.1", server=EVERYBODY, credentials=False)

    def test_dev(self) -> None:
        """The next version with tokens (Bearer), nothing open."""
        self.conform("dev", "--anonymous", "none", tokens=True)

    def test_dev_basic(self) -> None:
        """The next version with user and password (Basic), nothing open."""
        self.conform("dev", "--anonymous", "none", server=BASIC)

    def test_dev_anonymous_push(self) -> None:
        """The next version with credentials, where everybody may push."""
        self.conform("dev", "--anonymous", "push")

    def test_sparse(self) -> None:
        """The next version with sparse images and tokens (Bearer), nothing open."""
        self.conform(
            "dev", "--anonymous", "none", server=SPARSE, runner={"OCI_DATA_SPARSE": "true"}, tokens=True
        )

    def test_sparse_basic(self) -> None:
        """The next version with sparse images, user and password (Basic), nothing open."""
        self.conform(
            "dev", "--anonymous", "none", server={**SPARSE, **BASIC}, runner={"OCI_DATA_SPARSE": "true"}
        )

    def test_sparse_anonymous_push(self) -> None:
        """The next version with sparse images, where everybody may push."""
        self.conform("dev", "--anonymous", "push", server=SPARSE, runner={"OCI_DATA_SPARSE": "true"})
