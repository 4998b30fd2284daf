"""The seams: what a use case needs from the outside world, one Protocol for each capability.

Backends in ``blobs/`` and ``records/`` offer them, ``service.py`` joins them; the contract suites in
``tests/contracts`` say what each promises. Backends raise the errors of ``oci.errors``, never ``OSError``
or ``sqlite3.Error``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ParamSpec, Protocol, TypeVar, runtime_checkable

from twisted.internet.interfaces import IConsumer

from dockreg_tx.oci.digests import Digest, Reference
from dockreg_tx.oci.names import RepositoryName, Tag

P = ParamSpec("P")
T = TypeVar("T")

#: Wall-clock time in seconds since the epoch, for what is stored; waits use an ``IReactorTime``.
Now = Callable[[], float]
#: A fresh unguessable id (a UUID4 with dashes).
NewId = Callable[[], str]
#: Whether the caller of the moment may do an action ("pull", "push", …) in a repository.
May = Callable[[str, RepositoryName], bool]
#: Run by the record writer inside its transaction, in its thread: puts content back under its digest if
#: garbage collection took it since it was published. Blocks; cheap when nothing is missing.
EnsureContent = Callable[[], None]
#: Run like ``EnsureContent``: moves the bytes of a blob to the trash, durably, and returns what moves them
#: back (nothing happens, both times, when there are none).
TakeContent = Callable[["Digest"], Callable[[], None]]
#: Run after some ``TakeContent`` that are not durable by themselves: what they moved is on disk then.
SettleContent = Callable[[Sequence["Digest"]], None]


class LateContent:
    """Small content that is put in its place on the way to the transaction that records it.

    The record writer calls ``place`` before the transaction begins, in some thread; it blocks. Within the
    transaction it is called as an ``EnsureContent``, and places the content even then if nobody has.

    Args:
        place: puts the content in its place, durably, and returns its ``EnsureContent``.
    """

    def __init__(self, place: Callable[[], EnsureContent]) -> None:
        self._place = place
        self._ensure: EnsureContent | None = None

    def place(self) -> None:
        """Put the content in its place, durably. Called once; what it raises is final."""
        self._ensure = self._place()

    def __call__(self) -> None:
        """Put the content back if garbage collection took it."""
        if self._ensure is None:
            self.place()
        else:
            self._ensure()


def settled(_digests: Sequence[Digest]) -> None:
    """Do nothing: each move was durable."""


class Blocking(Protocol):
    """Runs blocking work away from the reactor."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``work`` returns; its exceptions are raised here."""
        ...


class HandsOff(Protocol):
    """Runs blocking work away from the reactor, and has nothing to tell it."""

    def give(self, work: Callable[[], None]) -> None:
        """Have ``work`` done, which passes on its result by itself and never fails."""
        ...


class Body(Protocol):
    """A request body that has not been read yet; it may be taken once, by one of the two methods.

    ``length_bytes`` is None for a chunked body of unknown length.
    """

    length_bytes: int | None

    async def stream_to(self, consumer: IConsumer) -> None:
        """Feed the body to ``consumer`` as a push producer (registered streaming) until it ends.

        The consumer is unregistered at the end, in failure too. A consumer that cannot go on calls its
        producer's ``stopProducing``; then this returns early, and the rest is discarded.

        Raises:
            BodyBroken: the client went away or stalled; everything received was written to the consumer.
        """
        ...

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            BodyTooLarge: it has more than ``limit_bytes``; at most that much was held in memory.
            BodyBroken: as above.
        """
        ...


@runtime_checkable
class Fillable(Protocol):
    """What a consumer is, too, when a body may be put into its memory instead of being written to it."""

    def room(self) -> memoryview | None:
        """Return memory for the next bytes, valid until anything else is called; None: ``write`` them."""
        ...

    def filled(self, size_bytes: int) -> None:
        """Take the first bytes of the last ``room``, at least one."""
        ...


class WriteGate(Protocol):
    """Whether the disk is trusted with writes; shut by the first error that is the disk's own fault."""

    def check(self) -> None:
        """Do nothing while writes are taken.

        Raises:
            StoreUnavailable: they are not; says why.
        """
        ...

    def note(self, error: OSError) -> None:
        """Shut if an error is the disk's own fault."""
        ...

    def shut(self, reason: str, *, is_final: bool = False) -> None:
        """Take no more writes, for this reason; ``is_final``: until the next start."""
        ...


