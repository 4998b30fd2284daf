"""The Docker daemon and its command line, as users type them."""

from __future__ import annotations

import json
import os
import re
import time
from typing import ClassVar

from tests.clients.case import PASSWORD, READER, REGISTRY, USER, WRITER, ClientTestCase
from tests.clients.docker_daemon import DockerDaemon
from tests.clients.namespace import missing
from tests.integration.images import image, tar_of, write_docker_archive


class DockerTests(ClientTestCase):
    skip = missing("docker", "dockerd", "curl") or None
    daemon: ClassVar[DockerDaemon]

    @classmethod
    def start_class(cls) -> None:
        """Start the daemon as well."""
        super().start_class()
        try:
            cls.daemon = DockerDaemon(cls.directory / "dockerd", cls.namespace, REGISTRY)
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
        return {**super().environment, "DOCKER_HOST": self.daemon.address, "DOCKER_BUILDKIT": "0"}

    def docker(self, *arguments: str) -> str:
        """Run a command that must succeed."""
        return self.run_program("docker", *arguments)

    def login(self, user: str = USER, password: str = PASSWORD) -> None:
        """Log in, as the seed does."""
        self.assertIn("Login Succeeded", self.docker("login", "-u", user, "-p", password, REGISTRY))

    def load(self, name: str, *, architecture: str = "amd64") -> str:
        """Put an image of three layers into the daemon under a name, and return its id."""
        archive = self.home / "image.tar"
        write_docker_archive(archive, image(name, architecture=architecture), name)
        self.docker("load", "--quiet", "-i", str(archive))
        return self.image_id(name)

    def image_id(self, name: str) -> str:
        """Return the id of an image in the daemon."""
        return self.docker("image", "inspect", "--format", "{{.Id}}", name).strip()

    def test_push_and_pull(self) -> None:
        """Three layers are pushed; again they exist; after rmi they come back, by tag and by digest."""
        name = f"{REGISTRY}/docker/three:v1"
        self.login()
        identity = self.load("local/three:v1")
        self.docker("tag", "local/three:v1", name)
        pushed = self.docker("push", name)
        self.assertEqual(3, pushed.count(": Pushed"), pushed)
        found = re.search(r"digest: (sha256:[0-9a-f]{64})", pushed)
        assert found is not None, pushed
        self.assertEqual(3, self.docker("push", name).count(": Layer already exists"))
        self._forget(identity)
        self.assertIn("Downloaded newer image", self.docker("pull", name))
        self.assertEqual(identity, self.image_id(name))
        self._forget(identity)
        by_digest = f"{REGISTRY}/docker/three@{found[1]}"
        self.docker("pull", by_digest)
        self.assertEqual(identity, self.image_id(by_digest))

    def _forget(self, identity: str) -> None:
        self.docker("rmi", "--force", identity)
        self.assertEqual(
            "", self.docker("image", "ls", "--quiet", "--no-trunc", "--all", "local/three").strip()
        )
        self.assertNotIn(identity, self.docker("image", "ls", "--quiet", "--no-trunc", "--all"))

    def test_seed_commands(self) -> None:
        """The commands this registry was asked to serve work as they are written."""
        self.load("hello:1.0")
        self.docker("login", "-u", "user", "-p", "pass", "host.docker.internal:8080")
        self.docker("tag", "hello:1.0", "host.docker.internal:8080/team/hello:1.0")
        self.docker("push", "host.docker.internal:8080/team/hello:1.0")
        self.docker("rmi", "host.docker.internal:8080/team/hello:1.0")
        self.docker("pull", "host.docker.internal:8080/team/hello:1.0")
        url = "http://host.docker.internal:8080/v2"
        self.assertEqual({}, json.loads(self.curl("-u", "user:pass", f"{url}/")))
        self.assertIn(
            "team/hello", json.loads(self.curl("-u", "user:pass", f"{url}/_catalog"))["repositories"]
        )
        tags = json.loads(self.curl("-u", "user:pass", f"{url}/team/hello/tags/list"))
        self.assertEqual({"name": "team/hello", "tags": ["1.0"]}, tags)

    def test_wrong_password(self) -> None:
        """A login with a wrong password is refused, and so is an unknown user."""
        for user, password in ((USER, "wrong"), ("nobody", PASSWORD)):
            output = self.refused("docker", "login", "-u", user, "-p", password, REGISTRY)
            self.assertIn("unauthorized", output.lower())

    def test_logout(self) -> None:
        """After logout neither push nor pull works."""
        name = f"{REGISTRY}/docker/logout:v1"
        self.login()
        self.load(name)
        self.docker("push", name)
        self.docker("logout", REGISTRY)
        for verb in ("push", "pull"):
            output = self.refused("docker", verb, name)
            self.assertRegex(output, r"no basic auth credentials|unauthorized|authentication required|denied")

    def test_download_only(self) -> None:
        """A user with only Docker.Download pulls, and is told why the push fails."""
        name = f"{REGISTRY}/docker/download:v1"
        self.login()
        identity = self.load(name)
        self.docker("push", name)
        self.docker("rmi", "--force", identity)
        self.login(*READER)
        self.docker("pull", name)
        self.docker("tag", name, f"{REGISTRY}/docker/download:v2")
        output = self.refused("docker", "push", f"{REGISTRY}/docker/download:v2")
        self.assertIn("denied", output)
        self.load(f"{REGISTRY}/docker/refused:v1")
        output = self.refused("docker", "push", f"{REGISTRY}/docker/refused:v1")
        self.assertRegex(output, r"denied: .*(push|upload|Upload)")

    def test_upload_only(self) -> None:
        """A user with only Docker.Upload pushes, and is told why the pull fails."""
        name = f"{REGISTRY}/docker/upload:v1"
        self.login(*WRITER)
        identity = self.load(name)
        self.docker("push", name)
        self.docker("rmi", "--force", identity)
        output = self.refused("docker", "pull", name)
        self.assertRegex(output, r"denied.*(pull|download|Download)")
        self.login()
        self.docker("pull", name)

    def test_build(self) -> None:
        """An image built from a Dockerfile is pushed and pulled."""
        context = self.home / "context"
        context.mkdir()
        for number in range(3):
            (context / f"file{number}").write_text(f"{number}\n" * 1000)
        lines = ["FROM scratch", *(f"COPY file{number} /" for number in range(3)), 'CMD ["/none"]']
        (context / "Dockerfile").write_text("\n".join(lines) + "\n")
        name = f"{REGISTRY}/docker/built:latest"
        self.docker("build", "--tag", name, str(context))
        self.login()
        identity = self.image_id(name)
        self.docker("push", name)
        self.docker("rmi", "--force", identity)
        self.docker("pull", name)
        self.assertEqual(identity, self.image_id(name))

    def test_large_layer(self) -> None:
        """A layer of 64 MiB that does not compress goes through whole."""
        archive, name = self.home / "large.tar", f"{REGISTRY}/docker/large:v1"
        archive.write_bytes(tar_of({"noise": os.urandom(64 << 20)}))
        identity = self.docker("import", str(archive), name).strip()
        self.login()
        self.docker("push", name)
        self.docker("rmi", "--force", identity)
        self.docker("pull", name)
        self.assertEqual(identity, self.image_id(name))

    def test_mount_between_repositories(self) -> None:
        """The same image under another name is pushed without sending its layers."""
        first, second = f"{REGISTRY}/docker/origin:v1", f"{REGISTRY}/docker/mounted:v1"
        self.login()
        self.load(first)
        self.docker("push", first)
        self.docker("tag", first, second)
        self.assertEqual(3, self.docker("push", second).count("Mounted from docker/origin"))

    def test_manifest_list(self) -> None:
        """``docker manifest`` creates, pushes and inspects a list of two architectures."""
        self.login()
        single = []
        for architecture in ("amd64", "arm64"):
            single.append(f"{REGISTRY}/docker/single:{architecture}")
            self.load(single[-1], architecture=architecture)
            self.docker("push", single[-1])
        name = f"{REGISTRY}/docker/multi:v1"
        self.docker("manifest", "create", "--insecure", name, *single)
        self.docker("manifest", "annotate", name, single[1], "--arch", "arm64", "--os", "linux")
        self.docker("manifest", "push", "--insecure", name)
        shown = json.loads(self.docker("manifest", "inspect", "--insecure", name))
        found = {entry["platform"]["architecture"] for entry in shown["manifests"]}
        self.assertEqual({"amd64", "arm64"}, found)
        self.docker("pull", name)

    def test_no_wait_for_tls(self) -> None:
        """Pulling over plain HTTP loses no time on TLS."""
        self.login()
        name = f"{REGISTRY}/docker/quick:v1"
        self.load(name)
        self.docker("push", name)
        began = time.monotonic()
        self.docker("pull", name)
        self.assertLess(time.monotonic() - began, 2.0)
