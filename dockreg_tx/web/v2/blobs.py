"""``/v2/<name>/blobs/<digest>`` (spec: end-2, end-10)."""

from __future__ import annotations

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.ranges import ByteRange, parse_range
from dockreg_tx.ports import BlobRecord
from dockreg_tx.registry.pull import Pull
from dockreg_tx.registry.remove import Remove
from dockreg_tx.web.answers import Answer, AnyAnswer, BlobAnswer, Headers
from dockreg_tx.web.calls import Call
from dockreg_tx.web.conditions import is_not_modified


class Blobs:
    """Blobs of a repository."""

    def __init__(self, *, pull: Pull, remove: Remove) -> None:
        self._pull = pull
        self._remove = remove

    async def get(self, call: Call) -> AnyAnswer:
        """Answer the blob, or the one range that was asked for."""
        record = await self._pull.find_blob(call.repository, Digest.parse(call.parts["digest"]))
        headers = _headers(record)
        if is_not_modified(call.headers.get("If-None-Match"), record.digest):
            return Answer(304, headers)
        if call.is_head:
            return Answer(200, (*headers, ("Content-Length", str(record.size_bytes))))
        wanted = _range(call, record)
        blob = await self._pull.open_blob(record)
        if wanted is None:
            return BlobAnswer(200, headers, blob, 0, record.size_bytes)
        content_range = ("Content-Range", wanted.content_range(record.size_bytes))
        return BlobAnswer(206, (*headers, content_range), blob, wanted.start, wanted.length)

    async def delete(self, call: Call) -> Answer:
        """Unlink the blob from this repository only."""
        await self._remove.blob(call.repository, Digest.parse(call.parts["digest"]), by=call.owner)
        return Answer(202)


def _headers(record: BlobRecord) -> Headers:
    return (
        ("Content-Type", "application/octet-stream"),
        ("Docker-Content-Digest", str(record.digest)),
        ("ETag", f'"{record.digest}"'),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "private, max-age=31536000, immutable"),
    )


def _range(call: Call, record: BlobRecord) -> ByteRange | None:
    """Return the one range to send; several at once are answered with the whole blob."""
    condition = call.headers.get("If-Range")
    if condition is not None and condition.strip() != f'"{record.digest}"':
        return None
    ranges = parse_range(call.headers.get("Range"), record.size_bytes)
    return ranges[0] if ranges is not None and len(ranges) == 1 else None
