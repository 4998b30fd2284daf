"""What only the ``dockreg`` command asks of the records: no port has it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import BlobUse, EnsureContent
from dockreg_tx.records import inspection, undelete
from dockreg_tx.records.reader import SqliteReader
from dockreg_tx.records.transactions import Freeing, Operation
from dockreg_tx.records.undelete import Deleted, TagMove

T = TypeVar("T")


class CommandOperations(ABC):
    """The base of the record ports, with the three ways in which everything is done."""

    @abstractmethod
    async def _write(self, operation: Operation[T]) -> T:
        """Run an operation and return its result when it is on disk."""

    async def _write_content(self, operation: Operation[T], ensure: EnsureContent) -> T:
        """Do as ``_write``; content that comes late may be put in its place before."""
        return await self._write(operation)

    @abstractmethod
    async def _read(self, query: Callable[[SqliteReader], T]) -> T:
        """Run a query that is an indexed look-up or a short page."""

    @abstractmethod
    async def _scan(self, query: Callable[[SqliteReader], T]) -> T:
        """Run a query that may take long."""

    async def _free(self, operation: Operation[T]) -> T:
        """Run an operation that must come through on a full disk, too."""
        return await self._write(Freeing(operation))

    async def blob_uses(self, digest: Digest) -> list[BlobUse]:
        """Return what holds a blob; nothing when it is unknown."""
        return await self._scan(lambda reader: inspection.blob_uses(reader, digest))

    async def held_alone(self, repository: RepositoryName) -> tuple[int, int]:
        """Return how many blobs only this repository holds, and their bytes."""
        return await self._scan(lambda reader: inspection.held_alone(reader, repository))

    async def held_too(self, repository: RepositoryName) -> list[tuple[str, int, int]]:
        """Return which others hold blobs of this repository: name, how many, and their bytes."""
        return await self._scan(lambda reader: inspection.held_too(reader, repository))

    async def trash(self) -> list[Deleted]:
        """Return deleted tags and manifests, the newest first."""
        return await self._scan(undelete.trash)

    async def undelete(self, trash_id: int, *, by: str, now: float, expects_layers: bool = True) -> Deleted:
        """Bring back a deleted tag or manifest, with what it cannot be pulled without."""
        return await self._write(
            lambda transaction: undelete.undelete(
                transaction, trash_id, by=by, now=now, expects_layers=expects_layers
            )
        )

    async def tag_history(self, repository: RepositoryName, tag: Tag) -> list[TagMove]:
        """Return where a tag has pointed, the newest first."""
        return await self._scan(lambda reader: undelete.tag_history(reader, repository, tag))

    async def point_tag(
        self, repository: RepositoryName, tag: Tag, digest: Digest, *, by: str, now: float
    ) -> None:
        """Point a tag at a manifest that is there."""
        await self._write(
            lambda transaction: undelete.point_tag(transaction, repository, tag, digest, by=by, now=now)
        )
