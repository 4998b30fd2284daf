"""Adopting the tree of a ``registry:2``, repository by repository."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from dockreg_tx.moving.manifests import LIMIT_BYTES, blobs, is_schema1, new_manifest
from dockreg_tx.moving.registry2_tree import Registry2Tree
from dockreg_tx.moving.report import Finding, Report
from dockreg_tx.moving.stage import Stage
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import DigestMismatch, ManifestInvalid, NameInvalid, TagInvalid
from dockreg_tx.oci.manifests import Manifest, parse_manifest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import MovedBlob, MovedBytes, MovedTag, SourceUnreadable

_EMPTY = {Digest.of(b"", algorithm) for algorithm in ("sha256", "sha512")}


@dataclass(slots=True)
class _Repository:
    """What is known of the repository at hand."""

    name: RepositoryName
    #: What its manifests say about the length of blobs.
    sizes: dict[Digest, int] = field(default_factory=dict)
    images: list[Digest] = field(default_factory=list)
    indexes: list[Digest] = field(default_factory=list)
    held: set[Digest] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Registry2Import:
    """The use case of adopting a tree; a second run adopts what is new.

    ``verify`` hashes every blob; without it names are trusted as long as sizes fit, and manifests are hashed.
    ``moves`` removes the tree's copy of what was adopted. ``progress`` is called for each blob seen first.
    """

    tree: Registry2Tree
    bytes_: MovedBytes
    stage: Stage
    report: Report
    verify: bool = False
    moves: bool = False
    progress: Callable[[], None] = lambda: None
    _seen: set[Digest] = field(default_factory=set)

    async def run(self) -> None:
        """Adopt everything.

        Raises:
            StorageFull, StoreUnavailable: our disk refuses; what was adopted stays.
        """
        for text in self.tree.repositories():
            try:
                name = RepositoryName.parse(text)
            except NameInvalid:
                self.report.note(Finding.BAD_NAME, text)
                continue
            await self._adopt(_Repository(name))
        await self.stage.flush()
        self._look_at_the_rest()

    async def _adopt(self, repository: _Repository) -> None:
        name = repository.name.text
        self.report.repositories += 1
        for digest in self.tree.revisions(name):
            self._survey(repository, digest)
        for digest in self.tree.layers(name):
            await self._adopt_blob(repository, digest)
        # Children before their index, so that nobody meets one that leads nowhere.
        for digest in (*repository.images, *repository.indexes):
            await self._adopt_manifest(repository, digest)
        manifests = {*repository.images, *repository.indexes}
        for tag, digest in self.tree.tags(name):
            await self._adopt_tag(repository, tag, digest, manifests)
        self.tree.note_uploads(name)

    def _survey(self, repository: _Repository, digest: Digest) -> None:
        """Learn what a manifest names; dirt is reported here, and only here."""
        where = f"{repository.name}@{digest}"
        content = self._content(digest)
        self._note_seen(digest)
        if content is None:
            self.report.note(Finding.MISSING_MANIFEST, where)
        elif Digest.of(content, digest.algorithm) != digest:
            self.report.note(Finding.DAMAGED_MANIFEST, where)
        elif is_schema1(content):
            self.report.note(Finding.SCHEMA1_MANIFEST, where)
        else:
            try:
                manifest = parse_manifest(content, None)
            except ManifestInvalid as error:
                self.report.note(Finding.INVALID_MANIFEST, f"{where}: {error.message}")
                return
            (repository.indexes if manifest.is_index else repository.images).append(digest)
            repository.sizes.update({blob.digest: blob.size_bytes for blob in blobs(manifest)})

    def _content(self, digest: Digest) -> bytes | None:
        try:
            with open(self.tree.data_path(digest), "rb") as file:
                return file.read(LIMIT_BYTES)
        except OSError:
            # Moved by a run that was cut short, or not there at all.
            return self.bytes_.read(digest, LIMIT_BYTES)

    async def _adopt_blob(self, repository: _Repository, digest: Digest) -> None:
        where = f"{repository.name}@{digest}"
        self._note_seen(digest)
        size_bytes = self._size(digest)
        if size_bytes is None:
            self.report.note(Finding.MISSING_BLOB, where)
            return
        if size_bytes == 0 and digest not in _EMPTY:
            self.report.note(Finding.EMPTY_BLOB, where)
            return
        is_suspect = repository.sizes.get(digest, size_bytes) != size_bytes
        if self._bring(digest, where, verify=self.verify or is_suspect):
            repository.held.add(digest)
            is_verified = self.verify or is_suspect
            await self.stage.add(MovedBlob(repository.name, digest, size_bytes, is_verified))

    def _size(self, digest: Digest) -> int | None:
        try:
            status = os.lstat(self.tree.data_path(digest))
        except OSError:
            return self.bytes_.size_of(digest)
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def _bring(self, digest: Digest, where: str, *, verify: bool) -> bool:
        path = self.tree.data_path(digest)
        if not os.path.exists(path):
            return self.bytes_.size_of(digest) is not None
        try:
            self.bytes_.bring(path, digest, verify=verify)
        except SourceUnreadable as error:
            self.report.note(Finding.UNREADABLE, str(error))
            return False
        except DigestMismatch:
            self.report.note(Finding.DAMAGED_BLOB, where)
            return False
        return True

    async def _adopt_manifest(self, repository: _Repository, digest: Digest) -> None:
        where = f"{repository.name}@{digest}"
        content = self._content(digest)
        if content is None or Digest.of(content, digest.algorithm) != digest:
            self.report.note(Finding.DAMAGED_MANIFEST, where)  # changed since the survey
            return
        manifest = parse_manifest(content, None)
        if missing := self._missing(repository, manifest):
            self.report.note(Finding.INCOMPLETE_MANIFEST, f"{where}: {' '.join(map(str, missing))}")
        if self._bring(digest, where, verify=False):
            await self.stage.add(new_manifest(repository.name, digest, content, manifest))

    def _missing(self, repository: _Repository, manifest: Manifest) -> list[Digest]:
        here = repository.held
        lacking = [
            blob.digest
            for blob in blobs(manifest)
            if blob.digest not in here and not blob.is_nondistributable
        ]
        if manifest.children:
            here = here.union(repository.images, repository.indexes)
        return lacking + [child.digest for child in manifest.children if child.digest not in here]

    async def _adopt_tag(
        self, repository: _Repository, text: str, digest: Digest, manifests: set[Digest]
    ) -> None:
        try:
            tag = Tag.parse(text)
        except TagInvalid:
            self.report.note(Finding.BAD_TAG, f"{repository.name}:{text}")
            return
        if digest not in manifests:
            self.report.note(Finding.BROKEN_TAG, f"{repository.name}:{text}")
            return
        await self.stage.add(MovedTag(repository.name, tag, digest))

    def _note_seen(self, digest: Digest) -> None:
        if digest not in self._seen:
            self._seen.add(digest)
            self.progress()

    def _look_at_the_rest(self) -> None:
        """Count what nobody needs; after everything is recorded, remove what was moved."""
        for digest in self.tree.blobs():
            if digest not in self._seen:
                self.report.note(Finding.UNNEEDED_BLOB, str(digest))
            elif self.moves:
                self._remove(digest)

    def _remove(self, digest: Digest) -> None:
        path = self.tree.data_path(digest)
        with suppress(OSError):
            if self.bytes_.size_of(digest) == os.stat(path).st_size:
                os.unlink(path)
