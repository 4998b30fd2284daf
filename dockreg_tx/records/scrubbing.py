"""What the scrub asks and repairs, and the clock that only goes forward."""

from __future__ import annotations

from dockreg_tx.oci.descriptors import nondistributable_layers
from dockreg_tx.oci.digests import Digest
from dockreg_tx.ports import EnsureContent, RecordedBlob, ScrubState
from dockreg_tx.records import checksums, statements
from dockreg_tx.records.operations import SqliteOperations
from dockreg_tx.records.reader import SqliteReader
from dockreg_tx.records.transactions import Transaction

_RECORDED_BLOB = "SELECT digest, size_bytes, state = 'quarantined' FROM blobs WHERE digest = :digest"
_NEWEST_BLOBS = f"""
SELECT digest, size_bytes FROM blobs
WHERE state = 'live' AND {statements.is_digest("digest")} ORDER BY touched_at DESC LIMIT :limit
"""  # noqa: S608 - joins constants only
# Content in quarantine keeps its link, and is told of by itself.
_DANGLING_REFERENCES = """
SELECT repositories.name, manifests.digest, named.kind, named.digest, manifests.content
FROM manifest_references AS named
JOIN manifests ON manifests.id = named.manifest_id
JOIN repositories ON repositories.id = manifests.repository_id
WHERE named.kind IN ('config', 'layer') AND NOT EXISTS (
    SELECT 1 FROM repository_blobs AS linked
    JOIN blobs ON blobs.digest = linked.digest
    WHERE linked.repository_id = manifests.repository_id AND linked.digest = named.digest
)
ORDER BY 1, 2, 3, 4
"""
_REVIVE = "UPDATE blobs SET state = 'live' WHERE digest = :digest AND state = 'quarantined'"
_STATE = "SELECT began_at, ended_at, cursor, checked, damaged FROM scrub"
_NOTE = """
INSERT INTO scrub (id, began_at, ended_at, cursor, checked, damaged)
VALUES (1, :began_at, :ended_at, :cursor, :checked, :damaged)
ON CONFLICT (id) DO UPDATE SET
    began_at = excluded.began_at, ended_at = excluded.ended_at, cursor = excluded.cursor,
    checked = excluded.checked, damaged = excluded.damaged
"""
_COPY = "SELECT content FROM manifests WHERE digest = :digest AND content IS NOT NULL LIMIT 1"
_DAMAGED_COPIES = """
SELECT DISTINCT digest FROM manifests WHERE content IS NOT NULL AND NOT is_content(digest, content)
"""
_MEND = "UPDATE manifests SET content = :content WHERE digest = :digest AND content IS NOT NULL"
# Constants only are joined. Inside the joins "name" and "digest" would be of two tables.
_DAMAGED_ROWS = (
    f"""
SELECT 'tag ' || coalesce((SELECT name FROM repositories WHERE id = tags.repository_id), '?') || ':' || name
FROM tags WHERE checksum IS NOT row_checksum({checksums.TAG}) ORDER BY 1
""",  # noqa: S608
    f"""
SELECT 'manifest ' || coalesce((SELECT name FROM repositories WHERE id = manifests.repository_id), '?')
    || '@' || digest
FROM manifests WHERE checksum IS NOT row_checksum({checksums.MANIFEST}) ORDER BY 1
""",  # noqa: S608
    f"SELECT 'user ' || name FROM users WHERE checksum IS NOT row_checksum({checksums.USER}) ORDER BY 1",  # noqa: S608
    # These have no checksum, but are looked at one by one.
    f"SELECT 'blob ' || digest FROM blobs WHERE NOT {statements.is_digest('digest')} ORDER BY 1",  # noqa: S608
    f"""
SELECT 'trash ' || id FROM trash
WHERE NOT json_valid(tags) OR NOT {statements.is_digest("digest")} ORDER BY id
""",  # noqa: S608
)
_SEEN = "SELECT seen_at, held_until FROM clock"
_SEE = """
INSERT INTO clock (id, seen_at, held_until) VALUES (1, :now, :held_until)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, held_until = excluded.held_until
"""


