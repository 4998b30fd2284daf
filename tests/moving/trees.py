"""Trees as ``registry:2`` leaves them, made by hand."""

from __future__ import annotations

from pathlib import Path

from tests.integration.images import Content, Image, Index


class Tree:
    """A rootdirectory; what is pushed lies where distribution would have put it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.top = directory / "docker" / "registry" / "v2"

    def data(self, digest: str) -> Path:
        """Return where the bytes of a digest lie."""
        encoded = digest.removeprefix("sha256:")
        return self.top / "blobs" / "sha256" / encoded[:2] / encoded / "data"

    def repository(self, name: str) -> Path:
        """Return the directory of a repository."""
        return self.top / "repositories" / name

    def layer_link(self, name: str, digest: str) -> Path:
        """Return the file that lets a repository hand out a blob."""
        return self._link(name, "_layers", digest)

    def revision_link(self, name: str, digest: str) -> Path:
        """Return the file that makes a manifest a repository's."""
        return self._link(name, "_manifests/revisions", digest)

    def tag_link(self, name: str, tag: str) -> Path:
        """Return the file that says where a tag points."""
        return self.repository(name) / "_manifests" / "tags" / tag / "current" / "link"

    def _link(self, name: str, room: str, digest: str) -> Path:
        return self.repository(name) / room / "sha256" / digest.removeprefix("sha256:") / "link"

    def push(self, name: str, tag: str, content: Image | Index) -> None:
        """Store an image or index under a tag."""
        for each in content.images if isinstance(content, Index) else (content,):
            for blob in each.blobs:
                self.put(blob)
                write(self.layer_link(name, blob.digest), blob.digest)
            self.put_manifest(name, each.manifest)
        self.put_manifest(name, content.manifest)
        write(self.tag_link(name, tag), content.manifest.digest)

    def put_manifest(self, name: str, manifest: Content) -> None:
        """Store a manifest."""
        self.put(manifest)
        write(self.revision_link(name, manifest.digest), manifest.digest)

    def put(self, content: Content) -> None:
        """Store bytes."""
        write(self.data(content.digest), content.content)


def write(path: Path, content: bytes | str) -> None:
    """Write a file with its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
