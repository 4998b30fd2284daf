"""The tree that distribution's filesystem driver leaves (``registry:2``), read as it lies.

Below ``docker/registry/v2``: ``blobs/<algorithm>/<two hex>/<hex>/data``, and for each repository
``_layers/<algorithm>/<hex>/link``, ``_manifests/revisions/<algorithm>/<hex>/link``,
``_manifests/tags/<tag>/current/link``. A link file holds a digest (distribution, registry/storage/paths.go).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from dockreg_tx.moving.report import Finding, Report
from dockreg_tx.oci.digests import ALGORITHMS, Digest
from dockreg_tx.oci.errors import DigestInvalid

#: Longer than any digest.
_LINK_LIMIT_BYTES = 512
_V2 = os.path.join("docker", "registry", "v2")


class NoTree(Exception):
    """The directory holds no registry; the text is one line that says so."""


def find_tree(directory: str) -> str:
    """Return the ``v2`` directory of a registry's root directory, or of one that is the ``v2`` directory.

    Raises:
        NoTree: it is neither.
    """
    for found in (os.path.join(directory, _V2), directory):
        if os.path.isdir(os.path.join(found, "repositories")) or os.path.isdir(os.path.join(found, "blobs")):
            return found
    raise NoTree(
        f"{directory} holds no {_V2}: name the rootdirectory of the registry, often /var/lib/registry"
    )


class Registry2Tree:
    """Reads a tree; what is not as it should be goes into the report."""

    def __init__(self, top: str, report: Report) -> None:
        self._blobs = os.path.join(top, "blobs")
        self._repositories = os.path.join(top, "repositories")
        self._report = report

    def data_path(self, digest: Digest) -> str:
        """Return where a blob's bytes lie."""
        return os.path.join(self._blobs, digest.algorithm, digest.encoded[:2], digest.encoded, "data")

    def repositories(self) -> Iterator[str]:
        """Yield the names of all repositories, in the order of a walk."""
        yield from self._walk("")

    def _walk(self, name: str) -> Iterator[str]:
        found = self._entries(os.path.join(self._repositories, name) if name else self._repositories)
        if any(entry.name.startswith("_") for entry in found):
            yield name
        for entry in found:
            if entry.name.startswith("_"):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(f"{name}/{entry.name}" if name else entry.name)
            else:
                self._report.note(Finding.FOREIGN, entry.path)

    def layers(self, name: str) -> Iterator[Digest]:
        """Yield the digests of the blobs that a repository may hand out."""
        for digest, link in self._links(os.path.join(self._repositories, name, "_layers")):
            if self._is_link_to(link, digest):
                yield digest

    def revisions(self, name: str) -> Iterator[Digest]:
        """Yield the digests of the manifests of a repository."""
        directory = os.path.join(self._repositories, name, "_manifests", "revisions")
        for digest, link in self._links(directory):
            if not os.path.lexists(link):
                # Deleting a manifest takes its link only.
                self._report.note(Finding.DELETED_MANIFEST, f"{name}@{digest}")
            elif self._is_link_to(link, digest):
                yield digest

    def tags(self, name: str) -> Iterator[tuple[str, Digest]]:
        """Yield the tags of a repository and where they point."""
        for entry in self._directories(os.path.join(self._repositories, name, "_manifests", "tags")):
            link = os.path.join(entry.path, "current", "link")
            if not os.path.lexists(link):
                self._report.note(Finding.DELETED_TAG, f"{name}:{entry.name}")
                continue
            digest = self._read_link(link)
            if digest is not None:
                yield entry.name, digest

    def note_uploads(self, name: str) -> None:
        """Count what uploads left."""
        for entry in self._entries(os.path.join(self._repositories, name, "_uploads")):
            self._report.note(Finding.UPLOAD, f"{name}: {entry.name}")

    def blobs(self) -> Iterator[Digest]:
        """Yield the digests of everything under ``blobs/``."""
        for algorithm in self._directories(self._blobs):
            for shard in self._directories(algorithm.path):
                for entry in self._directories(shard.path):
                    digest = self._digest(algorithm.name, entry.name, entry.path)
                    if digest is not None:
                        yield digest

    def _links(self, directory: str) -> Iterator[tuple[Digest, str]]:
        for algorithm in self._directories(directory):
            for entry in self._directories(algorithm.path):
                digest = self._digest(algorithm.name, entry.name, entry.path)
                if digest is not None:
                    yield digest, os.path.join(entry.path, "link")

    def _digest(self, algorithm: str, encoded: str, path: str) -> Digest | None:
        try:
            if algorithm in ALGORITHMS:
                return Digest.parse(f"{algorithm}:{encoded}")
        except DigestInvalid:
            pass
        self._report.note(Finding.FOREIGN, path)
        return None

    def _is_link_to(self, link: str, digest: Digest) -> bool:
        found = self._read_link(link)
        if found is not None and found != digest:
            self._report.note(Finding.BAD_LINK, link)
        return found == digest

    def _read_link(self, link: str) -> Digest | None:
        try:
            # O_NOFOLLOW: nothing in the tree leads out of it.
            descriptor = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            self._report.note(Finding.BAD_LINK, link)
            return None
        except OSError as error:
            self._report.note(Finding.UNREADABLE, f"{link}: {error.strerror}")
            return None
        try:
            text = os.read(descriptor, _LINK_LIMIT_BYTES)
        except OSError as error:
            self._report.note(Finding.UNREADABLE, f"{link}: {error.strerror}")
            return None
        finally:
            os.close(descriptor)
        if not text.strip():
            self._report.note(Finding.EMPTY_LINK, link)
            return None
        try:
            return Digest.parse_supported(text.decode("ascii", "replace").strip())
        except DigestInvalid:
            self._report.note(Finding.BAD_LINK, link)
            return None

    def _directories(self, path: str) -> Iterator[os.DirEntry[str]]:
        for entry in self._entries(path):
            if entry.is_dir(follow_symlinks=False):
                yield entry
            else:
                self._report.note(Finding.FOREIGN, entry.path)

    def _entries(self, path: str) -> list[os.DirEntry[str]]:
        try:
            return sorted(os.scandir(path), key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._report.note(Finding.UNREADABLE, f"{path}: {error.strerror}")
            return []
