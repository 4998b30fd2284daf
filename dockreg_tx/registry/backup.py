"""Backup beside a running registry, and the way back.

The database is copied first and content second, while garbage collection waits: so every row of the copy has
its bytes. Nothing of an earlier backup goes before the new one is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from dockreg_tx.oci.digests import Digest


class Shelf(Protocol):
    """Where backups of one registry are."""

    def begin(self, name: str) -> str:
        """Forget what a crash left, and return the path of a new snapshot, which is not one yet."""
        ...

    def publish(self, name: str) -> None:
        """Make the snapshot that has begun the latest one, with all that was added."""
        ...

    def snapshots(self) -> list[str]:
        """Return the names of all complete snapshots, the oldest first."""
        ...

    def path(self, name: str) -> str:
        """Return where a complete snapshot lies."""
        ...

    def remove_snapshot(self, name: str) -> None:
        """Remove a snapshot, but not what it shares with others."""
        ...

    def prune(self, is_needed: Callable[[Digest], bool]) -> tuple[int, int]:
        """Remove content that no snapshot needs, and return how many blobs and bytes."""
        ...


#: Have the database and small files of a registry in the directory of a snapshot.
CopyRecords = Callable[[str], None]
#: Yield digest and size of all content that the snapshot in a directory needs.
NeededContent = Callable[[str], Iterable[tuple[Digest, int]]]
#: Have a blob on the shelf; returns how: "kept", "linked", "copied" or "missing".
AddContent = Callable[[Digest, int], str]
#: Have a blob in the root; returns what is wrong with the one on the shelf, or nothing.
RestoreContent = Callable[[Digest, int], str]


@dataclass(slots=True)
class BackupReport:
    """What a backup did; ``missing`` names recorded blobs that the registry does not have."""

    snapshot: str
    blobs: int = 0
    size_bytes: int = 0
    kept: int = 0
    linked: int = 0
    copied: int = 0
    removed: int = 0
    freed_bytes: int = 0
    removed_snapshots: list[str] = field(default_factory=list)
    missing: list[Digest] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Backup:
    """The use case of backing up; the caller keeps garbage collection out."""

    shelf: Shelf
    copy_records: CopyRecords
    needed: NeededContent
    add: AddContent

    def run(self, name: str, *, keep: int) -> BackupReport:
        """Add a snapshot; then remove all but the newest ``keep``, with content that they alone needed."""
        report = BackupReport(name)
        directory = self.shelf.begin(name)
        self.copy_records(directory)
        for digest, size_bytes in self.needed(directory):
            self._add(report, digest, size_bytes)
        self.shelf.publish(name)
        self._remove_old(report, keep)
        return report

    def _add(self, report: BackupReport, digest: Digest, size_bytes: int) -> None:
        how = self.add(digest, size_bytes)
        if how == "missing":
            report.missing.append(digest)
            return
        report.blobs += 1
        report.size_bytes += size_bytes
        report.kept += how == "kept"
        report.linked += how == "linked"
        report.copied += how == "copied"

    def _remove_old(self, report: BackupReport, keep: int) -> None:
        names = self.shelf.snapshots()
        report.removed_snapshots = names[:-keep]
        for name in report.removed_snapshots:
            self.shelf.remove_snapshot(name)
        needed = {digest for name in names[-keep:] for digest, _ in self.needed(self.shelf.path(name))}
        report.removed, report.freed_bytes = self.shelf.prune(needed.__contains__)


@dataclass(slots=True)
class RestoreReport:
    """What a restore did; ``bad`` says of each blob that is not there why."""

    snapshot: str
    blobs: int = 0
    size_bytes: int = 0
    bad: dict[Digest, str] = field(default_factory=dict)


def restore_content(
    name: str, needed: Iterable[tuple[Digest, int]], restore: RestoreContent
) -> RestoreReport:
    """Restore all content that a snapshot needs, verifying each blob, to the end even if some are bad."""
    report = RestoreReport(name)
    for digest, size_bytes in needed:
        problem = restore(digest, size_bytes)
        if problem:
            report.bad[digest] = problem
        else:
            report.blobs += 1
            report.size_bytes += size_bytes
    return report
