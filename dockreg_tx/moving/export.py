"""Images on their way out: everything that belongs to them, as one OCI archive (image-spec, image-layout.md).

The archive holds ``manifest.json`` too, which ``docker load`` and crane read, where one image of one platform
can be meant by a name.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from dockreg_tx.moving.manifests import LIMIT_BYTES, blobs
from dockreg_tx.moving.names import IMAGE_NAME, REF_NAME, REPOSITORY, ImageName, is_fallback
from dockreg_tx.oci.digests import Digest, Reference
from dockreg_tx.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown
from dockreg_tx.oci.manifests import MANIFEST_MEDIA_TYPES, OCI_INDEX, Manifest, parse_manifest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import BrowseRecords, ManifestRecord, MovedBytes, PullRecords

_PAGE = 1000
#: Tags under which cosign and older clients keep what refers to an image.
_FALLBACK_SUFFIXES = ("", ".sig", ".att", ".sbom")
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class _Top:
    """One entry of ``index.json``."""

    repository: RepositoryName
    tag: Tag | None
    record: ManifestRecord


@dataclass(frozen=True, kw_only=True)
class Export:
    """The use case of collecting images; ``add`` each, then ``write`` once.

    ``platform`` (``os/architecture``) is the one that docker load gets of an image for several.
    """

    records: PullRecords
    browse: BrowseRecords
    bytes_: MovedBytes
    platform: str
    with_referrers: bool = True
    #: Everything that goes into the archive, with its length.
    contents: dict[Digest, int] = field(default_factory=dict)
    #: Children of indexes that this registry does not hold.
    lacking: list[Digest] = field(default_factory=list)
    _tops: dict[tuple[str, str, Digest], _Top] = field(default_factory=dict)
    _manifests: dict[tuple[RepositoryName, Digest], Manifest] = field(default_factory=dict)

    async def add(self, name: ImageName, digest: Digest | None = None) -> None:
        """Take an image with everything that it needs; without tag and digest all of the repository's tags.

        Raises:
            NameUnknown, ManifestUnknown: there is no such image.
            BlobUnknown: it is not whole.
        """
        references: list[Reference] = [digest] if digest else [name.tag] if name.tag else []
        if not references:
            references = [Tag(text) for text in await self.browse.tags(name.repository, "", None)]
        if not references:
            raise NameUnknown(name.repository.text)
        for reference in references:
            await self._add(name.repository, reference)

    async def _add(self, repository: RepositoryName, reference: Reference) -> None:
        record = await self.records.manifest(repository, reference)
        if record is None:
            raise ManifestUnknown(repository.text, str(reference))
        tag = reference if isinstance(reference, Tag) else None
        await self._add_top(_Top(repository, tag, record))

    async def _add_top(self, top: _Top) -> None:
        key = (top.repository.text, str(top.tag or ""), top.record.digest)
        if key not in self._tops:
            self._tops[key] = top
            await self._collect(top.repository, top.record)

    async def _collect(self, repository: RepositoryName, record: ManifestRecord) -> None:
        key = (repository, record.digest)
        if key in self._manifests:
            return
        self._manifests[key] = manifest = parse_manifest(self._content(record), record.media_type)
        self.contents[record.digest] = record.size_bytes
        for blob in blobs(manifest):
            self._collect_blob(blob.digest, may_lack=blob.is_nondistributable)
        for child in manifest.children:
            found = await self.records.manifest(repository, child.digest)
            if found is not None:
                await self._collect(repository, found)
            elif child.media_type in MANIFEST_MEDIA_TYPES:
                self.lacking.append(child.digest)
            else:
                self._collect_blob(child.digest, may_lack=False)
        if self.with_referrers:
            await self._collect_referrers(repository, record.digest)

    def _collect_blob(self, digest: Digest, *, may_lack: bool) -> None:
        size_bytes = self.bytes_.size_of(digest)
        if size_bytes is not None:
            self.contents[digest] = size_bytes
        elif not may_lack:
            raise BlobUnknown(str(digest))

    async def _collect_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        after = ""
        while page := await self.browse.referrers(repository, subject, (), after, _PAGE):
            after = str(page[-1].digest)
            for referrer in page:
                found = await self.records.manifest(repository, referrer.digest)
                if found is not None:
                    await self._add_top(_Top(repository, None, found))
        for suffix in _FALLBACK_SUFFIXES:
            tag = Tag(f"{subject.algorithm}-{subject.encoded[:64]}{suffix}")
            found = await self.records.manifest(repository, tag)
            if found is not None:
                await self._add_top(_Top(repository, tag, found))

    def _content(self, record: ManifestRecord) -> bytes:
        content = record.content
        if content is None:
            content = self.bytes_.read(record.digest, LIMIT_BYTES)
        if content is None:
            raise BlobUnknown(str(record.digest))
        return content

    def write(
        self, file: IO[bytes], pieces: Callable[[Digest], Iterable[bytes]], progress: Callable[[int], object]
    ) -> None:
        """Write the archive; the same images give the same bytes.

        Raises:
            BlobUnknown: content disappeared, or was damaged: the archive is not whole.
        """
        with tarfile.open(fileobj=file, mode="w|", bufsize=1024 * 1024) as archive:
            for name, content in self._documents():
                archive.addfile(_member(name, len(content)), io.BytesIO(content))
            for digest, size_bytes in sorted(self.contents.items()):
                body = _Checked(digest, pieces(digest), progress)
                try:
                    archive.addfile(_member(_path(digest), size_bytes), body)
                except OSError as error:
                    raise body.unknown() from error
                body.check()

    def _documents(self) -> Iterator[tuple[str, bytes]]:
        yield "oci-layout", _LAYOUT
        entries = [self._entry(top) for top in self._tops.values()]
        yield "index.json", _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
        if images := list(self._docker_images()):
            yield "manifest.json", _json(images)

    def _entry(self, top: _Top) -> dict[str, object]:
        record = top.record
        annotations = {REPOSITORY: top.repository.text}
        if top.tag is not None:
            tags = [other.tag for other in self._tops.values()]
            is_clear = tags.count(top.tag) == 1
            annotations[REF_NAME] = top.tag.text if is_clear else f"{top.repository}:{top.tag}"
            annotations[IMAGE_NAME] = f"{_docker_name(top.repository)}:{top.tag}"
        found = {"mediaType": record.media_type, "digest": str(record.digest), "size": record.size_bytes}
        return {**found, "annotations": annotations}

    def _docker_images(self) -> Iterator[dict[str, object]]:
        tags: dict[tuple[RepositoryName, Digest], list[str]] = {}
        for top in self._tops.values():
            digest = self._image_for_docker(top)
            if digest is not None and not is_fallback(top.tag):
                names = tags.setdefault((top.repository, digest), [])
                names += [f"{top.repository}:{top.tag}"] if top.tag else []
        for key, names in tags.items():
            manifest = self._manifests[key]
            config = manifest.config
            layers = [_path(layer.digest) for layer in manifest.layers if layer.digest in self.contents]
            if config is not None and len(layers) == len(manifest.layers):
                yield {"Config": _path(config.digest), "RepoTags": names, "Layers": layers}

    def _image_for_docker(self, top: _Top) -> Digest | None:
        """Return the one image of a platform that docker can load under a name."""
        manifest = self._manifests[(top.repository, top.record.digest)]
        if not manifest.children:
            is_image = manifest.subject is None and manifest.config is not None
            return top.record.digest if is_image and _is_config(manifest) else None
        for child in manifest.children:
            key = (top.repository, child.digest)
            if key in self._manifests and self._platform(self._manifests[key]) == self.platform:
                return child.digest
        return None

    def not_for_docker(self) -> list[str]:
        """Return the names of images for several platforms of which none is the one that docker is to get."""
        return [
            f"{top.repository}:{top.tag}"
            for top in self._tops.values()
            if top.tag and self._platforms(top) and self._image_for_docker(top) is None
        ]

    def _platforms(self, top: _Top) -> list[str]:
        children = self._manifests[(top.repository, top.record.digest)].children
        found = [self._manifests.get((top.repository, child.digest)) for child in children]
        return [platform for each in found if each is not None and (platform := self._platform(each))]

    def _platform(self, manifest: Manifest) -> str:
        """Return what an image's configuration says it runs on."""
        if manifest.config is None or not _is_config(manifest):
            return ""
        try:
            found: Any = json.loads(self.bytes_.read(manifest.config.digest, LIMIT_BYTES) or b"")
            return f"{found['os']}/{found['architecture']}"
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""


