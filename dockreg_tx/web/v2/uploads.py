"""``/v2/<name>/blobs/uploads/`` and the sessions below it (spec: end-4 to end-6, end-11, end-13, end-14)."""

from __future__ import annotations

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import NameInvalid, RangeOutOfOrder
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.scopes import Scope
from dockreg_tx.oci.uploads import upload_range
from dockreg_tx.registry.push import Push
from dockreg_tx.registry.uploads import SessionKey, Uploads, parse_digests
from dockreg_tx.web.answers import Answer, Headers
from dockreg_tx.web.calls import Call, Query
from dockreg_tx.web.links import Links


class UploadSessions:
    """Starting uploads and carrying them on."""

    def __init__(self, *, uploads: Uploads, push: Push, links: Links) -> None:
        self._uploads = uploads
        self._push = push
        self._links = links

    async def post(self, call: Call) -> Answer:
        """Mount a blob, take a whole one, or open a session, whichever the query asks for and can be had."""
        mounted = await self._mount(call)
        if mounted is not None:
            return self._created(call, mounted)
        digests = call.query.all("digest")
        if digests and await self._carries_blob(call, digests):
            return await self._post_whole(call, digests)
        upload = await self._uploads.begin(
            call.repository, call.owner, algorithm=call.query.first("digest-algorithm")
        )
        return Answer(202, self._session_headers(call, upload.id, 0))

    async def get(self, call: Call) -> Answer:
        """Tell how far the upload got."""
        upload = await self._uploads.find(_key(call))
        return Answer(204, self._session_headers(call, upload.id, upload.offset_bytes))

    async def patch(self, call: Call) -> Answer:
        """Append a chunk."""
        key = _key(call)
        offset = await self._uploads.append_chunk(
            key, call.body, content_range=call.headers.get("Content-Range")
        )
        return Answer(202, self._session_headers(call, key.upload_id, offset))

    async def put(self, call: Call) -> Answer:
        """Append the last bytes, if any, and make the upload a blob."""
        digest = await self._uploads.finish(
            _key(call),
            call.body,
            digests=call.query.all("digest"),
            content_range=call.headers.get("Content-Range"),
        )
        return self._created(call, digest)

    async def delete(self, call: Call) -> Answer:
        """Cancel the upload."""
        await self._uploads.cancel(_key(call))
        return Answer(204)

    def headers_of_error(self, call: Call, error: Exception) -> Headers:
        """Return where a refused chunk's session is and how far it got: clients go on from there."""
        if not isinstance(error, RangeOutOfOrder):
            return ()
        return self._session_headers(call, call.parts["upload"], error.offset_bytes)

    async def _mount(self, call: Call) -> Digest | None:
        digest = call.query.first("mount")
        if digest is None:
            return None
        return await self._push.mount_blob(call.repository, digest, call.query.first("from"), may=call.may)

    async def _carries_blob(self, call: Call, digests: list[str]) -> bool:
        """Tell a single POST of a whole blob from one that only announces a digest (spec: end-4b)."""
        parsed = parse_digests(digests)
        return call.body.length_bytes != 0 or all(
            digest == Digest.of(b"", digest.algorithm) for digest in parsed
        )

    async def _post_whole(self, call: Call, digests: list[str]) -> Answer:
        upload = await self._uploads.begin(call.repository, call.owner)
        key = SessionKey(call.repository, upload.id, call.owner)
        try:
            digest = await self._uploads.finish(key, call.body, digests=digests, content_range=None)
        except BaseException:
            # The client never learns of this session, so nobody could go on with it.
            await self._uploads.forget(key)
            raise
        return self._created(call, digest)

    def _created(self, call: Call, digest: Digest) -> Answer:
        text = str(digest)
        location = self._links.to(f"/v2/{call.repository.text}/blobs/{text}")
        return Answer(201, (("Location", location), ("Docker-Content-Digest", text)))

    def _session_headers(self, call: Call, upload_id: str, offset_bytes: int) -> Headers:
        return (
            ("Location", self._links.to(f"/v2/{call.repository.text}/blobs/uploads/{upload_id}")),
            ("Range", upload_range(offset_bytes)),
            ("Docker-Upload-UUID", upload_id),
        )


def source_scopes(query: Query) -> tuple[Scope, ...]:
    """Return the scope that a client needs to mount a blob from the repository it names."""
    name = query.first("from")
    if query.first("mount") is None or name is None:
        return ()
    try:
        return (Scope("repository", RepositoryName.parse(name).text, ("pull",)),)
    except NameInvalid:
        return ()


def _key(call: Call) -> SessionKey:
    return SessionKey(call.repository, call.parts["upload"], call.owner)
