"""dockreg as the mirror of another registry: old names, images of ours."""

from __future__ import annotations

from typing import ClassVar

from tests.clients.case import REGISTRY, ClientTestCase
from tests.clients.docker_daemon import DockerDaemon
from tests.clients.namespace import missing
from tests.integration.images import image


class MirrorTests(ClientTestCase):
    """The daemon can reach nothing but the mirror: what comes, comes from there."""

    skip = missing("docker", "dockerd", "curl") or None
    server_environment: ClassVar = {"DOCKREG_ACCESS_ANONYMOUS_GRANTS": '["pull:library/**"]'}
    daemon: ClassVar[DockerDaemon]

    @classmethod
    def start_class(cls) -> None:
        """Start the daemon as well."""
        super().start_class()
        try:
            cls.daemon = DockerDaemon(
                cls.directory / "dockerd", cls.namespace, REGISTRY, mirrors=[f"http://{REGISTRY}"]
            )
        except BaseException:
            super().stop_class()
            raise

    @classmethod
    def stop_class(cls) -> None:
        """Stop the daemon first."""
        cls.daemon.close()
        super().stop_class()

    @property
    def environment(self) -> dict[str, str]:
        """As all clients', with the daemon's address."""
        return {**super().environment, "DOCKER_HOST": self.daemon.address}

    def test_docker(self) -> None:
        """``docker pull alpine:3`` takes ``library/alpine`` of the mirror, without credentials."""
        self.curl_push("library/alpine", "3", image("mirrored"))
        self.assertIn("Downloaded newer image for alpine:3", self.run_program("docker", "pull", "alpine:3"))

    def test_podman(self) -> None:
        """skopeo, and with it podman, finds ``docker.io/library/alpine`` where registries.conf says."""
        content = image("mirrored for podman")
        self.curl_push("library/alpine", "4", content)
        settings = self.home / "registries.conf"
        settings.write_text(
            '[[registry]]\nlocation = "docker.io"\n'
            f'[[registry.mirror]]\nlocation = "{REGISTRY}"\ninsecure = true\n'
        )
        options = ("--insecure-policy", f"--registries-conf={settings}", "inspect", "--raw")
        found = self.run_program("skopeo", *options, "docker://docker.io/library/alpine:4")
        self.assertEqual(content.manifest.content.decode(), found)
