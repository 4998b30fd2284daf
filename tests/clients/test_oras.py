"""oras: artifacts, attachments, blobs, indexes and backups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.clients.case import PASSWORD, READER, USER
from tests.clients.local import LocalClientTestCase, lacking
from tests.integration.images import Image, Index, image, index, sha256


class OrasTests(LocalClientTestCase):
    skip = lacking("oras")

    def setUp(self) -> None:
        """Log in."""
        super().setUp()
        self.login()

    def login(self, user: str = USER, password: str = PASSWORD) -> None:
        """Log in as a user."""
        self.run_program(
            "oras", "login", "--plain-http", "-u", user, "--password-stdin", self.host, text=password
        )

    def oras(self, *arguments: str, text: str = "") -> str:
        """Run a command that must succeed, over plain HTTP, and return its output."""
        return self.run_program("oras", *arguments, "--plain-http", text=text).strip()

    def oras_json(self, *arguments: str) -> Any:
        """Run a command that must succeed and return its JSON."""
        return json.loads(self.oras(*arguments))

    def push(self, content: Image | Index, name: str) -> str:
        """Push an image and return its full name."""
        target = f"{self.host}/{name}"
        layout = f"{self.layout_directory(content)}:v1"
        self.run_program("oras", "cp", "--from-oci-layout", layout, "--to-plain-http", target)
        return target

    def copy(self, source: str, target: str, *options: str) -> None:
        """Copy within the registry."""
        self.run_program("oras", "cp", "--from-plain-http", "--to-plain-http", *options, source, target)

    def file(self, name: str, text: str) -> str:
        """Write a file and return the name by which oras pushes it from here."""
        (self.home / name).write_text(text)
        return f"{self.home / name}:text/plain"

    def push_files(self, name: str, *options: str) -> str:
        """Push an artifact of two files and return its full name."""
        target = f"{self.host}/{name}"
        files = (self.file("one.txt", f"one of {name}"), self.file("two.txt", f"two of {name}"))
        kind = ("--artifact-type", "application/x-notes", "--disable-path-validation")
        self.oras("push", *kind, *options, target, *files)
        return target

    def test_push_and_pull_files(self) -> None:
        """An artifact of two files arrives and returns unchanged."""
        name = self.push_files("oras/files:v1")
        for each in ("one", "two"):
            Path(self.home, f"{each}.txt").unlink()
        # Files that were pushed by their absolute path return to it.
        self.oras("pull", "--allow-path-traversal", name)
        self.assertEqual("two of oras/files:v1", (self.home / "two.txt").read_text())
        manifest = self.oras_json("manifest", "fetch", name)
        self.assertEqual("application/x-notes", manifest["artifactType"])

    def test_image(self) -> None:
        """An image copied from a layout and into one."""
        content = image("oras image")
        name = self.push(content, "oras/image:v1")
        self.assertEqual(content.manifest.digest, self.oras("resolve", name))
        back = self.home / "back"
        self.run_program("oras", "cp", "--from-plain-http", name, "--to-oci-layout", f"{back}:v1")
        for blob in (content.manifest, *content.blobs):
            stored = back / "blobs/sha256" / blob.digest.removeprefix("sha256:")
            self.assertEqual(blob.content, stored.read_bytes())

    def test_inspect(self) -> None:
        """Manifest and configuration of an image."""
        content = image("oras inspect")
        name = self.push(content, "oras/inspect:v1")
        self.assertEqual(content.manifest.content.decode(), self.oras("manifest", "fetch", name))
        self.assertEqual(content.config.content.decode(), self.oras("manifest", "fetch-config", name))
        described = self.oras_json("manifest", "fetch", "--descriptor", name)
        self.assertEqual(content.manifest.digest, described["digest"])

    def test_index(self) -> None:
        """An image for several platforms, whole and one of them."""
        top = index([image("oras index", architecture=name) for name in ("amd64", "arm64")])
        name = self.push(top, "oras/index:v1")
        self.assertEqual(top.manifest.digest, self.oras("resolve", name))
        chosen = self.oras("resolve", "--platform", "linux/arm64", name)
        self.assertEqual(top.images[1].manifest.digest, chosen)

    def test_make_index(self) -> None:
        """``manifest index create`` makes an index of pushed images."""
        parts = [image("oras parts", architecture=name) for name in ("amd64", "arm64")]
        for part in parts:
            self.push(part, f"oras/parts:{part.architecture}")
        self.oras("manifest", "index", "create", f"{self.host}/oras/parts:all", "amd64", "arm64")
        children = self.oras_json("manifest", "fetch", f"{self.host}/oras/parts:all")["manifests"]
        self.assertEqual([part.manifest.digest for part in parts], [child["digest"] for child in children])

    def test_copy(self) -> None:
        """A copy to another repository."""
        content = image("oras copy")
        name, target = self.push(content, "oras/source:v1"), f"{self.host}/oras/target:v1"
        self.copy(name, target)
        self.assertEqual(content.manifest.digest, self.oras("resolve", target))

    def test_list(self) -> None:
        """Tags of a repository, from the start and from the middle, and repositories of the registry."""
        name = self.push(image("oras list"), "oras/list:v1")
        self.oras("tag", name, "v2", "v3")
        repository = f"{self.host}/oras/list"
        self.assertEqual(["v1", "v2", "v3"], self.oras("repo", "tags", repository).split())
        self.assertEqual(["v2", "v3"], self.oras("repo", "tags", "--last", "v1", repository).split())
        self.assertIn("oras/list", self.oras("repo", "ls", self.host).split())

    def test_attachments(self) -> None:
        """What is attached to an image is discovered, by type too, pulled, and copied with the image."""
        name = self.push(image("oras subject"), "oras/subject:v1")
        for kind in ("sbom", "signature"):
            attached = self.file(f"{kind}.txt", f"the {kind}")
            flags = ("--artifact-type", f"application/x-{kind}", "--disable-path-validation")
            self.oras("attach", *flags, name, attached)
        only = ("--artifact-type", "application/x-sbom", "--format", "json")
        found = self.oras_json("discover", *only, name)["referrers"]
        self.assertEqual(["application/x-sbom"], [each["artifactType"] for each in found])
        (self.home / "sbom.txt").unlink()
        self.oras("pull", "--allow-path-traversal", f"{self.host}/oras/subject@{found[0]['digest']}")
        self.assertEqual("the sbom", (self.home / "sbom.txt").read_text())
        self.copy(name, f"{self.host}/oras/subject-copy:v1", "--recursive")
        tree = self.oras("discover", f"{self.host}/oras/subject-copy:v1")
        self.assertIn("application/x-signature", tree)

    def test_backup(self) -> None:
        """``backup`` and ``restore`` carry a repository with its attachments through a file."""
        name = self.push(image("oras backup"), "oras/backup:v1")
        attached = self.file("note.txt", "a note")
        self.oras(
            "attach", "--artifact-type", "application/x-note", "--disable-path-validation", name, attached
        )
        archive = str(self.home / "backup.tar")
        self.oras("backup", "--include-referrers", "--output", archive, name)
        self.oras("restore", "--input", archive, f"{self.host}/oras/restored:v1")
        tree = self.oras("discover", f"{self.host}/oras/restored:v1")
        self.assertIn("application/x-note", tree)

    def test_blobs(self) -> None:
        """A blob pushed, fetched, described and deleted."""
        path = self.random_file("blob", 300_000)
        digest = sha256(path.read_bytes())
        name = f"{self.host}/oras/blobs@{digest}"
        self.oras("blob", "push", name, str(path))
        self.oras("blob", "fetch", "--output", str(self.home / "back"), name)
        self.assertEqual(path.read_bytes(), (self.home / "back").read_bytes())
        self.assertEqual(300_000, self.oras_json("blob", "fetch", "--descriptor", name)["size"])
        self.oras("blob", "delete", "--force", name)
        self.refused("oras", "blob", "fetch", "--plain-http", "--descriptor", name)

    def test_delete(self) -> None:
        """A manifest goes with its tags."""
        name = self.push(image("oras delete"), "oras/delete:v1")
        self.oras("manifest", "delete", "--force", name)
        self.refused("oras", "resolve", "--plain-http", name)
        self.assertEqual("", self.oras("repo", "tags", f"{self.host}/oras/delete"))

    def test_rights(self) -> None:
        """Docker.Download alone pulls and cannot push."""
        name = self.push(image("oras rights"), "oras/rights:v1")
        self.login(*READER)
        self.oras("manifest", "fetch", name)
        output = self.refused("oras", "tag", "--plain-http", name, "v2")
        self.assertIn("denied", output.lower())
