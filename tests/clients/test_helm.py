"""helm: charts pushed, pulled and looked at."""

from __future__ import annotations

from pathlib import Path

from tests.clients.case import PASSWORD, READER, USER
from tests.clients.local import LocalClientTestCase, lacking

CHART = "apiVersion: v2\nname: {name}\nversion: {version}\ndescription: a chart of the tests\n"
TEMPLATE = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  colour: red\n"


class HelmTests(LocalClientTestCase):
    skip = lacking("helm")

    def setUp(self) -> None:
        """Log in."""
        super().setUp()
        self.login()

    def login(self, user: str = USER, password: str = PASSWORD) -> None:
        """Log in as a user."""
        options = ("--plain-http", "-u", user, "--password-stdin")
        self.run_program("helm", "registry", "login", *options, self.host, text=password)

    def helm(self, *arguments: str) -> str:
        """Run a command that must succeed and return its output."""
        return self.run_program("helm", *arguments)

    def package(self, name: str, version: str) -> Path:
        """Write a chart and return its package."""
        chart = self.home / f"{name}-{version}"
        (chart / "templates").mkdir(parents=True)
        (chart / "Chart.yaml").write_text(CHART.format(name=name, version=version))
        (chart / "templates" / "map.yaml").write_text(TEMPLATE)
        self.helm("package", str(chart), "--destination", str(self.home))
        return self.home / f"{name}-{version}.tgz"

    @property
    def charts(self) -> str:
        """Where the charts go."""
        return f"oci://{self.host}/helm"

    def push(self, name: str, *versions: str) -> None:
        """Push versions of a chart."""
        for version in versions:
            self.helm("push", "--plain-http", str(self.package(name, version)), self.charts)

    def test_push_and_pull(self) -> None:
        """A chart arrives and returns unchanged."""
        self.push("plain", "0.1.0")
        back = self.home / "back"
        back.mkdir()
        pull = ("pull", "--plain-http", f"{self.charts}/plain", "--version", "0.1.0")
        self.helm(*pull, "--destination", str(back))
        packed = (self.home / "plain-0.1.0.tgz").read_bytes()
        self.assertEqual(packed, (back / "plain-0.1.0.tgz").read_bytes())

    def test_newest(self) -> None:
        """A chart named without a version is the newest; a range of versions chooses."""
        self.push("newest", "0.9.0", "0.10.0", "1.0.0-rc.1")
        shown = self.helm("show", "chart", "--plain-http", f"{self.charts}/newest")
        self.assertIn("version: 0.10.0", shown)
        shown = self.helm("show", "chart", "--plain-http", f"{self.charts}/newest", "--version", "<0.10")
        self.assertIn("version: 0.9.0", shown)

    def test_build_number(self) -> None:
        """A version with a plus sign, which no tag may have."""
        self.push("build", "1.0.0+7")
        shown = self.helm("show", "chart", "--plain-http", f"{self.charts}/build", "--version", "1.0.0+7")
        self.assertIn("version: 1.0.0+7", shown)

    def test_template(self) -> None:
        """Templates filled from the registry."""
        self.push("filled", "0.1.0")
        text = self.helm("template", "release", "--plain-http", f"{self.charts}/filled")
        self.assertIn("colour: red", text)

    def test_rights(self) -> None:
        """Docker.Download alone pulls and cannot push."""
        self.push("rights", "0.1.0")
        package = self.package("rights", "0.2.0")
        self.login(*READER)
        self.helm("show", "chart", "--plain-http", f"{self.charts}/rights")
        self.refused("helm", "push", "--plain-http", str(package), self.charts)

    def test_logout(self) -> None:
        """After ``registry logout`` nothing is pulled any more."""
        self.push("closed", "0.1.0")
        self.helm("registry", "logout", self.host)
        self.refused("helm", "show", "chart", "--plain-http", f"{self.charts}/closed")
