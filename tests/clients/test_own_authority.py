"""docker and skopeo trust an authority of one's own where ``docs/tls.md`` says, and nowhere else."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import ClassVar

from tests.clients.case import PASSWORD, USER, ClientTestCase
from tests.clients.docker_daemon import DockerDaemon
from tests.clients.namespace import Namespace, missing
from tests.integration.images import image, write_docker_archive
from tests.integration.server import RegistryProcess
from tests.recipes import shell_block

REGISTRY = "registry.example.org:8443"
#: No loopback: there docker asks for no certificate that it trusts.
ADDRESS = "192.0.2.7"


class OwnAuthorityTests(ClientTestCase):
    skip = missing("docker", "dockerd", "skopeo", "openssl") or None
    daemon: ClassVar[DockerDaemon]

    @classmethod
    def start_class(cls) -> None:
        """Make certificates as the page does, and start server and daemon."""
        cls._temporary = tempfile.TemporaryDirectory(prefix="dockreg-clients-", ignore_cleanup_errors=True)
        cls.directory = Path(cls._temporary.name)
        for name in ("own-authority", "own-certificate"):
            command = ["sh", "-eu", "-c", shell_block("tls.md", name)]
            subprocess.run(command, cwd=cls.directory, check=True, capture_output=True, timeout=60)
        cls.namespace = Namespace(cls.directory)
        with (cls.directory / "hosts").open("a") as hosts:
            hosts.write(f"{ADDRESS} registry.example.org\n")
        cls.namespace.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], {})
        settings = {
            "DOCKREG_TLS_CERTIFICATE": str(cls.directory / "certificate.pem"),
            "DOCKREG_TLS_KEY": str(cls.directory / "key.pem"),
        }
        cls.server = RegistryProcess(
            cls.directory / "root",
            prefix=cls.namespace.prefix,
            environment=settings,
            listen=f"tcp:8443:interface={ADDRESS}",
        )
        cls.server.start()
        cls.add_users()
        try:
            cls.daemon = DockerDaemon(cls.directory / "dockerd", cls.namespace, "nobody.example.org")
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

    def trust(self, parent: str) -> None:
        """Put the authority where the page says; what was there is hidden, in the namespace alone."""
        self.run_program("sh", "-c", f"findmnt {parent} || mount -t tmpfs tmpfs {parent}")
        place = f"{parent}/certs.d/{REGISTRY}"
        self.run_program("mkdir", "-p", place)
        self.run_program("cp", str(self.directory / "ca.crt"), f"{place}/ca.crt")

    def test_docker(self) -> None:
        """Docker refuses the registry; with ca.crt in certs.d it logs in, pushes and pulls, not restarted."""
        login = ("docker", "login", "-u", USER, "-p", PASSWORD, REGISTRY)
        self.assertIn("x509", self.refused(*login))
        self.trust("/etc/docker")
        self.assertIn("Login Succeeded", self.run_program(*login))
        name = f"{REGISTRY}/team/tls:v1"
        write_docker_archive(self.home / "image.tar", image("over TLS"), name)
        self.run_program("docker", "load", "--quiet", "-i", str(self.home / "image.tar"))
        self.run_program("docker", "push", name)
        self.run_program("docker", "rmi", name)
        self.assertIn("Downloaded newer image", self.run_program("docker", "pull", name))

    def test_skopeo(self) -> None:
        """So does skopeo with its own directory; it looks into docker's as well."""
        self.run_program("sh", "-c", "if findmnt /etc/docker; then rm -rf /etc/docker/certs.d; fi")
        target = f"docker://{REGISTRY}/team/skopeo:v1"
        copy = ("skopeo", "--insecure-policy", "copy", f"--dest-creds={USER}:{PASSWORD}")
        layout = self.layout(image("over TLS by skopeo"))
        self.assertIn("x509", self.refused(*copy, layout, target))
        self.trust("/etc/containers")
        self.run_program(*copy, layout, target)