# --- bytes ------------------------------------------------------------------------------------------------


class OpenBlob(Protocol):
    """A blob open for reading; close it once."""

    size_bytes: int

    def fileno(self) -> int | None:
        """Return a descriptor that ``os.sendfile`` can read, or None when there is none."""
        ...

    async def read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return up to ``length_bytes`` from ``offset_bytes``; empty only at the end.

        Raises:
            StoreUnavailable: the disk failed.
        """
        ...

    def is_cached(self, offset_bytes: int, length_bytes: int) -> bool:
        """Tell at once whether these bytes are in memory; samples of them are looked at.

        Where that cannot be known the answer is no.
        """
        ...

    async def read_ahead(self, offset_bytes: int, length_bytes: int) -> None:
        """Bring these bytes into memory, so that ``os.sendfile`` does not wait for the disk.

        Raises:
            StoreUnavailable: the disk failed.
        """
        ...

    def suspect(self) -> None:
        """Note that it could not be read to its end, so that the scrub looks at it soon."""
        ...

    def close(self) -> None:
        """Give up the descriptor."""
        ...


class BlobStore(Protocol):
    """Immutable content, addressed by its digest."""

    async def open(self, digest: Digest) -> OpenBlob:
        """Open a blob.

        Raises:
            BlobUnknown: there are no such bytes.
            StoreUnavailable: the disk failed.
        """
        ...

    def late(self, digest: Digest, content: bytes) -> LateContent:
        """Return what does as ``put`` on the way to the transaction that records the content.

        Raises:
            DigestInvalid: nothing is stored under this algorithm.
        """
        ...

    async def put(self, digest: Digest, content: bytes) -> EnsureContent:
        """Store small content durably under ``digest``, which the caller has verified.

        Returns when file and directory entry are on disk.

        Raises:
            StorageFull, StoreUnavailable: the disk refused; nothing is stored.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A blob's bytes as the disk lists them; ``modified_at`` in seconds since the epoch."""

    digest: Digest
    size_bytes: int
    modified_at: float


@dataclass(frozen=True, slots=True)
class TrashedContent:
    """Bytes in the trash; ``name`` is theirs alone, ``taken_at`` in seconds since the epoch."""

    name: str
    digest: Digest
    size_bytes: int
    taken_at: float


class BlobTrash(Protocol):
    """Content that garbage collection took, until it is purged."""

    def take(self, digest: Digest) -> Callable[[], None]:
        """Move the bytes of a blob here, as ``TakeContent``. Blocks; only under the records' write lock.

        Raises:
            StorageFull, StoreUnavailable: the disk refused; the bytes are where they were.
        """
        ...

    def move(self, digest: Digest) -> Callable[[], None]:
        """Do what ``take`` does, but for the wait for the disk: ``settle`` has to follow."""
        ...

    def settle(self, digests: Sequence[Digest]) -> None:
        """Make these moves durable, all at once. Blocks; under the same lock.

        Raises:
            StorageFull, StoreUnavailable: the disk refused; the moves have to be undone.
        """
        ...

    def put_back(self, name: str) -> None:
        """Move bytes back under their digest, unless some are there. Blocks; under the same lock."""
        ...

    def size_of(self, digest: Digest) -> int | None:
        """Return the length of the bytes that ``take`` would move, None when there are none. Blocks."""
        ...

    async def entries(self) -> list[TrashedContent]:
        """Return what is here."""
        ...

    async def purge(self, name: str) -> None:
        """Remove bytes for good; no error when there are none."""
        ...

    async def stored(self, shard: int) -> list[StoredContent]:
        """Return one part (0 to 255) of all content that is *not* here, recorded or not."""
        ...


