"""A registry over verified fakes, for tests of use cases."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable
from typing import TypeVar

from twisted.internet.task import Clock

from dockreg_tx.blobs.memory import MemoryBlobStore, MemoryTrash, MemoryUploadStaging
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.records.memory import MemoryRecords
from dockreg_tx.registry.browse import Browse
from dockreg_tx.registry.collect import Collect
from dockreg_tx.registry.pull import Pull
from dockreg_tx.registry.push import ManifestRules, Push
from dockreg_tx.registry.remove import Remove
from dockreg_tx.registry.sweep import Sweep
from dockreg_tx.registry.uploads import SessionKey, Uploads
from tests.bodies import HandFedBody

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
E = TypeVar("E", bound=Exception)
REPOSITORY = RepositoryName("team/app")


def body(content: bytes = b"", *, is_chunked: bool = False) -> HandFedBody:
    """Return a whole body that has arrived."""
    made = HandFedBody(length_bytes=None if is_chunked else len(content))
    if content:
        made.feed(content)
    made.finish()
    return made


def broken_body(content: bytes, *, length_bytes: int | None) -> HandFedBody:
    """Return a body whose client goes away after ``content``."""
    made = HandFedBody(length_bytes=length_bytes)
    made.feed(content)
    made.break_off()
    return made


async def error_of(work: Awaitable[object], kind: type[E]) -> E:
    """Return the error of this kind that ``work`` must raise."""
    try:
        await work
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


class World:
    """Use cases and what they stand on; ``time`` is the wall clock's, in seconds."""

    def __init__(self, rules: ManifestRules | None = None, *, blob_limit_bytes: int | None = None) -> None:
        numbers = itertools.count(1)
        self.time = 1000.0
        self.clock = Clock()
        self.records = MemoryRecords()
        self.blobs = MemoryBlobStore()
        self.staging = MemoryUploadStaging(blobs=self.blobs, clock=self.clock)
        self.uploads = Uploads(
            records=self.records,
            push_records=self.records,
            staging=self.staging,
            now=lambda: self.time,
            new_id=lambda: f"upload-{next(numbers)}",
            blob_limit_bytes=blob_limit_bytes,
        )
        self.sweep = Sweep(records=self.records, staging=self.staging, now=lambda: self.time)
        self.push = Push(
            records=self.records,
            browse=self.records,
            blobs=self.blobs,
            blocking=InlineBlocking(),
            now=lambda: self.time,
            rules=rules or ManifestRules(),
        )
        self.pull = Pull(
            records=self.records, push_records=self.records, blobs=self.blobs, now=lambda: self.time
        )
        self.trash = MemoryTrash(blobs=self.blobs, now=lambda: self.time)
        self.collect = Collect(records=self.records, trash=self.trash, monotonic_seconds=self.clock.seconds)
        self.browse = Browse(records=self.records, pull=self.records)
        self.remove = Remove(records=self.records, pull=self.records, now=lambda: self.time)

    async def open_session(self, owner: str = "ann") -> SessionKey:
        """Begin an upload and return its key."""
        upload = await self.uploads.begin(REPOSITORY, owner)
        return SessionKey(REPOSITORY, upload.id, owner)

    async def push_blob(self, content: bytes, repository: RepositoryName = REPOSITORY) -> Digest:
        """Push a blob and return its digest."""
        upload = await self.uploads.begin(repository, "ann")
        return await self.uploads.finish(
            SessionKey(repository, upload.id, "ann"),
            body(content),
            digests=[str(Digest.of(content))],
            content_range=None,
        )

    async def image(self, *layers: bytes) -> bytes:
        """Push a config and layers, and return a manifest of them."""
        config = await self.push_blob(b"{}")
        digests = [await self.push_blob(layer) for layer in layers]
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": str(config),
                    "size": 2,
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar",
                        "digest": str(digest),
                        "size": len(layer),
                    }
                    for digest, layer in zip(digests, layers, strict=True)
                ],
            }
        ).encode()

    async def put(self, reference: str, content: bytes, **more: object) -> Digest:
        """Push a manifest and return its digest."""
        arguments: dict[str, object] = {
            "content_type": OCI_MANIFEST,
            "extra_tags": (),
            "pushed_by": "ann",
            "may_overwrite": True,
            **more,
        }
        pushed = await self.push.put_manifest(REPOSITORY, reference, body(content), **arguments)  # type: ignore[arg-type]  # a bag of keywords
        return pushed.digest
