"""crane: everything that it does with images in a registry."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clients.breaker import Breaker
from tests.clients.case import PASSWORD, READER, USER, WRITER
from tests.clients.local import LocalClientTestCase, lacking, large_image
from tests.integration.images import DOCKER_MANIFEST, OCI_INDEX, Image, Index, image, index, tar_of

MIB = 1024 * 1024


class CraneTests(LocalClientTestCase):
    skip = lacking("crane")

    def setUp(self) -> None:
        """Log in."""
        super().setUp()
        self.login()

    def login(self, user: str = USER, password: str = PASSWORD) -> None:
        """Log in as a user."""
        self.crane("auth", "login", self.host, "-u", user, "--password-stdin", text=password)

    def crane(self, *arguments: str, text: str = "") -> str:
        """Run a command that must succeed and return its output."""
        return self.run_program("crane", *arguments, text=text).strip()

    def push(self, content: Image | Index, name: str) -> str:
        """Push an image and return its full name."""
        target = f"{self.host}/{name}"
        self.crane("push", str(self.layout_directory(content)), target)
        return target

    def test_push_and_pull(self) -> None:
        """An image arrives and returns unchanged."""
        content = image("crane image")
        name = self.push(content, "crane/image:v1")
        self.assertEqual(content.manifest.digest, self.crane("digest", name))
        self.crane("pull", "--format=oci", name, str(self.home / "back"))
        for blob in (content.manifest, *content.blobs):
            stored = self.home / "back/blobs/sha256" / blob.digest.removeprefix("sha256:")
            self.assertEqual(blob.content, stored.read_bytes())
        self.crane("validate", "--remote", name)

    def test_inspect(self) -> None:
        """Manifest, configuration, blobs and the file system of an image."""
        content = image("crane inspect")
        name = self.push(content, "crane/inspect:v1")
        self.assertEqual(json.loads(content.manifest.content), json.loads(self.crane("manifest", name)))
        self.assertEqual(json.loads(content.config.content), json.loads(self.crane("config", name)))
        blob = self.crane("blob", f"{self.host}/crane/inspect@{content.config.digest}")
        self.assertEqual(content.config.content.decode(), blob)
        self.crane("export", name, str(self.home / "files.tar"))
        self.assertIn(b"crane inspect 1", (self.home / "files.tar").read_bytes())

    def test_docker_format(self) -> None:
        """An image in Docker's format."""
        content = image("crane docker", docker=True)
        name = self.push(content, "crane/docker:v1")
        self.assertEqual(content.manifest.digest, self.crane("digest", name))
        self.assertEqual(DOCKER_MANIFEST, json.loads(self.crane("manifest", name))["mediaType"])

    def test_index(self) -> None:
        """An image for several platforms, whole and one of them."""
        top = index([image("crane index", architecture=name) for name in ("amd64", "arm64")])
        name = self.push(top, "crane/index:v1")
        self.assertEqual(top.manifest.digest, self.crane("digest", name))
        chosen = self.crane("digest", "--platform=linux/arm64", name)
        self.assertEqual(top.images[1].manifest.digest, chosen)
        self.crane("validate", "--remote", name)

    def test_make_index(self) -> None:
        """``index append`` makes an index of pushed images, ``index filter`` a smaller one."""
        parts = [image("crane parts", architecture=name) for name in ("amd64", "arm64")]
        names = [self.push(part, f"crane/parts:{part.architecture}") for part in parts]
        flags = [flag for name in names for flag in ("--manifest", name)]
        top = f"{self.host}/crane/parts:all"
        self.crane("index", "append", *flags, "--tag", top)
        self.assertEqual(OCI_INDEX, json.loads(self.crane("manifest", top))["mediaType"])
        less = f"{self.host}/crane/parts:less"
        self.crane("index", "filter", top, "--platform=linux/arm64", "--tag", less)
        children = json.loads(self.crane("manifest", less))["manifests"]
        self.assertEqual([parts[1].manifest.digest], [child["digest"] for child in children])

    def test_copy(self) -> None:
        """A copy to another repository, one tag or all of them."""
        content = image("crane copy")
        name = self.push(content, "crane/source:v1")
        self.crane("tag", name, "v2")
        self.crane("copy", name, f"{self.host}/crane/target:v1")
        self.assertEqual(content.manifest.digest, self.crane("digest", f"{self.host}/crane/target:v1"))
        self.crane("copy", "--all-tags", f"{self.host}/crane/source", f"{self.host}/crane/all")
        self.assertEqual(["v1", "v2"], self.crane("ls", f"{self.host}/crane/all").split())

    def test_list(self) -> None:
        """Tags of a repository and repositories of the registry."""
        name = self.push(image("crane list"), "crane/list:v1")
        self.crane("tag", name, "v2")
        self.assertEqual(["v1", "v2"], self.crane("ls", f"{self.host}/crane/list").split())
        self.assertIn("crane/list", self.crane("catalog", self.host).split())

    def test_append_and_mutate(self) -> None:
        """A layer and labels added to an image that lies in the registry."""
        name = self.push(image("crane append"), "crane/append:v1")
        layer = Path(self.home, "layer.tar")
        layer.write_bytes(tar_of({"more.txt": b"more\n"}))
        longer, labelled = f"{self.host}/crane/append:v2", f"{self.host}/crane/append:v3"
        self.crane("append", "--base", name, "--new_layer", str(layer), "--new_tag", longer)
        self.assertEqual(4, len(json.loads(self.crane("manifest", longer))["layers"]))
        self.crane("mutate", longer, "--label=colour=red", "--tag", labelled)
        self.assertEqual("red", json.loads(self.crane("config", labelled))["config"]["Labels"]["colour"])
        self.crane("validate", "--remote", labelled)

    def test_delete(self) -> None:
        """A tag goes and leaves its manifest, a manifest goes with its tags."""
        content = image("crane delete")
        name = self.push(content, "crane/delete:v1")
        self.crane("tag", name, "v2")
        self.crane("delete", name)
        self.assertEqual(["v2"], self.crane("ls", f"{self.host}/crane/delete").split())
        self.crane("delete", f"{self.host}/crane/delete@{content.manifest.digest}")
        self.refused("crane", "manifest", f"{self.host}/crane/delete:v2")

    def test_broken_upload(self) -> None:
        """A push succeeds over a connection that broke once."""
        content = large_image(4 * MIB)
        breaker = Breaker(self.server.port, upload_bytes=MIB)
        self.addCleanup(breaker.close)
        self.crane("auth", "login", breaker.host, "-u", USER, "--password-stdin", text=PASSWORD)
        self.crane("push", str(self.layout_directory(content)), f"{breaker.host}/crane/broken:v1")
        self.assertTrue(breaker.has_cut)
        self.crane("validate", "--remote", f"{self.host}/crane/broken:v1")

    def test_rights(self) -> None:
        """Docker.Upload alone pushes and cannot pull, Docker.Download alone pulls and cannot push."""
        self.login(*WRITER)
        name = self.push(image("crane rights"), "crane/rights:v1")
        self.refused("crane", "manifest", name)
        self.login(*READER)
        self.crane("validate", "--remote", name)
        output = self.refused("crane", "tag", name, "v2")
        self.assertIn("DENIED", output)
