"""``docker search`` and ``podman search``: with a login, and where anonymous may pull."""

from __future__ import annotations

from tests.clients.case import PASSWORD, REGISTRY, USER, ClientTestCase
from tests.clients.docker_daemon import DockerDaemon
from tests.clients.namespace import missing
from tests.integration.images import image

NAMES = ("search/app", "search/base", "other/app")


class SearchCase(ClientTestCase):
    """A registry with some repositories."""

    @classmethod
    def start_class(cls) -> None:
        """Name the repositories that wait for their content."""
        super().start_class()
        cls.unfilled = list(NAMES)

    def setUp(self) -> None:
        """Push before the first test."""
        super().setUp()
        while self.unfilled:
            self.curl_push(self.unfilled.pop(), "v1", image("search", layers=1))

    unfilled: list[str]

    def found(self, output: str) -> list[str]:
        """Return the names in a table of results."""
        lines = [line.split()[0] for line in output.splitlines() if "/" in line]
        return sorted(line.removeprefix(f"{REGISTRY}/") for line in lines)


class PodmanSearchTests(SearchCase):
    skip = missing("podman", "curl") or None

    def test_with_login(self) -> None:
        """Podman finds what its user may pull."""
        self.run_program("podman", "login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, REGISTRY)
        for text, names in (("app", ["other/app", "search/app"]), ("search/", ["search/app", "search/base"])):
            output = self.run_program("podman", "search", "--tls-verify=false", f"{REGISTRY}/{text}")
            self.assertEqual(names, self.found(output), output)


class AnonymousPodmanSearchTests(SearchCase):
    skip = missing("podman", "curl") or None
    options = ("--anonymous", "pull")

    def test_without_login(self) -> None:
        """Podman's search sends no credentials; where anonymous may pull it needs none."""
        (self.home / "auth.json").write_text("{}")
        output = self.run_program("podman", "search", "--tls-verify=false", f"{REGISTRY}/app")
        self.assertEqual(["other/app", "search/app"], self.found(output), output)


class DockerSearchTests(SearchCase):
    skip = missing("docker", "dockerd", "curl") or None

    def test_with_login(self) -> None:
        """Docker finds what its user may pull, and no more than it asks for."""
        daemon = DockerDaemon(self.directory / "dockerd", self.namespace, REGISTRY)
        self.addCleanup(daemon.close)
        docker = ("docker", "--host", daemon.address)
        self.run_program(*docker, "login", "-u", USER, "-p", PASSWORD, REGISTRY)
        output = self.run_program(*docker, "search", f"{REGISTRY}/app")
        self.assertEqual(["other/app", "search/app"], self.found(output), output)
        output = self.run_program(*docker, "search", "--limit", "1", f"{REGISTRY}/app")
        self.assertEqual(["other/app"], self.found(output), output)
