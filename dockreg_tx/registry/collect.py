"""Garbage collection beside a running registry: finds what nothing needs, and asks again before it is moved.

Reading and deciding go on without a lock; each removal is one short transaction in which the same question is
asked again, the bytes are moved to the trash, and the record goes (``CollectRecords``). So a push that comes
between the two keeps its content, and one that comes after is told that the blob is unknown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from twisted.logger import Logger

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.ports import (
    BlobRecord,
    BlobTrash,
    CollectRecords,
    Cutoff,
    StoredContent,
    UntaggedManifest,
    Verdict,
)

#: Who removed a manifest, where a user's name stands otherwise; no user can be called that.
BY = ":gc"
#: Candidates of one look-up.
BATCH = 100
#: So long may a transaction take, for pushes wait for the lock; and so many blobs has the first one.
LOCK_SECONDS = 0.01
FIRST_BATCH = 10
#: A journal that is shorter is left as it is.
JOURNAL_BYTES = 8 * 1024 * 1024
#: A scheduled run that comes this much later than it should was moved by the clock, or by a stop.
JUMP_SECONDS = 3600.0
_SHARDS = 256

Item = TypeVar("Item", BlobRecord, StoredContent)

_log = Logger(namespace="dockreg.gc")


class Reason(StrEnum):
    """Why something is removed."""

    UNREFERENCED = "unreferenced"
    #: Bytes without a record, left by a crash.
    ORPHAN = "orphan"
    UNTAGGED = "untagged"


@dataclass(frozen=True, slots=True)
class Decision:
    """One removal; ``since`` is when it was last relied on, in seconds since the epoch."""

    digest: Digest
    size_bytes: int
    reason: Reason
    since: float
    #: Of an untagged manifest.
    repository: str = ""


@dataclass(frozen=True, slots=True)
class CollectionRules:
    """How long content stays that nothing needs, in seconds; None keeps untagged manifests for good."""

    grace_seconds: float = 24 * 3600.0
    trash_seconds: float = 24 * 3600.0
    untagged_after_seconds: float | None = None

    def cutoff(self, now: float) -> Cutoff:
        """Return what counts as old at a moment."""
        return Cutoff(now - self.grace_seconds, now - self.trash_seconds)


class Pace:
    """Sizes transactions so that each takes about ``LOCK_SECONDS``, however slow the disk is."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._limit = FIRST_BATCH
        self._count = 0
        self._began = 0.0

    def is_enough(self) -> bool:
        """Count one blob, and tell whether the transaction should end with it."""
        now = self._seconds()
        if not self._count:
            self._began = now
        self._count += 1
        return self._count >= self._limit or now - self._began >= LOCK_SECONDS

    def ended(self) -> None:
        """Learn from a transaction that is on disk: the next one is up to twice as large, or smaller."""
        took_seconds = max(self._seconds() - self._began, LOCK_SECONDS / 100)
        fitting = int(self._count * LOCK_SECONDS / took_seconds)
        self._limit = max(1, min(fitting, 2 * self._limit, BATCH))
        self._count = 0


