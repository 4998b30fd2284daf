"""What every client does with a login: the tests of ``test_logins``, whatever the challenge."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SkipTest

from tests.clients.case import PASSWORD, USER, ClientTestCase
from tests.clients.containerd import Containerd
from tests.clients.docker_daemon import DockerDaemon
from tests.clients.local import PATH, lacking
from tests.integration.images import Image, image, write_docker_archive, write_oci_layout

#: What every client takes for a registry without TLS.
HOST = "127.0.0.1:8080"
POLICY = '{"default":[{"type":"insecureAcceptAnything"}]}'
STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "{0}/graph"\nrunroot = "{0}/run/c"\n'
CHART = "apiVersion: v2\nname: chart\nversion: 0.1.0\ndescription: a chart of the tests\n"
COPY = ("copy", "--src-tls-verify=false", "--dest-tls-verify=false")


class LoginCase(ClientTestCase):
    """A registry, and what clients need beside it, started when the first test asks for it."""

    challenge: ClassVar[str]
    _docker: ClassVar[DockerDaemon | None] = None
    _containerd: ClassVar[Containerd | None] = None

    @classmethod
    def stop_class(cls) -> None:
        """Stop what was started."""
        for daemon in (cls._docker, cls._containerd):
            if daemon is not None:
                daemon.close()
        super().stop_class()

    @classmethod
    def add_users(cls) -> None:
        """Add the one user of these tests."""
        cls.server.add_user(USER, PASSWORD, "Docker.Download", "Docker.Upload", "Docker.Delete")

    def setUp(self) -> None:
        """Write the settings of those clients that need some, and look where the audit log ends."""
        super().setUp()
        (self.home / "storage.conf").write_text(STORAGE.format(self.home))
        for directory in (self.home / ".config" / "containers", self.home / "docker"):
            directory.mkdir(parents=True)
        (self.home / ".config" / "containers" / "policy.json").write_text(POLICY)
        self.content = image(f"logins {self.id()}", layers=1)
        self._audited = len(self._audit_lines())

    def shortDescription(self) -> str:
        """Say with which challenge."""
        return f"{self.challenge.capitalize()}: {super().shortDescription()}"

    def needs(self, *programs: str) -> None:
        """Skip the test where a program is not installed."""
        if reason := lacking(*programs):
            raise SkipTest(reason)

    @property
    def environment(self) -> dict[str, str]:
        """As all clients', with all programs."""
        docker = "" if self._docker is None else self._docker.address
        return {
            **super().environment,
            "PATH": PATH,
            "DOCKER_HOST": docker,
            "CONTAINERS_STORAGE_CONF": str(self.home / "storage.conf"),
        }

    def _audit_lines(self) -> list[str]:
        path = self.server.root / "audit.log"
        return path.read_text().splitlines() if path.exists() else []

    def tokens(self) -> list[str]:
        """Return to whom tokens were given during this test."""
        entries = map(json.loads, self._audit_lines()[self._audited :])
        return [entry["principal"] for entry in entries if entry["action"] == "token"]

    def obeyed(self) -> None:
        """Compare what the client sent with what it was asked for."""
        if self.challenge == "bearer":
            self.assertIn(USER, self.tokens())
        else:
            self.assertEqual([], self.tokens())

    def robot(self) -> str:
        """Return the secret of a new robot of the user."""
        found = re.search(r"dkr_\S+", self.server.dockreg("token", "create", USER, "--note", "ci"))
        assert found is not None
        return found[0]

    def docker(self, *arguments: str) -> str:
        """Run docker with a daemon of the class; it must succeed."""
        cls = type(self)
        if cls._docker is None:
            cls._docker = DockerDaemon(self.directory / "dockerd", self.namespace, HOST)
        return self.run_program("docker", *arguments)

    def docker_login(self, password: str = PASSWORD) -> None:
        """Log docker in."""
        self.assertIn("Login Succeeded", self.docker("login", "-u", USER, "-p", password, HOST))

    def docker_load(self, name: str) -> str:
        """Put the image into the daemon under a name, and return its id."""
        archive = self.home / "image.tar"
        write_docker_archive(archive, self.content, name)
        self.docker("load", "--quiet", "-i", str(archive))
        return self.docker("image", "inspect", "--format", "{{.Id}}", name).strip()

    def docker_push_and_pull(self, name: str, password: str = PASSWORD) -> None:
        """Log docker in, push, and have the same image back."""
        self.docker_login(password)
        identity = self.docker_load(name)
        self.docker("push", name)
        self.docker("rmi", "--force", identity)
        self.docker("pull", name)
        found = self.docker("image", "inspect", "--format", "{{.Id}}", name).strip()
        self.assertEqual(identity, found)

    def skopeo(self, *arguments: str) -> str:
        """Run skopeo; it must succeed."""
        return self.run_program("skopeo", "--insecure-policy", *arguments)

    def skopeo_push_and_pull(self, name: str, password: str = PASSWORD) -> None:
        """Log skopeo in, push, pull and delete."""
        self.skopeo("login", "--tls-verify=false", "-u", USER, "-p", password, HOST)
        self.skopeo(*COPY, self.layout(self.content), name)
        self.skopeo(*COPY, name, f"oci:{self.home}/back:v1")
        self.came_back(self.home / "back")
        self.skopeo("delete", "--tls-verify=false", name)

    def came_back(self, layout: Path, content: Image | None = None) -> None:
        """Compare an OCI layout with what was pushed."""
        for blob in (content or self.content).blobs:
            stored = layout / "blobs" / "sha256" / blob.digest.removeprefix("sha256:")
            self.assertEqual(blob.content, stored.read_bytes())

    def test_docker(self) -> None:
        """Docker logs in, pushes and pulls."""
        self.needs("docker", "dockerd")
        self.docker_push_and_pull(f"{HOST}/logins/docker:v1")
        self.obeyed()

    def test_docker_with_a_robot(self) -> None:
        """Docker logs in with a robot's token as password, pushes and pulls."""
        self.needs("docker", "dockerd")
        self.docker_push_and_pull(f"{HOST}/logins/docker-robot:v1", self.robot())
        self.obeyed()

    def test_podman(self) -> None:
        """Podman logs in, pushes and pulls."""
        self.needs("podman")
        name, plain = f"{HOST}/logins/podman:v1", "--tls-verify=false"
        self.run_program("podman", "login", plain, "-u", USER, "-p", PASSWORD, HOST)
        archive = self.home / "image.tar"
        write_docker_archive(archive, self.content, name)
        self.run_program("podman", "load", "--quiet", "-i", str(archive))
        self.run_program("podman", "push", plain, name)
        self.run_program("podman", "rmi", "--force", name)
        self.run_program("podman", "pull", plain, name)
        self.obeyed()

    def test_skopeo(self) -> None:
        """Skopeo logs in, pushes, pulls and deletes."""
        self.needs("skopeo")
        self.skopeo_push_and_pull(f"docker://{HOST}/logins/skopeo:v1")
        self.obeyed()

    def test_skopeo_with_a_robot(self) -> None:
        """Skopeo logs in with a robot's token as password, pushes, pulls and deletes."""
        self.needs("skopeo")
        self.skopeo_push_and_pull(f"docker://{HOST}/logins/skopeo-robot:v1", self.robot())
        self.obeyed()

    def test_crane(self) -> None:
        """``crane`` logs in, pushes, pulls and deletes."""
        self.needs("crane")
        name = f"{HOST}/logins/crane:v1"
        login = ("auth", "login", HOST, "-u", USER, "--password-stdin")
        self.run_program("crane", *login, text=PASSWORD)
        write_oci_layout(self.home / "layout", self.content, "v1")
        self.run_program("crane", "push", str(self.home / "layout"), name)
        self.run_program("crane", "pull", "--format=oci", name, str(self.home / "back"))
        self.came_back(self.home / "back")
        self.run_program("crane", "delete", name)
        self.obeyed()

    def test_regctl(self) -> None:
        """``regctl`` logs in, pushes, pulls and deletes."""
        self.needs("regctl")
        name = f"{HOST}/logins/regctl:v1"
        self.run_program("regctl", "registry", "set", "--skip-check", "--tls", "disabled", HOST)
        self.run_program("regctl", "registry", "login", HOST, "-u", USER, "--pass-stdin", text=PASSWORD)
        write_oci_layout(self.home / "layout", self.content, "v1")
        self.run_program("regctl", "image", "copy", f"ocidir://{self.home}/layout:v1", name)
        self.run_program("regctl", "image", "copy", name, f"ocidir://{self.home}/back:v1")
        self.came_back(self.home / "back")
        self.run_program("regctl", "tag", "delete", name)
        self.obeyed()

    def test_oras(self) -> None:
        """``oras`` logs in, pushes, pulls and deletes."""
        self.needs("oras")
        name = f"{HOST}/logins/oras:v1"
        login = ("login", "--plain-http", "-u", USER, "--password-stdin", HOST)
        self.run_program("oras", *login, text=PASSWORD)
        write_oci_layout(self.home / "layout", self.content, "v1")
        layout, back = f"{self.home}/layout:v1", f"{self.home}/back:v1"
        self.run_program("oras", "cp", "--from-oci-layout", layout, "--to-plain-http", name)
        self.run_program("oras", "cp", "--from-plain-http", name, "--to-oci-layout", back)
        self.came_back(self.home / "back")
        self.run_program("oras", "manifest", "delete", "--force", "--plain-http", name)
        self.obeyed()

    def test_helm(self) -> None:
        """Helm logs in, pushes and pulls."""
        self.needs("helm")
        login = ("registry", "login", "--plain-http", "-u", USER, "--password-stdin", HOST)
        self.run_program("helm", *login, text=PASSWORD)
        (self.home / "chart").mkdir()
        (self.home / "chart" / "Chart.yaml").write_text(CHART)
        self.run_program("helm", "package", str(self.home / "chart"), "--destination", str(self.home))
        package = self.home / "chart-0.1.0.tgz"
        self.run_program("helm", "push", "--plain-http", str(package), f"oci://{HOST}/logins")
        pull = ("pull", "--plain-http", f"oci://{HOST}/logins/chart", "--version", "0.1.0")
        self.run_program("helm", *pull, "--destination", str(self.home / "tmp"))
        self.assertEqual(package.read_bytes(), (self.home / "tmp" / package.name).read_bytes())
        self.obeyed()

    def test_ctr(self) -> None:
        """``ctr`` pushes and pulls with user and password; it has no login."""
        self.needs("ctr", "containerd")
        cls, name = type(self), f"{HOST}/logins/ctr:v1"
        if cls._containerd is None:
            cls._containerd = Containerd(self.directory / "containerd", self.namespace)
        write_oci_layout(self.home / "layout", self.content, "v1")
        with tarfile.open(self.home / "image.tar", "w") as file:
            for path in sorted((self.home / "layout").iterdir()):
                file.add(path, arcname=path.name)
        ctr: Sequence[str] = ("ctr", "--address", cls._containerd.address, "--namespace", "logins")
        remote = ("--plain-http", "--user", f"{USER}:{PASSWORD}")
        options = ("--no-unpack", "--base-name", f"{HOST}/logins/ctr")
        self.run_program(*ctr, "images", "import", *options, str(self.home / "image.tar"))
        self.run_program(*ctr, "images", "push", *remote, name)
        self.run_program(*ctr, "images", "remove", "--sync", name)
        self.run_program(*ctr, "content", "fetch", *remote, "--platform", "linux/amd64", name)
        held = set(self.run_program(*ctr, "content", "list", "--quiet").split())
        self.assertEqual({each.digest for each in (self.content.manifest, *self.content.blobs)}, held)
        self.obeyed()

    def test_curl_with_a_robot(self) -> None:
        """``curl`` uses a robot's token as password, as Bearer token, and to have another one given."""
        secret, url = self.robot(), f"http://{HOST}"
        self.assertEqual("200", self.status("-u", f"{USER}:{secret}", f"{url}/v2/"))
        self.assertEqual("200", self.status("-H", f"Authorization: Bearer {secret}", f"{url}/v2/"))
        self.assertEqual("401", self.status("-u", f"{USER}:{secret}x", f"{url}/v2/"))
        given = json.loads(self.curl("-f", "-u", f"{USER}:{secret}", f"{url}/token"))["token"]
        self.assertEqual("200", self.status("-H", f"Authorization: Bearer {given}", f"{url}/v2/"))
