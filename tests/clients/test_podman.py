"""podman and buildah: push and pull in both formats, on storage of their own."""

from __future__ import annotations

import json

from tests.clients.case import PASSWORD, READER, REGISTRY, USER, WRITER, ClientTestCase
from tests.clients.namespace import missing
from tests.integration.images import DOCKER_MANIFEST, OCI_MANIFEST, image, write_docker_archive

POLICY = '{"default":[{"type":"insecureAcceptAnything"}]}'
TYPES = {"v2s2": DOCKER_MANIFEST, "oci": OCI_MANIFEST}


class StorageTestCase(ClientTestCase):
    """Container storage in the home of each test."""

    def setUp(self) -> None:
        """Write the storage's settings."""
        super().setUp()
        storage = self.home / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{self.home}/graph"\nrunroot = "{self.home}/run/c"\n'
        )
        policy = self.home / ".config" / "containers"
        policy.mkdir(parents=True)
        (policy / "policy.json").write_text(POLICY)

    @property
    def environment(self) -> dict[str, str]:
        """As all clients', with the storage."""
        return {
            **super().environment,
            "CONTAINERS_STORAGE_CONF": str(self.home / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }


class PodmanTests(StorageTestCase):
    skip = missing("podman", "curl") or None

    def podman(self, *arguments: str) -> str:
        """Run a command that must succeed."""
        return self.run_program("podman", *arguments)

    def login(self, user: str = USER, password: str = PASSWORD) -> None:
        """Log in."""
        command = ("login", "--tls-verify=false", "-u", user, "-p", password, REGISTRY)
        self.assertIn("Login Succeeded", self.podman(*command))

    def load(self, name: str) -> str:
        """Put an image of three layers into the storage, and return its id."""
        archive = self.home / "image.tar"
        write_docker_archive(archive, image(name), name)
        self.podman("load", "--quiet", "-i", str(archive))
        return self.image_id(name)

    def image_id(self, name: str) -> str:
        """Return the id of an image in the storage."""
        return self.podman("image", "inspect", "--format", "{{.Id}}", name).strip()

    def test_push_and_pull(self) -> None:
        """An image goes out in Docker's and in OCI format, and comes back."""
        self.login()
        for family, media_type in TYPES.items():
            name = f"{REGISTRY}/podman/{family}:v1"
            identity = self.load(name)
            self.podman("push", "--tls-verify=false", "--format", family, name)
            self.assertEqual(media_type, self.media_type(f"/v2/podman/{family}/manifests/v1"))
            self.podman("rmi", "--force", name)
            self.podman("pull", "--tls-verify=false", name)
            if family == "v2s2":  # the other format has another configuration, and so another id
                self.assertEqual(identity, self.image_id(name))

    def test_zstd(self) -> None:
        """Layers compressed by zstd are pushed and pulled."""
        self.login()
        name = f"{REGISTRY}/podman/zstd:v1"
        self.load(name)
        self.podman("push", "--tls-verify=false", "--format", "oci", "--compression-format", "zstd", name)
        layers = self.get("/v2/podman/zstd/manifests/v1")["layers"]
        self.assertTrue(all(layer["mediaType"].endswith("+zstd") for layer in layers), layers)
        self.podman("rmi", "--force", name)
        self.podman("pull", "--tls-verify=false", name)

    def test_wrong_password(self) -> None:
        """A login with a wrong password is refused."""
        command = ("podman", "login", "--tls-verify=false", "-u", USER, "-p", "wrong", REGISTRY)
        self.assertIn("invalid username/password", self.refused(*command))

    def test_privileges(self) -> None:
        """Docker.Upload alone pushes and cannot pull; Docker.Download alone pulls and cannot push."""
        name = f"{REGISTRY}/podman/rights:v1"
        self.login(*WRITER)
        self.load(name)
        self.podman("push", "--tls-verify=false", name)
        self.refused("podman", "pull", "--tls-verify=false", name)
        self.login(*READER)
        self.podman("pull", "--tls-verify=false", name)
        other = f"{REGISTRY}/podman/refused:v1"
        self.podman("tag", name, other)
        self.assertIn("denied", self.refused("podman", "push", "--tls-verify=false", other).lower())


class BuildahTests(StorageTestCase):
    skip = missing("buildah", "curl") or None

    def buildah(self, *arguments: str) -> str:
        """Run a command that must succeed."""
        return self.run_program("buildah", *arguments)

    def test_build_push_and_pull(self) -> None:
        """An image made from scratch goes out in both formats and comes back."""
        self.buildah("login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, REGISTRY)
        container = self.buildah("from", "scratch").strip()
        source = self.home / "file"
        source.write_text("content\n" * 1000)
        self.buildah("copy", container, str(source), "/file")
        self.buildah("commit", "--quiet", container, "local/built:v1")
        for family, media_type in TYPES.items():
            name = f"{REGISTRY}/buildah/{family}:v1"
            self.buildah(
                "push",
                "--tls-verify=false",
                "--format",
                family,
                "localhost/local/built:v1",
                f"docker://{name}",
            )
            self.assertEqual(media_type, self.media_type(f"/v2/buildah/{family}/manifests/v1"))
            self.buildah("pull", "--tls-verify=false", name)
            shown = json.loads(self.buildah("inspect", "--type", "image", name))
            self.assertEqual(1, len(shown["OCIv1"]["rootfs"]["diff_ids"]))
