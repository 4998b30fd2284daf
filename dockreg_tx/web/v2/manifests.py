"""``/v2/<name>/manifests/<reference>`` (spec: end-3, end-7, end-9)."""

from __future__ import annotations

from dockreg_tx.ports import ManifestRecord
from dockreg_tx.registry.pull import Pull
from dockreg_tx.registry.push import Push
from dockreg_tx.registry.remove import Remove
from dockreg_tx.web.answers import Answer, Headers
from dockreg_tx.web.calls import Call
from dockreg_tx.web.conditions import is_not_modified, tag_expectation
from dockreg_tx.web.links import Links


class Manifests:
    """Manifests of a repository, by tag or digest."""

    def __init__(self, *, pull: Pull, push: Push, remove: Remove, links: Links) -> None:
        self._pull = pull
        self._push = push
        self._remove = remove
        self._links = links

    async def get(self, call: Call) -> Answer:
        """Answer the bytes as they were pushed, under the type they were pushed with."""
        reference = call.parts["reference"]
        record = await self._pull.find_manifest(call.repository, reference)
        if ":" not in reference:
            record = await self._pull.acceptable(call.repository, record, call.headers.get("Accept"))
        headers = _headers(record, by_digest=":" in reference)
        if is_not_modified(call.headers.get("If-None-Match"), record.digest):
            return Answer(304, headers)
        if call.is_head:
            return Answer(200, (*headers, ("Content-Length", str(record.size_bytes))))
        return Answer(200, headers, await self._pull.manifest_content(record))

    async def put(self, call: Call) -> Answer:
        """Store a manifest and set its tags."""
        pushed = await self._push.put_manifest(
            call.repository,
            call.parts["reference"],
            call.body,
            content_type=call.headers.get("Content-Type"),
            extra_tags=call.query.all("tag"),
            announced=call.query.first("digest"),
            pushed_by=call.owner,
            may_overwrite=call.may("push", call.repository),
            expects=tag_expectation(call.headers.get("If-Match"), call.headers.get("If-None-Match")),
        )
        digest = str(pushed.digest)
        headers = [
            ("Location", self._links.to(f"/v2/{call.repository.text}/manifests/{digest}")),
            ("Docker-Content-Digest", digest),
        ]
        if pushed.subject is not None:
            headers.append(("OCI-Subject", str(pushed.subject)))
        if ":" in call.parts["reference"]:
            headers += [("OCI-Tag", str(tag)) for tag in pushed.tags]
        return Answer(201, tuple(headers))

    async def delete(self, call: Call) -> Answer:
        """Remove a tag, or a manifest with all its tags."""
        await self._remove.manifest(call.repository, call.parts["reference"], by=call.owner)
        return Answer(202)


def _headers(record: ManifestRecord, *, by_digest: bool) -> Headers:
    # A digest's content can never change; what a tag means can, so it is asked for again each time.
    caching = "private, max-age=31536000, immutable" if by_digest else "no-cache"
    return (
        ("Content-Type", record.media_type),
        ("Docker-Content-Digest", str(record.digest)),
        ("ETag", f'"{record.digest}"'),
        ("Cache-Control", caching),
    )
