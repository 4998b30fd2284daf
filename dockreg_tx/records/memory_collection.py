"""Garbage collection over memory: the fake's half that finds and removes what nothing needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import (
    BlobRecord,
    ContentReference,
    Cutoff,
    EnsureContent,
    ManifestRecord,
    RecordedBlob,
    ReferenceKind,
    ReferrerRecord,
    SettleContent,
    TakeContent,
    UntaggedManifest,
    Verdict,
    settled,
)
from dockreg_tx.records.memory_upkeep import MemoryUpkeep


@dataclass(slots=True)
class MemoryRepository:
    """What one repository holds."""

    #: When each blob was linked.
    blobs: dict[Digest, float] = field(default_factory=dict)
    manifests: dict[Digest, ManifestRecord] = field(default_factory=dict)
    #: For each manifest with a subject, that and how it is listed.
    referrers: dict[Digest, tuple[Digest, ReferrerRecord]] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    references: dict[Digest, tuple[ContentReference, ...]] = field(default_factory=dict)
    #: When each manifest was pushed, or lost a tag.
    used_at: dict[Digest, float] = field(default_factory=dict)


class MemoryCollection(MemoryUpkeep):
    """Mixed into records that keep repositories, and sizes and times of blobs."""

    _repositories: dict[str, MemoryRepository]
    _sizes_bytes: dict[Digest, int]
    _touched: dict[Digest, float]
    _quarantined: set[Digest]

    def __init__(self) -> None:
        super().__init__()
        self._collected_at: float | None = None

    def version(self) -> int | None:
        """Return nothing: reading memory costs nothing."""
        return None

    async def renew_blob(self, digest: Digest, *, now: float) -> bool:
        """Begin the blob's grace period anew; False when it is gone."""
        if digest not in self._touched:
            return False
        self._touched[digest] = max(self._touched[digest], now)
        return True

    async def dead_blobs(self, cutoff: Cutoff, after: BlobRecord | None, limit: int) -> list[BlobRecord]:
        """Return a page of dead blobs, the longest untouched first."""
        found = sorted((at, str(digest), digest) for digest, at in self._touched.items())
        start = (after.touched_at, str(after.digest)) if after else (float("-inf"), "")
        page = [
            BlobRecord(digest, self._sizes_bytes[digest], at)
            for at, text, digest in found
            if (at, text) > start and self._is_dead(digest, cutoff)
        ]
        return page[:limit]

    async def collect_blobs(
        self,
        digests: Sequence[Digest],
        cutoff: Cutoff,
        *,
        take: TakeContent,
        is_enough: Callable[[], bool],
        settle: SettleContent = settled,
    ) -> list[Verdict]:
        """Remove those that are still dead, with their links and bytes."""
        verdicts = _move_content(
            digests, lambda digest: self._is_dead(digest, cutoff), take, is_enough=is_enough, settle=settle
        )
        for digest, verdict in verdicts.items():
            if verdict is Verdict.REMOVED:
                self._forget_blob(digest)
        return list(verdicts.values())

    def _forget_blob(self, digest: Digest) -> None:
        for known in self._repositories.values():
            known.blobs.pop(digest, None)
        del self._touched[digest], self._sizes_bytes[digest]
        self._quarantined.discard(digest)

    def _is_dead(self, digest: Digest, cutoff: Cutoff) -> bool:
        before = cutoff.touched_before
        return self._touched.get(digest, before) < before and not any(
            digest in known.manifests
            or known.blobs.get(digest, float("-inf")) >= before
            or any(item.digest == digest for items in known.references.values() for item in items)
            for known in self._repositories.values()
        )

    async def recorded_blobs(self, after: str, limit: int) -> list[RecordedBlob]:
        """Return a page of all blobs, by the text of their digest."""
        found = [digest for digest in sorted(self._touched, key=str) if str(digest) > after]
        return [
            RecordedBlob(digest, self._sizes_bytes[digest], digest in self._quarantined)
            for digest in found[:limit]
        ]

    async def quarantine_blob(self, digest: Digest, *, take: TakeContent) -> bool:
        """Count a blob as missing until it is pushed again, and move its bytes."""
        if digest not in self._touched or digest in self._quarantined:
            return False
        take(digest)
        self._quarantined.add(digest)
        return True

    async def unknown_content(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those that no blob is recorded for, and no manifest names."""
        return [digest for digest in digests if self._is_unknown(digest)]

    def _is_unknown(self, digest: Digest) -> bool:
        return digest not in self._touched and not any(
            digest in known.manifests
            or any(item.digest == digest for items in known.references.values() for item in items)
            for known in self._repositories.values()
        )

    async def collect_orphans(
        self,
        digests: Sequence[Digest],
        *,
        take: TakeContent,
        is_enough: Callable[[], bool],
        settle: SettleContent = settled,
    ) -> list[Verdict]:
        """Move the bytes of those that no blob is recorded for, and no manifest names."""
        verdicts = _move_content(digests, self._is_unknown, take, is_enough=is_enough, settle=settle)
        return list(verdicts.values())

    async def restore_content(self, digest: Digest, *, put_back: EnsureContent) -> bool:
        """Call ``put_back`` if a blob is recorded."""
        if digest not in self._touched or digest in self._quarantined:
            return False
        put_back()
        return True

    async def untagged_manifests(
        self, before: float, after: UntaggedManifest | None, limit: int
    ) -> list[UntaggedManifest]:
        """Return a page of manifests pushed before this that no tag points at, by repository and digest."""
        start = (after.repository.text, str(after.digest)) if after else ("", "")
        found = [
            UntaggedManifest(RepositoryName(name), digest, record.size_bytes, known.used_at[digest])
            for name, known in sorted(self._repositories.items())
            for digest, record in sorted(known.manifests.items())
            if digest not in known.tags.values() and known.used_at[digest] < before
        ]
        return [item for item in found if (item.repository.text, str(item.digest)) > start][:limit]

    async def collect_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        before: float,
        now: float,
        by: str,
        dry_run: bool = False,
    ) -> bool:
        """Remove a manifest that nothing has kept since ``before``."""
        known = self._repositories.get(repository.text, MemoryRepository())
        keepers = {digest}
        while more := set(_keepers(known, keepers)) - keepers:
            keepers |= more
        if any(item in known.tags.values() or known.used_at[item] >= before for item in keepers):
            return False
        return dry_run or await self.delete_manifest(repository, digest, by=by, now=now)

    async def delete_manifest(
        self, repository: RepositoryName, digest: Digest, *, by: str, now: float
    ) -> bool:
        """Remove a manifest; what this is mixed into does it."""
        raise NotImplementedError

    async def empty_trash(self, before: float) -> None:
        """Do nothing: in memory, what is deleted is gone."""

    async def last_collection(self) -> float | None:
        """Return when garbage was last collected, None for never."""
        return self._collected_at

    async def note_collection(self, now: float) -> None:
        """Record that garbage is being collected."""
        self._collected_at = now

    async def compact_journal(self, minimum_bytes: int) -> bool:
        """Do nothing: memory keeps no journal."""
        return False


def _move_content(
    digests: Sequence[Digest],
    may_go: Callable[[Digest], bool],
    take: TakeContent,
    *,
    is_enough: Callable[[], bool],
    settle: SettleContent,
) -> dict[Digest, Verdict]:
    verdicts, put_back = dict[Digest, Verdict](), dict[Digest, Callable[[], None]]()
    for digest in digests:
        verdicts[digest] = Verdict.KEPT
        if may_go(digest):
            try:
                put_back[digest] = take(digest)
                verdicts[digest] = Verdict.REMOVED
            except StoreUnavailable:
                verdicts[digest] = Verdict.FAILED
        if is_enough():
            break
    try:
        settle(list(put_back))
    except StoreUnavailable:
        for digest, undo in put_back.items():
            undo()
            verdicts[digest] = Verdict.FAILED
    return verdicts


def _keepers(known: MemoryRepository, kept: set[Digest]) -> Iterator[Digest]:
    """Yield what names one of ``kept`` as child or subject, and their subjects."""
    for digest, references in known.references.items():
        for reference in references:
            if reference.kind not in {ReferenceKind.CHILD, ReferenceKind.SUBJECT}:
                continue
            if reference.digest in kept:
                yield digest
            is_subject = reference.kind is ReferenceKind.SUBJECT and reference.digest in known.manifests
            if digest in kept and is_subject:
                yield reference.digest