class UploadWriter(Protocol):
    """The one writer of an upload's bytes; holds the upload's lock until closed.

    ``offset_bytes`` is how much has been written; ``synced_bytes`` how much of it is known to be on disk.
    """

    offset_bytes: int
    synced_bytes: int

    async def append(
        self,
        body: Body,
        *,
        limit_bytes: int | None = None,
        checkpoint: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """Write ``body`` at the offset, and return when every byte is written and synced.

        Args:
            body: taken with ``stream_to``; paused while too much waits for the disk.
            limit_bytes: largest total size of the upload, None for no limit.
            checkpoint: awaited with the synced offset every 64 MiB or 5 s while bytes arrive.

        Raises:
            BodyBroken: the client went away; what arrived is written and synced.
            BodyTooLarge: the limit was passed; what fits may have been written.
            StorageFull, StoreUnavailable: the disk refused; ``synced_bytes`` is still true.
        """
        ...

    async def truncate(self, offset_bytes: int) -> None:
        """Forget all bytes from ``offset_bytes`` on."""
        ...

    async def digest(self, algorithm: str) -> Digest:
        """Return the digest of all bytes written: the running hash if there is one, else by re-reading."""
        ...

    async def publish(self, digest: Digest) -> EnsureContent:
        """Make the verified bytes a blob: fsync, link into place, fsync the directory.

        The upload's own file stays until ``UploadStaging.discard``, so that the returned callable can link
        it again.

        Raises:
            StorageFull, StoreUnavailable: the disk refused; an fsync that failed is never repeated.
        """
        ...

    def close(self) -> None:
        """Release the lock; the bytes stay. May be called twice."""
        ...


class UploadStaging(Protocol):
    """Bytes of upload sessions, on the filesystem of the blobs."""

    async def open(self, upload_id: str) -> UploadWriter:
        """Become the writer of an upload, made empty if it has no bytes yet.

        The caller then aligns it with its record: ``truncate`` to the recorded offset, or take the shorter
        file's size as the truth.

        Raises:
            UploadBusy: someone else is its writer now.
            StorageFull, StoreUnavailable: the disk failed.
        """
        ...

    def whole(self, upload_id: str, digest: Digest, content: bytes) -> LateContent:
        """Return what makes the verified bytes a blob, as ``BlobStore.late``, without staging them.

        It raises ``UploadBusy``, and does nothing, when the upload has bytes already, or a writer.

        Raises:
            BlobUploadUnknown: the id cannot be one of ours.
            DigestInvalid: nothing is stored under this algorithm.
        """
        ...

    async def discard(self, upload_id: str) -> None:
        """Remove an upload's bytes; no error when there are none."""
        ...

    async def list(self) -> Sequence[str]:
        """Return the ids of all uploads that have bytes."""
        ...

    async def free_bytes(self) -> int:
        """Return how much more the disk takes; may be a second old."""
        ...


class UploadBusy(Exception):
    """Another request is writing to the upload."""


# --- records ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """A blob as one repository sees it."""

    digest: Digest
    size_bytes: int
    #: When a push last relied on it, in seconds since the epoch.
    touched_at: float = field(default=0.0, compare=False)


class ReferenceKind(StrEnum):
    """What a manifest refers to content as."""

    CONFIG = "config"
    LAYER = "layer"
    CHILD = "child"
    SUBJECT = "subject"


@dataclass(frozen=True, slots=True)
class ContentReference:
    """One descriptor of a manifest.

    ``required``: a push fails unless the repository holds the content (config and layer as a linked blob;
    child as a manifest or a linked blob).
    """

    kind: ReferenceKind
    digest: Digest
    size_bytes: int
    required: bool


@dataclass(frozen=True, slots=True)
class NewManifest:
    """A valid manifest to be recorded; ``content`` is stored verbatim."""

    repository: RepositoryName
    digest: Digest
    media_type: str
    content: bytes
    references: tuple[ContentReference, ...] = ()
    #: For referrers: the manifest's artifactType, else its config's media type, else empty.
    artifact_type: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    #: The user who pushed it, empty for anonymous.
    pushed_by: str = ""


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """A stored manifest; ``content`` is None when it is too long for its row (then read the blob)."""

    digest: Digest
    media_type: str
    size_bytes: int
    content: bytes | None


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload session; ``offset_bytes`` are on disk for certain. Times in seconds since the epoch."""

    id: str
    repository: RepositoryName
    #: The user who opened it, empty for anonymous; nobody else may touch it.
    owner: str
    offset_bytes: int
    started_at: float
    touched_at: float
    #: Digest algorithm the client announced, empty when it did not.
    algorithm: str = ""


@dataclass(frozen=True, slots=True)
class ReferrerRecord:
    """A manifest whose subject is another one, as a listing of referrers shows it."""

    digest: Digest
    media_type: str
    size_bytes: int
    #: Empty for an index that states none.
    artifact_type: str
    annotations: dict[str, str]


class PullRecords(Protocol):
    """Indexed look-ups, cheap enough for the reactor."""

    async def blob(self, repository: RepositoryName, digest: Digest) -> BlobRecord | None:
        """Return the blob if it is linked to this repository; its bytes elsewhere do not count."""
        ...

    async def manifest(self, repository: RepositoryName, reference: Reference) -> ManifestRecord | None:
        """Return the manifest that a tag or digest means in this repository."""
        ...

    async def repository_exists(self, repository: RepositoryName) -> bool:
        """Tell whether anything was ever stored under the name (and the repository was not removed)."""
        ...


class BrowseRecords(Protocol):
    """Pages in byte order; ``after`` is exclusive and need not exist, empty for the start."""

    async def tags(self, repository: RepositoryName, after: str, limit: int | None) -> list[str]:
        """Return up to ``limit`` tags (None: all), sorted by their bytes."""
        ...

    async def repositories(self, after: str, limit: int) -> list[str]:
        """Return up to ``limit`` names of repositories, sorted by their bytes."""
        ...

    async def referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_types: Sequence[str],
        after: str,
        limit: int,
    ) -> list[ReferrerRecord]:
        """Return up to ``limit`` manifests whose subject this is, by digest.

        The subject need not exist. Only manifests of these types are listed, unless there are none.
        """
        ...

    async def repositories_with_blob(self, digest: Digest, after: str, limit: int) -> list[str]:
        """Return up to ``limit`` names of repositories that the blob is linked to, sorted."""
        ...


@dataclass(frozen=True, slots=True)
class TagExpectation:
    """Where a tag must be before it is moved: absent, or present and, unless empty, at one of ``digests``."""

    is_present: bool
    digests: frozenset[str] = frozenset()

    def holds(self, target: str | None) -> bool:
        """Tell whether a tag that points at ``target`` (None: does not exist) is as expected."""
        if not self.is_present:
            return target is None
        return target is not None and (not self.digests or target in self.digests)


class PushRecords(Protocol):
    """Writes of a push; each returns when it is on disk (WAL, synchronous=FULL), journal first."""

    async def commit_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        size_bytes: int,
        ensure: EnsureContent,
        *,
        upload_id: str | None,
        now: float,
    ) -> None:
        """Record a published blob, link it to the repository and end its upload session, in one transaction.

        Raises:
            StorageFull, StoreUnavailable: nothing was recorded.
        """
        ...

    async def mount_blob(
        self, source: RepositoryName, target: RepositoryName, digest: Digest, *, now: float
    ) -> bool:
        """Link a blob of ``source`` to ``target``; False when ``source`` does not hold it."""
        ...

    async def renew_blob(self, digest: Digest, *, now: float) -> bool:
        """Begin the blob's grace period anew, for a client was told that it exists; False when it is gone."""
        ...

    async def put_manifest(
        self,
        manifest: NewManifest,
        tags: Sequence[Tag],
        ensure: EnsureContent,
        *,
        may_overwrite: bool,
        now: float,
        expects: TagExpectation | None = None,
    ) -> None:
        """Record a manifest with its references and point ``tags`` at it, in one transaction.

        Re-pushing is no error; the last media type wins. ``may_overwrite`` False refuses to move a tag that
        points elsewhere; ``expects`` is asked of each tag.

        Raises:
            PreconditionFailed: a tag is not where ``expects`` wants it.
            ManifestBlobUnknown: required content is not in the repository.
            SizeInvalid: a config or layer descriptor's size differs from that of the linked blob.
            Denied: a tag exists and may not be moved.
            StorageFull, StoreUnavailable: nothing was recorded.
        """
        ...


class RemoveRecords(Protocol):
    """Removals; the bytes stay until garbage collection."""

    async def delete_tag(self, repository: RepositoryName, tag: Tag, *, by: str, now: float) -> bool:
        """Remove one tag, keeping its manifest; False when there was none."""
        ...

    async def delete_manifest(
        self, repository: RepositoryName, digest: Digest, *, by: str, now: float
    ) -> bool:
        """Remove a manifest and every tag that points at it; False when there was none."""
        ...

    async def unlink_blob(self, repository: RepositoryName, digest: Digest, *, by: str, now: float) -> bool:
        """Take a blob away from one repository; False when it was not linked."""
        ...

    async def remove_repository(self, repository: RepositoryName, *, by: str, now: float) -> bool:
        """Remove a repository with all tags, manifests, links and upload sessions; False when unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Cutoff:
    """What counts as old, in seconds since the epoch: touched, or put in the trash, before these."""

    touched_before: float
    trashed_before: float


@dataclass(frozen=True, slots=True)
class UntaggedManifest:
    """A manifest that no tag points at."""

    repository: RepositoryName
    digest: Digest
    size_bytes: int
    pushed_at: float


class Verdict(StrEnum):
    """What became of a blob that garbage collection looked at."""

    REMOVED = "removed"
    KEPT = "kept"
    #: The disk refused to move it; its record stays.
    FAILED = "failed"


class CollectRecords(Protocol):
    """Garbage collection: content that nothing needs.

    A blob is dead when no manifest names it, it is no manifest itself, no trash that can be restored needs
    it, and both its last touch and every link to it are older than the cutoff. Pages are in a fixed order.
    """

    async def dead_blobs(self, cutoff: Cutoff, after: BlobRecord | None, limit: int) -> list[BlobRecord]:
        """Return a page of dead blobs; ``after`` is the last one of the page before."""
        ...

    async def collect_blobs(
        self,
        digests: Sequence[Digest],
        cutoff: Cutoff,
        *,
        take: TakeContent,
        is_enough: Callable[[], bool],
        settle: SettleContent = settled,
    ) -> list[Verdict]:
        """Remove those that are still dead, with their links, in one transaction that moves the bytes too.

        Args:
            digests: candidates.
            cutoff: as for ``dead_blobs``; asked again here, where nobody else writes.
            take: moves the bytes of one; undone when the transaction is.
            settle: makes the moves durable, before any record goes; when it fails, all are moved back.
            is_enough: asked after each blob; True ends the transaction early, for others wait for the lock.

        Returns:
            A verdict for each digest looked at, in order, of the first one at least.
        """
        ...

    async def unknown_content(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those that no blob is recorded for."""
        ...

    async def collect_orphans(
        self,
        digests: Sequence[Digest],
        *,
        take: TakeContent,
        is_enough: Callable[[], bool],
        settle: SettleContent = settled,
    ) -> list[Verdict]:
        """Move the bytes of those that no blob is recorded for, in one transaction as ``collect_blobs``."""
        ...

    async def restore_content(self, digest: Digest, *, put_back: EnsureContent) -> bool:
        """Call ``put_back`` under the write lock if a blob is recorded and good; False when none is."""
        ...

    async def untagged_manifests(
        self, before: float, after: UntaggedManifest | None, limit: int
    ) -> list[UntaggedManifest]:
        """Return a page of manifests pushed before this that no tag points at."""
        ...

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
        """Remove a manifest that has been without a tag since ``before``; False when something keeps it.

        ``dry_run`` only tells. Kept are children of what is kept, its subject, and what refers to it.
        """
        ...

    async def empty_trash(self, before: float) -> None:
        """Forget deleted tags and manifests that were put in the trash before this."""
        ...

    async def last_collection(self) -> float | None:
        """Return when garbage was last collected, None for never."""
        ...

    async def note_collection(self, now: float) -> None:
        """Record that garbage is being collected."""
        ...

    async def compact_journal(self, minimum_bytes: int) -> bool:
        """Put a snapshot in the place of a journal longer than this; False when it was not worth it."""
        ...


@dataclass(frozen=True, slots=True)
class RecordedBlob:
    """A blob, whatever repository it is in; one in quarantine counts as missing."""

    digest: Digest
    size_bytes: int
    is_quarantined: bool


@dataclass(frozen=True, slots=True)
class BlobUse:
    """One thing that holds a blob; ``at`` is when it began to, in seconds since the epoch.

    ``kind``: "touched" (a push relied on it), "linked" (a repository), "manifest" (it is one), "trash", or
    what a manifest names it as; ``digest`` is that manifest's, ``tags`` its tags, separated by spaces.
    """

    kind: str
    repository: str
    digest: str
    tags: str
    at: float


class InspectRecords(Protocol):
    """What verification asks and repairs."""

    async def recorded_blobs(self, after: str, limit: int) -> list[RecordedBlob]:
        """Return a page of all blobs, by the text of their digest."""
        ...

    async def quarantine_blob(self, digest: Digest, *, take: TakeContent) -> bool:
        """Count a blob as missing until it is pushed again, and move its bytes; False when it is so already.

        Raises:
            StorageFull, StoreUnavailable, or what ``take`` raises: nothing changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class MovedBlob:
    """A blob that another registry left to one of its repositories; its bytes are in the store."""

    repository: RepositoryName
    digest: Digest
    size_bytes: int
    #: Whether the bytes were hashed on their way.
    is_verified: bool = False


@dataclass(frozen=True, slots=True)
class MovedTag:
    """A tag that another registry left; its manifest was moved before it."""

    repository: RepositoryName
    tag: Tag
    digest: Digest


MovedContent = MovedBlob | NewManifest | MovedTag


class MoveVerdict(StrEnum):
    """What became of content that was moved in."""

    NEW = "new"
    #: It was here already.
    PRESENT = "present"
    #: A tag that somebody changed here, or a blob in quarantine: it stays as it is.
    KEPT = "kept"
    #: It contradicts what is recorded, or its manifest is not here.
    REFUSED = "refused"


class MoveRecords(Protocol):
    """Records of what other registries leave; only the command asks for it."""

    async def move_in(
        self,
        contents: Sequence[MovedContent],
        *,
        ensure: Callable[[Digest], None],
        is_enough: Callable[[], bool],
        now: float,
    ) -> list[MoveVerdict]:
        """Record content whose bytes are stored, in one transaction, journal first.

        Args:
            contents: in order; a tag after its manifest.
            ensure: puts bytes back that garbage collection took meanwhile. Blocks.
            is_enough: asked after each; True ends the transaction early, for others wait for the lock.
            now: seconds since the epoch.

        Returns:
            A verdict for each that was looked at, in order, of the first one at least.

        Raises:
            StorageFull, StoreUnavailable: nothing was recorded.
        """
        ...


class SourceUnreadable(Exception):
    """A file of the other registry cannot be read; the text says which and why."""


class MovedBytes(Protocol):
    """Brings bytes that others left into the store; everything here blocks."""

    def size_of(self, digest: Digest) -> int | None:
        """Return the length of a stored blob, None when there is none."""
        ...

    def read(self, digest: Digest, limit_bytes: int) -> bytes | None:
        """Return a stored blob's bytes, cut one byte above the limit; None when there are none."""
        ...

    def bring(self, source: str, digest: Digest, *, verify: bool) -> None:
        """Make the file ``source`` a blob, unless there is one of this digest.

        Raises:
            SourceUnreadable: the file cannot be read.
            DigestMismatch: with ``verify``, its bytes are others.
            StorageFull, StoreUnavailable: our disk refuses.
        """
        ...

    def receive(self, pieces: Iterable[bytes], expected: Digest | None = None) -> tuple[Digest, int]:
        """Store bytes that arrive in pieces; ``expected`` is what they must hash to, None: to anything.

        Raises:
            DigestMismatch: they hash to something else.
            StorageFull, StoreUnavailable: our disk refuses.
        """
        ...

    def sync(self) -> None:
        """Return when everything brought so far is on disk."""
        ...

    def ensure(self, digest: Digest) -> None:
        """Bring a blob of the present batch again if garbage collection took it since."""
        ...

    def forget_sources(self) -> None:
        """Begin the next batch."""
        ...


@dataclass(frozen=True, slots=True)
class ScrubState:
    """How far a pass of the scrub got; times in seconds since the epoch, ``ended_at`` None till its end."""

    began_at: float
    ended_at: float | None = None
    #: The text of the last digest that was checked.
    cursor: str = ""
    checked: int = 0
    damaged: int = 0

    def after(self, digest: Digest, *, is_damaged: bool) -> ScrubState:
        """Return the state when this blob was checked."""
        return ScrubState(self.began_at, None, str(digest), self.checked + 1, self.damaged + is_damaged)

    def end(self, now: float, *, damaged: int) -> ScrubState:
        """Return the state at the end, with so much more damage."""
        return ScrubState(self.began_at, now, self.cursor, self.checked, self.damaged + damaged)


class ScrubRecords(InspectRecords, Protocol):
    """What the scrub asks and repairs beside that."""

    async def recorded_blob(self, digest: Digest) -> RecordedBlob | None:
        """Return one blob, None when none is recorded."""
        ...

    async def newest_blobs(self, limit: int) -> list[RecordedBlob]:
        """Return the good blobs that were pushed, or relied on, last; the newest first."""
        ...

    async def dangling_references(self) -> list[str]:
        """Return what manifests name that their repository does not hold, as sentences to be read.

        Only configs and layers: a subject may be missing, an index may lack children, and layers that must
        not be distributed are never pushed.
        """
        ...

    async def revive_blob(self, digest: Digest, *, ensure: EnsureContent) -> bool:
        """Count a blob in quarantine as good again, for its bytes are back; False when it is not there."""
        ...

    async def scrub_state(self) -> ScrubState | None:
        """Return how far the scrub got, None before the first one."""
        ...

    async def note_scrub(self, state: ScrubState) -> None:
        """Record how far the scrub got."""
        ...

    async def manifest_copy(self, digest: Digest) -> bytes | None:
        """Return the bytes of a manifest that a row holds, None when none does."""
        ...

    async def damaged_copies(self) -> list[Digest]:
        """Return the manifests whose bytes in a row are not what their digest says."""
        ...

    async def mend_copy(self, digest: Digest, content: bytes) -> None:
        """Replace the bytes of a manifest in every row that holds them."""
        ...

    async def damaged_rows(self) -> list[str]:
        """Return what the rows are called whose checksum is wrong, such as ``tag team/app:latest``."""
        ...

    async def clock_is_steady(self, now: float, *, jump_seconds: float, hold_seconds: float) -> bool:
        """Note the time; False when it jumped forward, now or less than ``hold_seconds`` ago."""
        ...


class UploadRecords(Protocol):
    """Upload sessions; no truth about them is kept in a process."""

    async def begin_upload(self, upload: UploadRecord) -> None:
        """Record a new session, durably; nothing when it has a row."""
        ...

    async def upload(self, upload_id: str) -> UploadRecord | None:
        """Return the session, read afresh; None when it has no row, or has ended."""
        ...

    async def begun_upload(self, upload_id: str) -> UploadRecord | None:
        """Return the session, read afresh; None when it has no row.

        Raises:
            BlobUploadUnknown: it has ended.
        """
        ...

    async def set_upload_offset(self, upload_id: str, offset_bytes: int, *, now: float) -> bool:
        """Record how many bytes are on disk, durably; False when the session is gone."""
        ...

    async def end_upload(self, upload_id: str, *, now: float) -> bool:
        """End the session, whether it has a row or not; False when it had none, or had ended."""
        ...

    async def forget_ended_uploads(self, ended_before: float, limit: int) -> None:
        """Forget up to ``limit`` sessions that ended before that time."""
        ...

    async def expired_uploads(self, touched_before: float, limit: int) -> list[UploadRecord]:
        """Return sessions that nobody touched since, the oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Account:
    """A user; ``grants`` are SPEC texts such as ``pull,push:team-a/**``."""

    name: str
    password_hash: str = field(repr=False)
    is_admin: bool = False
    is_disabled: bool = False
    grants: tuple[str, ...] = ()
    created_at: float = 0.0


class AccountRecords(Protocol):
    """Users and their grants; every change bumps the generation in the same transaction."""

    async def account(self, name: str) -> Account | None:
        """Return one user with the grants, or None."""
        ...

    async def accounts(self) -> list[Account]:
        """Return all users, sorted by name."""
        ...

    async def access_generation(self) -> int:
        """Return a number that grows whenever a user or grant changes, by any process."""
        ...

    async def add_account(self, account: Account) -> bool:
        """Add a user; False when the name is taken."""
        ...

    async def set_password_hash(self, name: str, password_hash: str, *, now: float) -> bool:
        """Replace the hash; False when there is no such user."""
        ...

    async def set_disabled(self, name: str, is_disabled: bool, *, now: float) -> bool:
        """Switch a user off or on; False when there is no such user."""
        ...

    async def remove_account(self, name: str, *, now: float) -> bool:
        """Remove a user and the grants; False when there is no such user."""
        ...

    async def add_grant(self, name: str, spec: str, *, now: float) -> bool:
        """Give a grant (no error when it is there already); False when there is no such user."""
        ...

    async def remove_grant(self, name: str, spec: str, *, now: float) -> bool:
        """Take a grant; False when the user does not have it."""
        ...


class TokenKind(StrEnum):
    """What a stored token is for."""

    #: Made by an operator, used as the password of its user.
    ROBOT = "robot"
    #: A refresh token, given to a client that logged in.
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token that stands for a user; times in seconds since the epoch."""

    id: str
    kind: TokenKind
    #: SHA-256 of the secret, in hexadecimal.
    hash: str = field(repr=False)
    user: str
    created_at: float
    #: The robot whose token the login was made with.
    robot_id: str | None = None
    #: SPEC texts that narrow what the user may do, None for all of it.
    grants: tuple[str, ...] | None = None
    note: str = ""
    expires_at: float | None = None
    used_at: float | None = None


class TokenRecords(Protocol):
    """Tokens of users; taking one away bumps the generation in the same transaction.

    A user's tokens go with the user, a robot's logins with the robot, and other logins with the password.
    """

    async def add_token(self, token: TokenRecord) -> bool:
        """Add a token; False when there is no such user or robot, or the id or hash is taken.

        Expired tokens of the user are removed, and the oldest logins beyond 100.
        """
        ...

    async def token(self, token_hash: str) -> TokenRecord | None:
        """Return the token with this hash, expired or not."""
        ...

    async def token_by_id(self, token_id: str) -> TokenRecord | None:
        """Return the token with this id, expired or not."""
        ...

    async def tokens(self) -> list[TokenRecord]:
        """Return all tokens, sorted by user and age, the oldest first."""
        ...

    async def note_token_use(self, token_id: str, *, now: float) -> bool:
        """Note that a token was used; False when there is none."""
        ...

    async def remove_token(self, token_id: str, *, now: float) -> bool:
        """Remove a token; False when there is none."""
        ...


class Records(
    PullRecords,
    BrowseRecords,
    PushRecords,
    RemoveRecords,
    CollectRecords,
    ScrubRecords,
    UploadRecords,
    AccountRecords,
    TokenRecords,
    Protocol,
):
    """Everything that is known; what a record backend offers."""

    def version(self) -> int | None:
        """Return a number that differs after every commit of any process, None when it cannot be had at once.

        Read before anything else, it tells later whether what was read then still holds.
        """
        ...

    async def check(self) -> None:
        """Do nothing when the database can be read and written.

        Raises:
            StoreUnavailable: it cannot.
        """
        ...
