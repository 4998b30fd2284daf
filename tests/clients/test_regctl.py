"""regctl: images, artifacts with subjects, chunked uploads, and transfers over a connection that breaks."""

from __future__ import annotations

import json

from tests.clients.breaker import Breaker
from tests.clients.case import PASSWORD, READER, USER
from tests.clients.local import LocalClientTestCase, lacking
from tests.integration.images import Image, Index, image, index, sha256

MIB = 1024 * 1024


class RegctlTests(LocalClientTestCase):
    skip = lacking("regctl")

    def setUp(self) -> None:
        """Log in."""
        super().setUp()
        self.login(self.host)

    def login(self, host: str, user: str = USER, password: str = PASSWORD) -> None:
        """Log in as a user, over plain HTTP."""
        self.regctl("registry", "set", "--skip-check", "--tls", "disabled", host)
        self.regctl("registry", "login", host, "-u", user, "--pass-stdin", text=password)

    def regctl(self, *arguments: str, text: str = "") -> str:
        """Run a command that must succeed and return its output."""
        return self.run_program("regctl", *arguments, text=text).strip()

    def push(self, content: Image | Index, name: str) -> str:
        """Push an image and return its full name."""
        target = f"{self.host}/{name}"
        self.regctl("image", "copy", f"ocidir://{self.layout_directory(content)}:v1", target)
        return target

    def test_push_and_pull(self) -> None:
        """An image arrives and returns unchanged."""
        content = image("regctl image")
        name = self.push(content, "regctl/image:v1")
        self.assertEqual(content.manifest.digest, self.regctl("image", "digest", name))
        back = self.home / "back"
        self.regctl("image", "copy", name, f"ocidir://{back}:v1")
        for blob in (content.manifest, *content.blobs):
            stored = back / "blobs/sha256" / blob.digest.removeprefix("sha256:")
            self.assertEqual(blob.content, stored.read_bytes())

    def test_sha512(self) -> None:
        """An image whose every digest is a sha512."""
        name = self.push(image("regctl sha512"), "regctl/sha512:v1")
        made = f"{self.host}/regctl/sha512:v2"
        self.regctl("image", "mod", "--digest-algo", "sha512", "--create", made, name)
        document = json.loads(self.regctl("manifest", "get", "--format", "raw-body", made))
        self.assertTrue(all(layer["digest"].startswith("sha512:") for layer in document["layers"]))
        digest = self.regctl("image", "digest", made)
        self.assertTrue(digest.startswith("sha512:"), digest)
        self.regctl("manifest", "head", f"{self.host}/regctl/sha512@{digest}")
        self.regctl("image", "copy", made, f"ocidir://{self.home / 'back'}:v2")

    def test_archive(self) -> None:
        """``image export`` and ``image import`` carry an image through a file."""
        content = image("regctl archive")
        name = self.push(content, "regctl/archive:v1")
        archive = str(self.home / "archive.tar")
        self.regctl("image", "export", name, archive)
        self.regctl("image", "import", f"{self.host}/regctl/imported:v1", archive)
        digest = self.regctl("image", "digest", f"{self.host}/regctl/imported:v1")
        self.assertEqual(content.manifest.digest, digest)

    def test_inspect(self) -> None:
        """Manifest and configuration of an image, and a file in it."""
        content = image("regctl inspect")
        name = self.push(content, "regctl/inspect:v1")
        body = self.regctl("manifest", "get", "--format", "raw-body", name)
        self.assertEqual(content.manifest.content.decode(), body)
        self.assertEqual("amd64", json.loads(self.regctl("image", "inspect", name))["architecture"])
        self.assertIn("regctl inspect 2", self.regctl("image", "get-file", name, "layer-2.txt"))

    def test_index(self) -> None:
        """An image for several platforms, whole and one of them."""
        top = index([image("regctl index", architecture=name) for name in ("amd64", "arm64")])
        name = self.push(top, "regctl/index:v1")
        self.assertEqual(top.manifest.digest, self.regctl("image", "digest", name))
        chosen = self.regctl("image", "digest", "--platform", "linux/arm64", name)
        self.assertEqual(top.images[1].manifest.digest, chosen)

    def test_make_index(self) -> None:
        """``index create`` makes an index of pushed images."""
        parts = [image("regctl parts", architecture=name) for name in ("amd64", "arm64")]
        names = [self.push(part, f"regctl/parts:{part.architecture}") for part in parts]
        flags = [flag for name in names for flag in ("--ref", name)]
        top = f"{self.host}/regctl/parts:all"
        self.regctl("index", "create", *flags, top)
        children = json.loads(self.regctl("manifest", "get", "--format", "raw-body", top))["manifests"]
        self.assertEqual([part.manifest.digest for part in parts], [child["digest"] for child in children])

    def test_copy(self) -> None:
        """A copy to another repository, of an image and of a blob."""
        content = image("regctl copy")
        name = self.push(content, "regctl/source:v1")
        target = f"{self.host}/regctl/target"
        self.regctl("image", "copy", name, f"{target}:v1")
        self.assertEqual(content.manifest.digest, self.regctl("image", "digest", f"{target}:v1"))
        digest = content.layers[0].digest
        self.regctl("blob", "copy", f"{self.host}/regctl/source", f"{self.host}/regctl/blob", digest)
        self.regctl("blob", "head", f"{self.host}/regctl/blob", digest)

    def test_list(self) -> None:
        """Tags of a repository and repositories of the registry."""
        name = self.push(image("regctl list"), "regctl/list:v1")
        self.regctl("image", "copy", name, f"{self.host}/regctl/list:v2")
        self.assertEqual(["v1", "v2"], self.regctl("tag", "ls", f"{self.host}/regctl/list").split())
        self.assertIn("regctl/list", self.regctl("repo", "ls", self.host).split())

    def test_delete(self) -> None:
        """A tag goes and leaves its manifest; then the manifest; then a blob."""
        content = image("regctl delete")
        repository = f"{self.host}/regctl/delete"
        name = self.push(content, "regctl/delete:v1")
        self.regctl("tag", "delete", name)
        self.assertEqual("", self.regctl("tag", "ls", repository))
        by_digest = f"{repository}@{content.manifest.digest}"
        self.regctl("manifest", "head", by_digest)
        self.regctl("manifest", "delete", by_digest)
        self.refused("regctl", "manifest", "head", by_digest)
        self.regctl("blob", "delete", repository, content.layers[0].digest)
        self.refused("regctl", "blob", "head", repository, content.layers[0].digest)

    def test_artifacts(self) -> None:
        """Artifacts attached to an image are listed by type, fetched, and copied with it."""
        name = self.push(image("regctl subject"), "regctl/subject:v1")
        for kind in ("sbom", "signature"):
            options = ("--subject", name, "--artifact-type", f"application/x-{kind}")
            self.regctl("artifact", "put", *options, text=f"the {kind}")
        self.assertIn("application/x-signature", self.regctl("artifact", "tree", name))
        only = ("--filter-artifact-type", "application/x-sbom")
        listed = json.loads(self.regctl("artifact", "list", name, *only, "--format", "{{json .}}"))
        self.assertEqual(["application/x-sbom"], [each["artifactType"] for each in listed["descriptors"]])
        self.assertEqual("the sbom", self.regctl("artifact", "get", "--subject", name, *only))
        copy = f"{self.host}/regctl/subject-copy:v1"
        self.regctl("image", "copy", "--referrers", name, copy)
        self.assertIn("application/x-sbom", self.regctl("artifact", "tree", copy))

    def test_chunked_upload(self) -> None:
        """A blob that travels in many chunks."""
        content = self.random_file("blob", 3 * MIB + 1).read_bytes()
        self.regctl("registry", "set", "--skip-check", "--blob-max", "1", "--blob-chunk", str(MIB), self.host)
        repository = f"{self.host}/regctl/chunks"
        with (self.home / "blob").open("rb") as file:
            done = self.pipe(file.fileno(), "regctl", "blob", "put", repository)
        self.assertEqual(sha256(content), done.strip())
        self.assertEqual(len(content), self.blob_size(repository, sha256(content)))

    def test_broken_download(self) -> None:
        """A download goes on where the connection broke."""
        content = self.random_file("blob", 4 * MIB).read_bytes()
        with (self.home / "blob").open("rb") as file:
            self.pipe(file.fileno(), "regctl", "blob", "put", f"{self.host}/regctl/broken")
        breaker = Breaker(self.server.port, download_bytes=MIB)
        self.addCleanup(breaker.close)
        self.login(breaker.host)
        self.assertEqual(len(content), self.blob_size(f"{breaker.host}/regctl/broken", sha256(content)))
        self.assertTrue(breaker.has_cut)
        self.assertLessEqual(1, breaker.parts)
        self.assertTrue(any(MIB // 2 < offset < 4 * MIB for offset in breaker.offsets), breaker.offsets)

    def test_broken_upload(self) -> None:
        """An upload succeeds over a connection that broke once."""
        top = image("regctl broken upload")
        large = self.random_file("blob", 4 * MIB)
        breaker = Breaker(self.server.port, upload_bytes=MIB)
        self.addCleanup(breaker.close)
        self.login(breaker.host)
        name = f"{breaker.host}/regctl/broken-upload"
        self.regctl("image", "copy", f"ocidir://{self.layout_directory(top)}:v1", f"{name}:v1")
        with large.open("rb") as file:
            self.pipe(file.fileno(), "regctl", "blob", "put", name)
        self.assertTrue(breaker.has_cut)
        digest = sha256(large.read_bytes())
        self.assertEqual(4 * MIB, self.blob_size(f"{self.host}/regctl/broken-upload", digest))

    def blob_size(self, repository: str, digest: str) -> int:
        """Download a blob, check it and return its size in bytes."""
        target = self.home / "fetched"
        with target.open("wb") as file:
            self.pipe(None, "regctl", "blob", "get", repository, digest, output=file.fileno())
        content = target.read_bytes()
        self.assertEqual(digest, sha256(content))
        return len(content)

    def test_rights(self) -> None:
        """Docker.Download alone pulls and cannot push."""
        name = self.push(image("regctl rights"), "regctl/rights:v1")
        self.login(self.host, *READER)
        self.regctl("manifest", "get", name)
        self.refused("regctl", "image", "copy", name, f"{self.host}/regctl/other:v1")
