"""The seams: what a use case needs from the outside world, one Protocol for each capability.

Backends in ``blobs/`` and ``records/`` offer them, ``service.py`` joins them; the contract suites in
``tests/contracts`` say what each promises. Backends raise the errors of ``oci.errors``, never ``OSError``
or ``sqlite3.Error``.
"""

from __future__ import annotations

from typing import Protocol

from dockreg_tx.ports.accounts import Account, AccountRecords, TokenKind, TokenRecord, TokenRecords
from dockreg_tx.ports.blobs import (
    BlobRecord,
    BlobStore,
    BlobTrash,
    EnsureContent,
    LateContent,
    OpenBlob,
    SettleContent,
    StoredContent,
    TakeContent,
    TrashedContent,
    settled,
)
from dockreg_tx.ports.collection import CollectRecords, Cutoff, UntaggedManifest, Verdict
from dockreg_tx.ports.inspection import (
    BlobUse,
    HealRecords,
    InspectRecords,
    RecordedBlob,
    ScrubRecords,
    ScrubState,
)
from dockreg_tx.ports.manifests import (
    BrowseRecords,
    ContentReference,
    ManifestRecord,
    NewManifest,
    PullRecords,
    PushRecords,
    ReferenceKind,
    ReferrerRecord,
    RemoveRecords,
    TagExpectation,
)
from dockreg_tx.ports.moving import (
    MovedBlob,
    MovedBytes,
    MovedContent,
    MovedTag,
    MoveRecords,
    MoveVerdict,
    SourceUnreadable,
)
from dockreg_tx.ports.uploads import (
    Body,
    Fillable,
    UploadBusy,
    UploadRecord,
    UploadRecords,
    UploadStaging,
    UploadWriter,
)
from dockreg_tx.ports.world import Blocking, HandsOff, May, NewId, Now, WriteGate

__all__ = [
    "Account",
    "AccountRecords",
    "BlobRecord",
    "BlobStore",
    "BlobTrash",
    "BlobUse",
    "Blocking",
    "Body",
    "BrowseRecords",
    "CollectRecords",
    "ContentReference",
    "Cutoff",
    "EnsureContent",
    "Fillable",
    "HandsOff",
    "HealRecords",
    "InspectRecords",
    "LateContent",
    "ManifestRecord",
    "May",
    "MoveRecords",
    "MoveVerdict",
    "MovedBlob",
    "MovedBytes",
    "MovedContent",
    "MovedTag",
    "NewId",
    "NewManifest",
    "Now",
    "OpenBlob",
    "PullRecords",
    "PushRecords",
    "RecordedBlob",
    "Records",
    "ReferenceKind",
    "ReferrerRecord",
    "RemoveRecords",
    "ScrubRecords",
    "ScrubState",
    "SettleContent",
    "SourceUnreadable",
    "StoredContent",
    "TagExpectation",
    "TakeContent",
    "TokenKind",
    "TokenRecord",
    "TokenRecords",
    "TrashedContent",
    "UntaggedManifest",
    "UploadBusy",
    "UploadRecord",
    "UploadRecords",
    "UploadStaging",
    "UploadWriter",
    "Verdict",
    "WriteGate",
    "settled",
]


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

    def generation_at_once(self) -> int | None:
        """Return the ``access_generation``, None when it cannot be had without waiting."""
        ...

    async def check(self) -> None:
        """Do nothing when the database can be read and written.

        Raises:
            StoreUnavailable: it cannot.
        """
        ...