class UpkeepOperations(SqliteOperations):
    """The rest of the ports: everything that only the upkeep of a registry needs."""

    async def recorded_blob(self, digest: Digest) -> RecordedBlob | None:
        """Return one blob, None when none is recorded."""
        rows = await self._scan(lambda reader: reader.rows(_RECORDED_BLOB, digest=str(digest)))
        return RecordedBlob(digest, rows[0][1], bool(rows[0][2])) if rows else None

    async def newest_blobs(self, limit: int) -> list[RecordedBlob]:
        """Return the good blobs that were pushed, or relied on, last."""
        rows = await self._scan(lambda reader: reader.rows(_NEWEST_BLOBS, limit=limit))
        return [RecordedBlob(Digest.parse(digest), size_bytes, False) for digest, size_bytes in rows]

    async def dangling_references(self) -> list[str]:
        """Return what manifests name that their repository does not hold."""
        return await self._scan(_dangling_references)

    async def revive_blob(self, digest: Digest, *, ensure: EnsureContent) -> bool:
        """Count a blob in quarantine as good again, for its bytes are back; False when it is not there."""

        def revive(transaction: Transaction) -> bool:
            ensure()
            return transaction.changed(_REVIVE, digest=str(digest))

        return await self._write(revive)

    async def scrub_state(self) -> ScrubState | None:
        """Return how far the scrub got, None before the first one."""
        rows = await self._scan(lambda reader: reader.rows(_STATE))
        return ScrubState(*rows[0]) if rows else None

    async def note_scrub(self, state: ScrubState) -> None:
        """Record how far the scrub got."""
        await self._write(
            lambda transaction: transaction.execute(
                _NOTE,
                began_at=state.began_at,
                ended_at=state.ended_at,
                cursor=state.cursor,
                checked=state.checked,
                damaged=state.damaged,
            )
        )

    async def manifest_copy(self, digest: Digest) -> bytes | None:
        """Return the bytes of a manifest that a row holds, None when none does."""
        rows = await self._scan(lambda reader: reader.rows(_COPY, digest=str(digest)))
        return rows[0][0] if rows else None

    async def damaged_copies(self) -> list[Digest]:
        """Return the manifests whose bytes in a row are not what their digest says."""
        rows = await self._scan(lambda reader: reader.rows(_DAMAGED_COPIES))
        return [Digest.parse(digest) for (digest,) in rows]

    async def mend_copy(self, digest: Digest, content: bytes) -> None:
        """Replace the bytes of a manifest in every row that holds them."""
        await self._write(lambda transaction: transaction.execute(_MEND, digest=str(digest), content=content))

    async def damaged_rows(self) -> list[str]:
        """Return what the rows are called whose checksum is wrong, such as ``tag team/app:latest``."""
        return await self._scan(_damaged_rows)

    async def clock_is_steady(self, now: float, *, jump_seconds: float, hold_seconds: float) -> bool:
        """Note the time; False when it jumped forward, now or less than ``hold_seconds`` ago."""

        def look(transaction: Transaction) -> bool:
            row = transaction.execute(_SEEN).fetchone()
            held_until = held(row, now, jump_seconds=jump_seconds, hold_seconds=hold_seconds)
            transaction.execute(_SEE, now=now, held_until=held_until)
            return now >= held_until

        return await self._free(look)


def held(row: tuple[float, float] | None, now: float, *, jump_seconds: float, hold_seconds: float) -> float:
    """Return until when nothing may be removed for its age; ``row``: last time seen, and the answer then."""
    if row is None:
        return now
    seen_at, held_until = row
    if now - seen_at > jump_seconds:
        return now + hold_seconds
    # A clock that went back must not hold things for years.
    return min(held_until, now + hold_seconds)


def dangling(repository: str, manifest: str, kind: str, digest: str) -> str:
    """Return the sentence for content that is not where a manifest needs it."""
    return f"{repository}@{manifest} lacks its {kind} {digest}"


def _dangling_references(reader: SqliteReader) -> list[str]:
    return [
        dangling(repository, manifest, kind, digest)
        for repository, manifest, kind, digest, content in reader.rows(_DANGLING_REFERENCES)
        if digest not in nondistributable_layers(content)
    ]


def _damaged_rows(reader: SqliteReader) -> list[str]:
    return [name for statement in _DAMAGED_ROWS for (name,) in reader.rows(statement)]
