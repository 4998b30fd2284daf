"""OCI image layouts (image-spec, image-layout.md): an ``index.json`` that names manifests, and blobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from dockreg_tx.moving.manifests import LIMIT_BYTES, blobs, new_manifest
from dockreg_tx.moving.names import ImageName, annotated_name, is_fallback
from dockreg_tx.moving.report import Finding, Report
from dockreg_tx.moving.stage import Stage
from dockreg_tx.moving.tars import ArchiveRefused
from dockreg_tx.oci.descriptors import parse_annotations, parse_descriptor
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.documents import parse_document
from dockreg_tx.oci.errors import ManifestInvalid, NameInvalid, TagInvalid
from dockreg_tx.oci.manifests import MANIFEST_MEDIA_TYPES, Manifest, parse_manifest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import MovedBlob, MovedBytes, MovedTag

#: Indexes within indexes.
_DEPTH_LIMIT = 8


class Shelf(Protocol):
    """Where the blobs of a layout are."""

    def fetch(self, digest: Digest) -> int | None:
        """Have a blob in the store and return its length; None when the layout lacks it."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """What ``index.json`` says of one manifest."""

    digest: Digest
    media_type: str
    name: ImageName | Tag | None


def read_index(content: bytes) -> list[Entry]:
    """Return the entries of an ``index.json``.

    Raises:
        ArchiveRefused: it is malformed.
    """
    try:
        found = parse_document(content).get("manifests")
        if not isinstance(found, list):
            raise ArchiveRefused("index.json has no manifests")
        return [_entry(value, f"$.manifests[{number}]") for number, value in enumerate(found)]
    except (ManifestInvalid, NameInvalid, TagInvalid) as error:
        raise ArchiveRefused(f"index.json: {error.message}") from error


def _entry(value: object, path: str) -> Entry:
    descriptor = parse_descriptor(value, path)
    annotations = parse_annotations(value, path) if isinstance(value, dict) else {}
    return Entry(descriptor.digest, descriptor.media_type, annotated_name(annotations))


def _own_tag(entry: Entry) -> Tag | None:
    return entry.name.tag if isinstance(entry.name, ImageName) else entry.name


@dataclass(frozen=True, kw_only=True)
class LayoutImport:
    """The use case of taking a layout over; ``target`` replaces the names in it."""

    shelf: Shelf
    bytes_: MovedBytes
    stage: Stage
    report: Report
    target: ImageName | None = None
    #: What became of each manifest in each repository.
    _done: dict[tuple[RepositoryName, Digest], bool] = field(default_factory=dict)

    async def run(self, entries: list[Entry]) -> None:
        """Take everything over that has a name, and what refers to it.

        Raises:
            ArchiveRefused: nothing has a name, or one tag stands for several images.
            StorageFull, StoreUnavailable: our disk refuses.
        """
        is_only = sum(not self._is_beside(entry) for entry in entries) == 1
        names = [(entry, self._name(entry, is_only=is_only)) for entry in entries]
        named = [(entry, name) for entry, name in names if name is not None]
        unnamed = [entry for entry, name in names if name is None]
        for entry, name in named:
            await self._adopt_named(entry, name)
        await self._adopt_referrers(unnamed)
        await self.stage.flush()
        self.report.repositories = len({repository for repository, _ in self._done})

    def _is_beside(self, entry: Entry) -> bool:
        """Tell whether an entry is there for the sake of another."""
        return is_fallback(_own_tag(entry)) or self._subject(entry) is not None

    def _name(self, entry: Entry, *, is_only: bool) -> ImageName | None:
        if self.target is None:
            if isinstance(entry.name, Tag):
                raise ArchiveRefused(f"the image is named {entry.name} only: say --as NAME or --as NAME:TAG")
            return entry.name
        if self.target.tag is None or self._is_beside(entry):
            return ImageName(self.target.repository, _own_tag(entry))
        if not is_only:
            raise ArchiveRefused("there are several images: say --as NAME, without a tag")
        return self.target

    async def _adopt_named(self, entry: Entry, name: ImageName) -> None:
        if await self._adopt(name.repository, entry.digest, entry.media_type) and name.tag is not None:
            await self.stage.add(MovedTag(name.repository, name.tag, entry.digest))

    async def _adopt_referrers(self, entries: list[Entry]) -> None:
        """Take referrers over to wherever their subjects went, referrers of referrers too."""
        subjects = [(entry, self._subject(entry)) for entry in entries]
        is_going_on = True
        while is_going_on:
            is_going_on = False
            for entry, subject in subjects:
                for repository in self._homes(subject):
                    if (repository, entry.digest) not in self._done:
                        is_going_on |= await self._adopt(repository, entry.digest, entry.media_type)
        adopted = {digest for _, digest in self._done}
        for entry in entries:
            if entry.digest not in adopted:
                self.report.note(Finding.UNNAMED, str(entry.digest))

    def _homes(self, subject: Digest | None) -> list[RepositoryName]:
        return [
            repository
            for (repository, digest), is_here in self._done.items()
            if is_here and digest == subject
        ]

    def _subject(self, entry: Entry) -> Digest | None:
        manifest = self._manifest(entry.digest, entry.media_type)
        return manifest.subject.digest if isinstance(manifest, Manifest) and manifest.subject else None

    def _content(self, digest: Digest) -> bytes | None:
        is_here = digest.supported and self.shelf.fetch(digest) is not None
        return self.bytes_.read(digest, LIMIT_BYTES) if is_here else None

    def _manifest(self, digest: Digest, media_type: str) -> Manifest | str | None:
        """Return a manifest, why it is none, or None when the layout lacks it."""
        content = self._content(digest)
        try:
            return None if content is None else parse_manifest(content, media_type)
        except ManifestInvalid as error:
            return error.message

    async def _adopt(
        self, repository: RepositoryName, digest: Digest, media_type: str, depth: int = 0
    ) -> bool:
        """Take one manifest over with what it names; False when it is not whole."""
        key = (repository, digest)
        if key not in self._done:
            self._done[key] = await self._adopt_new(repository, digest, media_type, depth)
        return self._done[key]

    async def _adopt_new(
        self, repository: RepositoryName, digest: Digest, media_type: str, depth: int
    ) -> bool:
        where = f"{repository}@{digest}"
        manifest = self._manifest(digest, media_type)
        content = self._content(digest)
        if manifest is None or content is None:
            self.report.note(Finding.MISSING_MANIFEST, where)
            return False
        if isinstance(manifest, str) or depth > _DEPTH_LIMIT:
            self.report.note(Finding.INVALID_MANIFEST, f"{where}: {manifest if depth == 0 else 'nested'}")
            return False
        await self._adopt_children(repository, manifest, depth)
        held, missing = self._held(repository, manifest)
        if missing:
            self.report.note(Finding.INCOMPLETE_MANIFEST, f"{where}: {' '.join(map(str, missing))}")
            return False
        for blob in held:
            await self.stage.add(blob)
        await self.stage.add(new_manifest(repository, digest, content, manifest))
        return True

    async def _adopt_children(self, repository: RepositoryName, manifest: Manifest, depth: int) -> None:
        """Take the children over that are here; docker saves indexes of which it has one child only."""
        for child in manifest.children:
            size_bytes = self.shelf.fetch(child.digest) if child.digest.supported else None
            if size_bytes is None:
                continue
            if child.media_type in MANIFEST_MEDIA_TYPES:
                await self._adopt(repository, child.digest, child.media_type, depth + 1)
            else:
                await self.stage.add(MovedBlob(repository, child.digest, size_bytes, is_verified=True))

    def _held(self, repository: RepositoryName, manifest: Manifest) -> tuple[list[MovedBlob], list[Digest]]:
        held: list[MovedBlob] = []
        missing: list[Digest] = []
        for blob, size_bytes in self._sizes(manifest):
            if size_bytes is not None:
                held.append(MovedBlob(repository, blob, size_bytes, is_verified=True))
            else:
                missing.append(blob)
        return held, missing

    def _sizes(self, manifest: Manifest) -> Iterator[tuple[Digest, int | None]]:
        for blob in blobs(manifest):
            size_bytes = self.shelf.fetch(blob.digest) if blob.digest.supported else None
            if size_bytes is not None or not blob.is_nondistributable:
                yield blob.digest, size_bytes
