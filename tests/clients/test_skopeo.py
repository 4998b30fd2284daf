"""skopeo: copies in both formats, indexes, compression, listing and deleting."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.clients.case import PASSWORD, READER, REGISTRY, USER, WRITER, ClientTestCase
from tests.clients.namespace import missing
from tests.integration.images import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, image, index

POLICY = '{"default":[{"type":"insecureAcceptAnything"}]}'


class SkopeoTests(ClientTestCase):
    skip = missing("skopeo", "curl") or None

    def setUp(self) -> None:
        """Log in."""
        super().setUp()
        self.policy = self.home / "policy.json"
        self.policy.write_text(POLICY)
        self.login()

    def login(self, user: str = USER, password: str = PASSWORD) -> None:
        """Log in as a user."""
        self.skopeo("login", "--tls-verify=false", "-u", user, "-p", password, REGISTRY)

    def skopeo(self, *arguments: str) -> str:
        """Run a command that must succeed."""
        return self.run_program("skopeo", "--policy", str(self.policy), *arguments)

    def copy(self, source: str, target: str, *options: str) -> str:
        """Copy an image."""
        flags = ("--src-tls-verify=false", "--dest-tls-verify=false")
        return self.skopeo("copy", *flags, *options, source, target)

    def test_oci(self) -> None:
        """An image in OCI format arrives and returns unchanged."""
        content, name = image("skopeo oci"), f"docker://{REGISTRY}/skopeo/oci:v1"
        self.copy(self.layout(content), name, "--preserve-digests")
        self.assertEqual(OCI_MANIFEST, self.media_type("/v2/skopeo/oci/manifests/v1"))
        back = self.home / "back"
        self.copy(name, f"oci:{back}:v1")
        top = json.loads((back / "index.json").read_text())["manifests"][0]
        self.assertEqual(content.manifest.digest, top["digest"])
        for blob in content.blobs:
            stored = back / "blobs" / "sha256" / blob.digest.removeprefix("sha256:")
            self.assertEqual(blob.content, stored.read_bytes())

    def test_docker_format(self) -> None:
        """The same image converted to Docker's format on its way."""
        name = f"docker://{REGISTRY}/skopeo/docker:v1"
        self.copy(self.layout(image("skopeo docker")), name, "--format", "v2s2")
        self.assertEqual(DOCKER_MANIFEST, self.media_type("/v2/skopeo/docker/manifests/v1"))
        self.copy(name, f"dir:{self.home}/back")
        self.assertEqual("linux", json.loads(self.inspect(name))["Os"])

    def inspect(self, name: str) -> str:
        """Return what skopeo says about an image."""
        return self.skopeo("inspect", "--tls-verify=false", name)

    def test_index(self) -> None:
        """``copy --all`` brings an index with its images, and takes them out again."""
        top = index([image("skopeo all", architecture=name) for name in ("amd64", "arm64", "riscv64")])
        name = f"docker://{REGISTRY}/skopeo/index:v1"
        self.copy(self.layout(top), name, "--all", "--preserve-digests")
        stored = self.get("/v2/skopeo/index/manifests/v1")
        self.assertEqual(json.loads(top.manifest.content), stored)
        self.assertEqual(OCI_INDEX, stored["mediaType"])
        self.copy(name, f"oci:{self.home}/back:v1", "--all")
        for child in top.images:
            held = Path(self.home, "back/blobs/sha256", child.manifest.digest.removeprefix("sha256:"))
            self.assertEqual(child.manifest.content, held.read_bytes())

    def test_zstd(self) -> None:
        """Layers compressed by zstd are stored as such and come back as the same image."""
        name = f"docker://{REGISTRY}/skopeo/zstd:v1"
        content = image("skopeo zstd")
        raw = self.home / "raw"
        self.copy(self.layout(content), f"dir:{raw}", "--dest-decompress")
        self.copy(f"dir:{raw}", name, "--dest-compress-format", "zstd", "--format", "oci")
        layers = self.get("/v2/skopeo/zstd/manifests/v1")["layers"]
        self.assertEqual(
            {"application/vnd.oci.image.layer.v1.tar+zstd"}, {layer["mediaType"] for layer in layers}
        )
        self.copy(name, f"dir:{self.home}/back", "--dest-decompress")
        for tar, digest in zip(
            content.tars, json.loads(content.config.content)["rootfs"]["diff_ids"], strict=True
        ):
            self.assertEqual(tar, Path(self.home, "back", digest.removeprefix("sha256:")).read_bytes())

    def test_uncompressed(self) -> None:
        """Layers without compression are stored as they are."""
        raw, name = self.home / "raw", f"docker://{REGISTRY}/skopeo/plain:v1"
        self.copy(self.layout(image("skopeo plain")), f"dir:{raw}", "--dest-decompress")
        self.copy(f"dir:{raw}", name, "--preserve-digests")
        self.copy(name, f"oci:{self.home}/back:v1")

    def test_between_repositories(self) -> None:
        """A copy within the registry mounts; asked for by hand, the mount is 201."""
        content, url = image("skopeo mount"), f"http://{REGISTRY}/v2/skopeo/by-hand/blobs/uploads/"
        source = f"docker://{REGISTRY}/skopeo/source:v1"
        self.copy(self.layout(content), source, "--preserve-digests")
        self.copy(source, f"docker://{REGISTRY}/skopeo/target:v1")
        digest = json.loads(self.inspect(f"docker://{REGISTRY}/skopeo/target:v1"))["Digest"]
        self.assertEqual(content.manifest.digest, digest)
        query = f"?mount={content.layers[0].digest}&from=skopeo/source"
        command = (
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-X",
            "POST",
            "-u",
            f"{USER}:{PASSWORD}",
            url + query,
        )
        self.assertEqual("201", self.curl(*command))

    def test_list_and_delete(self) -> None:
        """``list-tags`` lists, ``delete`` deletes."""
        layout = self.layout(image("skopeo list"))
        for tag in ("one", "two"):
            self.copy(layout, f"docker://{REGISTRY}/skopeo/list:{tag}")
        tags = ("list-tags", "--tls-verify=false", f"docker://{REGISTRY}/skopeo/list")
        self.assertEqual(["one", "two"], json.loads(self.skopeo(*tags))["Tags"])
        self.skopeo("delete", "--tls-verify=false", f"docker://{REGISTRY}/skopeo/list:one")
        # Both tags meant one manifest, and skopeo deletes by digest.
        self.assertEqual([], json.loads(self.skopeo(*tags))["Tags"])

    def test_privileges(self) -> None:
        """Docker.Upload alone pushes and cannot pull; Docker.Download alone pulls and cannot push."""
        layout, name = self.layout(image("skopeo rights")), f"docker://{REGISTRY}/skopeo/rights:v1"
        flags = ("--policy", str(self.policy), "copy", "--src-tls-verify=false", "--dest-tls-verify=false")
        self.login(*WRITER)
        self.copy(layout, name)
        self.refused("skopeo", *flags, name, f"dir:{self.home}/stolen")
        self.login(*READER)
        self.copy(name, f"dir:{self.home}/back")
        output = self.refused("skopeo", *flags, layout, f"docker://{REGISTRY}/skopeo/other:v1")
        self.assertIn("denied", output.lower())

    def test_no_wait_for_tls(self) -> None:
        """A command against the plain port takes well under a second."""
        self.copy(self.layout(image("skopeo quick")), f"docker://{REGISTRY}/skopeo/quick:v1")
        times = []
        for _ in range(3):
            began = time.monotonic()
            self.skopeo("list-tags", "--tls-verify=false", f"docker://{REGISTRY}/skopeo/quick")
            times.append(time.monotonic() - began)
        self.assertLess(min(times), 0.5)
