"""ctr: containerd's own fetching and pushing, with a containerd of our own."""

from __future__ import annotations

import tarfile
from typing import ClassVar

from tests.clients.breaker import Breaker
from tests.clients.case import PASSWORD, READER, USER
from tests.clients.containerd import Containerd
from tests.clients.local import LocalClientTestCase, lacking, large_image
from tests.integration.images import Image, Index, image, index

MIB = 1024 * 1024


class CtrTests(LocalClientTestCase):
    skip = lacking("ctr", "containerd", root=True)
    containerd: ClassVar[Containerd]

    @classmethod
    def start_class(cls) -> None:
        """Start the registry and containerd."""
        super().start_class()
        try:
            cls.containerd = Containerd(cls.directory / "containerd", cls.namespace)
        except BaseException:
            super().stop_class()
            raise

    @classmethod
    def stop_class(cls) -> None:
        """Stop both."""
        cls.containerd.close()
        super().stop_class()

    def ctr(self, *arguments: str) -> str:
        """Run a command that must succeed and return its output."""
        return self.run_program(*self.command(*arguments))

    def command(self, *arguments: str) -> list[str]:
        """Return a command for our containerd; each test has its own namespace of images."""
        return [
            "ctr",
            "--address",
            self.containerd.address,
            "--namespace",
            self.id().rsplit(".", 1)[-1],
            *arguments,
        ]

    def remote(self, *arguments: str, user: str = USER, password: str = PASSWORD) -> list[str]:
        """Return a command's options for the registry after its first two words."""
        return [*arguments[:2], "--plain-http", "--user", f"{user}:{password}", *arguments[2:]]

    def load(self, content: Image | Index, name: str) -> str:
        """Bring an image into containerd and return its name."""
        layout = self.layout_directory(content)
        archive = self.home / f"{layout.name}.tar"
        with tarfile.open(archive, "w") as file:
            for path in sorted(layout.iterdir()):
                file.add(path, arcname=path.name)
        self.ctr("images", "import", "--no-unpack", "--all-platforms", "--base-name", "loaded", str(archive))
        full = f"{self.host}/{name}"
        self.ctr("images", "tag", "loaded:v1", full)
        return full

    def push(self, content: Image | Index, name: str) -> str:
        """Push an image and return its name; containerd forgets it."""
        full = self.load(content, name)
        self.ctr(*self.remote("images", "push", full))
        self.forget()
        return full

    def forget(self) -> None:
        """Remove all images and content."""
        for name in self.ctr("images", "list", "--quiet").split():
            self.ctr("images", "remove", "--sync", name)
        self.assertEqual("", self.ctr("content", "list", "--quiet"))

    def held(self) -> set[str]:
        """Return the digests of containerd's content."""
        return set(self.ctr("content", "list", "--quiet").split())

    @staticmethod
    def digests(content: Image) -> set[str]:
        """Return the digests of an image's manifest and blobs."""
        return {each.digest for each in (content.manifest, *content.blobs)}

    def test_push_and_pull(self) -> None:
        """An image arrives, returns unchanged and is unpacked."""
        content = image("ctr image")
        name = self.push(content, "ctr/image:v1")
        pull = self.remote("images", "pull", "--snapshotter", "native", "--platform", "linux/amd64", name)
        self.ctr(*pull)
        self.assertEqual(self.digests(content), self.held())

    def test_docker_format(self) -> None:
        """An image in Docker's format."""
        content = image("ctr docker", docker=True)
        name = self.push(content, "ctr/docker:v1")
        self.ctr(*self.remote("content", "fetch", "--platform", "linux/amd64", name))
        self.assertEqual(self.digests(content), self.held())

    def test_index(self) -> None:
        """An image for several platforms, one of them and whole."""
        top = index([image("ctr index", architecture=name) for name in ("amd64", "arm64")])
        name = self.push(top, "ctr/index:v1")
        self.ctr(*self.remote("content", "fetch", "--platform", "linux/arm64", name))
        self.assertLessEqual(self.digests(top.images[1]) | {top.manifest.digest}, self.held())
        self.assertNotIn(top.images[0].config.digest, self.held())
        self.ctr(*self.remote("content", "fetch", "--all-platforms", name))
        whole = {top.manifest.digest}.union(*(self.digests(child) for child in top.images))
        self.assertEqual(whole, self.held())

    def test_copy(self) -> None:
        """A pulled image pushed to another repository: its layers are mounted."""
        content = image("ctr copy")
        name = self.push(content, "ctr/source:v1")
        self.ctr(*self.remote("content", "fetch", "--platform", "linux/amd64", name))
        target = f"{self.host}/ctr/target:v1"
        self.ctr("images", "tag", name, target)
        self.ctr(*self.remote("images", "push", target))
        self.forget()
        self.ctr(*self.remote("content", "fetch", "--platform", "linux/amd64", target))
        self.assertEqual(self.digests(content), self.held())

    def test_object(self) -> None:
        """``fetch-object`` and ``push-object`` move one manifest."""
        content = image("ctr object")
        name = self.push(content, "ctr/object:v1")
        text = self.ctr(*self.remote("content", "fetch-object", name))
        self.assertIn(content.config.digest, text)

    def test_broken_download(self) -> None:
        """A download goes on where the connection broke."""
        content = large_image(4 * MIB)
        name = self.push(content, "ctr/broken:v1")
        breaker = Breaker(self.server.port, download_bytes=MIB)
        self.addCleanup(breaker.close)
        through = name.replace(self.host, breaker.host)
        fetch = self.command(*self.remote("content", "fetch", "--platform", "linux/amd64", through))
        self.namespace.run(fetch, self.environment)
        self.run_program(*fetch)
        self.assertTrue(breaker.has_cut)
        self.assertLessEqual(1, breaker.parts)
        self.assertTrue(any(MIB // 2 < offset < 4 * MIB for offset in breaker.offsets), breaker.offsets)
        self.assertEqual(self.digests(content), self.held())

    def test_rights(self) -> None:
        """Docker.Download alone pulls and cannot push; a wrong password gets nothing."""
        content = image("ctr rights")
        name = self.push(content, "ctr/rights:v1")
        fetch = ("content", "fetch", "--platform", "linux/amd64", name)
        self.ctr(*self.remote(*fetch, user=READER[0], password=READER[1]))
        target = f"{self.host}/ctr/other:v1"
        self.ctr("images", "tag", name, target)
        self.refused(
            *self.command(*self.remote("images", "push", target, user=READER[0], password=READER[1]))
        )
        self.refused(*self.command(*self.remote(*fetch, password="wrong")))