class _Checked(io.RawIOBase):
    """A blob as a file; hashes what is read."""

    def __init__(self, digest: Digest, pieces: Iterable[bytes], progress: Callable[[int], object]) -> None:
        self._digest = digest
        self._hasher = hashlib.new(digest.algorithm)
        self._pieces = iter(pieces)
        self._rest = b""
        self._progress = progress

    def read(self, size: int = -1, /) -> bytes:
        """Return so many bytes, fewer at the end only."""
        parts, wanted = [], size
        while wanted > 0:
            self._rest = self._rest or next(self._pieces, b"")
            if not self._rest:
                break
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            wanted -= len(part)
            parts.append(part)
        content = b"".join(parts)
        self._hasher.update(content)
        self._progress(len(content))
        return content

    def check(self) -> None:
        """Require that what was read is what the digest says."""
        if self._hasher.hexdigest() != self._digest.encoded:
            raise self.unknown()

    def unknown(self) -> BlobUnknown:
        """Return the refusal."""
        return BlobUnknown(str(self._digest))


def _is_config(manifest: Manifest) -> bool:
    return manifest.config is not None and manifest.config.media_type in {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }


def _docker_name(repository: RepositoryName) -> str:
    return f"docker.io/{repository}" if "/" in repository.text else f"docker.io/library/{repository}"


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def _member(name: str, size_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size_bytes, 0o644
    return member


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