@dataclass(frozen=True, kw_only=True)
class Collect:
    """The use case of collecting garbage; one at a time on a root.

    ``monotonic_seconds`` times the transactions.
    """

    records: CollectRecords
    trash: BlobTrash
    monotonic_seconds: Callable[[], float]

    async def run(self, rules: CollectionRules, *, now: float, dry_run: bool = False) -> list[Decision]:
        """Remove what nothing needs, and return each decision; ``dry_run`` only decides.

        A clock that went back makes everything look younger, so that more is kept: ``now`` is taken as it is.
        """
        if not dry_run:
            await self.recover()
            await self.records.note_collection(now)
        found = list[Decision]()
        async for decision in self._decisions(rules, now, dry_run):
            if not dry_run:
                # At once: what is gone must be on record even if the disk ends the run.
                _note(decision)
            found.append(decision)
        if not dry_run:
            await self.records.empty_trash(now - rules.trash_seconds)
            await self._purge(now - rules.trash_seconds, is_everything=rules.trash_seconds == 0)
            await self.records.compact_journal(JOURNAL_BYTES)
        return found

    async def run_if_due(
        self, rules: CollectionRules, *, schedule_seconds: float, now: float
    ) -> list[Decision]:
        """Run if the last time was ``schedule_seconds`` ago.

        After a jump of the clock it waits an hour more: pushes that are under way were dated by the old time.
        """
        last = await self.records.last_collection()
        if last is not None and 0 <= now - last < schedule_seconds:
            return []
        if last is not None and now - last > schedule_seconds + JUMP_SECONDS:
            _log.warn("garbage collection waits: the clock jumped, or the registry was stopped for long")
            await self.records.note_collection(min(now, now - schedule_seconds + JUMP_SECONDS))
            return []
        return await self.run(rules, now=now)

    async def recover(self) -> int:
        """Bring back bytes of blobs that are on record, which a crash left in the trash; return how many."""
        entries = await self.trash.entries()
        unknown = set(await self.records.unknown_content([entry.digest for entry in entries]))
        count = 0
        for entry in entries:
            # Newest last: an older copy of the same content does no harm, it is the same.
            if entry.digest not in unknown and await self._restore(entry.name, entry.digest):
                count += 1
        return count

    async def _restore(self, name: str, digest: Digest) -> bool:
        return await self.records.restore_content(digest, put_back=lambda: self.trash.put_back(name))

    async def _decisions(self, rules: CollectionRules, now: float, dry_run: bool) -> AsyncIterator[Decision]:
        for part in (
            self._manifests(rules, now, dry_run),
            self._blobs(rules.cutoff(now), dry_run),
            self._orphans(rules.cutoff(now), dry_run),
        ):
            async for decision in part:
                yield decision

    async def _blobs(self, cutoff: Cutoff, dry_run: bool) -> AsyncIterator[Decision]:
        async def collect(digests: list[Digest], pace: Pace) -> list[Verdict]:
            return await self.records.collect_blobs(
                digests, cutoff, take=self.trash.move, settle=self.trash.settle, is_enough=pace.is_enough
            )

        after: BlobRecord | None = None
        pace = Pace(self.monotonic_seconds)
        while page := await self.records.dead_blobs(cutoff, after, BATCH):
            after = page[-1]
            removed = page if dry_run else await _remove(page, pace, collect)
            for blob in removed:
                yield Decision(blob.digest, blob.size_bytes, Reason.UNREFERENCED, blob.touched_at)

    async def _manifests(self, rules: CollectionRules, now: float, dry_run: bool) -> AsyncIterator[Decision]:
        if rules.untagged_after_seconds is None:
            return
        before = now - rules.untagged_after_seconds
        after: UntaggedManifest | None = None
        while page := await self.records.untagged_manifests(before, after, BATCH):
            after = page[-1]
            for item in page:
                if await self.records.collect_manifest(
                    item.repository, item.digest, before=before, now=now, by=BY, dry_run=dry_run
                ):
                    yield Decision(
                        item.digest, item.size_bytes, Reason.UNTAGGED, item.pushed_at, item.repository.text
                    )

    async def _orphans(self, cutoff: Cutoff, dry_run: bool) -> AsyncIterator[Decision]:
        pace = Pace(self.monotonic_seconds)
        async for page in self._orphan_pages(cutoff.touched_before):
            for item in page if dry_run else await self._remove_orphans(page, pace):
                yield Decision(item.digest, item.size_bytes, Reason.ORPHAN, item.modified_at)

    async def _orphan_pages(self, before: float) -> AsyncIterator[list[StoredContent]]:
        """Yield what has no record: a page for a transaction, for a shard alone has few of them."""
        page: list[StoredContent] = []
        for shard in range(_SHARDS):
            try:
                stored = await self.trash.stored(shard)
            except StoreUnavailable as error:
                _log.error(
                    "the content under {shard:02x} cannot be listed, so all stays: {error}",
                    shard=shard,
                    error=error,
                )
                continue
            old = {item.digest: item for item in stored if item.modified_at < before}
            page += [old[digest] for digest in await self.records.unknown_content(list(old))] if old else []
            if len(page) >= BATCH:
                yield page
                page = []
        if page:
            yield page

    async def _remove_orphans(self, page: list[StoredContent], pace: Pace) -> list[StoredContent]:
        async def collect(digests: list[Digest], pace: Pace) -> list[Verdict]:
            return await self.records.collect_orphans(
                digests, take=self.trash.move, settle=self.trash.settle, is_enough=pace.is_enough
            )

        try:
            return await _remove(page, pace, collect)
        except StoreUnavailable as error:
            _log.error("bytes without a record stay where they are: {error}", error=error)
            return []

    async def _purge(self, before: float, *, is_everything: bool) -> None:
        for entry in await self.trash.entries():
            if is_everything or entry.taken_at < before:
                try:
                    await self.trash.purge(entry.name)
                except StoreUnavailable as error:
                    _log.error("{name} stays in the trash: {error}", name=entry.name, error=error)


async def _remove(
    page: list[Item], pace: Pace, collect: Callable[[list[Digest], Pace], Awaitable[list[Verdict]]]
) -> list[Item]:
    """Return what was removed of a page, in as many transactions as ``pace`` makes of it."""
    removed: list[Item] = []
    while page:
        verdicts = await collect([item.digest for item in page], pace)
        pace.ended()
        for item, verdict in zip(page, verdicts, strict=False):
            if verdict is Verdict.REMOVED:
                removed.append(item)
            elif verdict is Verdict.FAILED:
                _log.error("{digest} could not be moved to the trash: it stays", digest=item.digest)
        page = page[len(verdicts) :]
    return removed


def _note(decision: Decision) -> None:
    _log.info(
        "removed {digest}: {reason}, {size_bytes} bytes, last relied on at {since:.0f}",
        digest=str(decision.digest),
        reason=decision.reason.value,
        size_bytes=decision.size_bytes,
        since=decision.since,
        repository=decision.repository,
    )
