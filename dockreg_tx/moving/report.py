"""What an import found and did, with counts; dirt is told, and stops nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

#: More examples of one kind than this are only counted.
EXAMPLES_LIMIT = 1000


class Finding(StrEnum):
    """What was not taken over, or not whole."""

    BAD_NAME = "repositories whose name is not valid"
    BAD_TAG = "tags whose name is not valid"
    EMPTY_LINK = "link files of zero length"
    BAD_LINK = "link files that do not hold the digest they should"
    MISSING_BLOB = "blobs whose bytes are missing"
    EMPTY_BLOB = "blobs of zero length"
    DAMAGED_BLOB = "blobs whose bytes are not what their digest says"
    QUARANTINED_BLOB = "blobs that are in quarantine here; --verify takes them if they are good"
    MISSING_MANIFEST = "manifests whose bytes are missing"
    DAMAGED_MANIFEST = "manifests whose bytes are not what their digest says"
    INVALID_MANIFEST = "manifests that cannot be taken"
    SCHEMA1_MANIFEST = "manifests of Docker schema 1, which clients no longer read"
    INCOMPLETE_MANIFEST = "manifests that name content which is missing"
    DELETED_MANIFEST = "manifests that were deleted"
    BROKEN_TAG = "tags whose manifest is gone"
    DELETED_TAG = "tags that were deleted"
    KEPT_TAG = "tags that were changed here since, and stay as they are"
    UPLOAD = "uploads that were never finished"
    UNNEEDED_BLOB = "blobs that no repository needs"
    FOREIGN = "files that are none of a registry's"
    UNREADABLE = "files that cannot be read"
    UNNAMED = "manifests without a name"


@dataclass(slots=True)
class Report:
    """The counts of one import."""

    repositories: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    manifests: int = 0
    tags: int = 0
    #: Rows that were there before.
    present: int = 0
    findings: Counter[Finding] = field(default_factory=Counter)
    examples: dict[Finding, list[str]] = field(default_factory=dict)

    def note(self, finding: Finding, example: str) -> None:
        """Count one thing that is not as it should be."""
        self.findings[finding] += 1
        examples = self.examples.setdefault(finding, [])
        if len(examples) < EXAMPLES_LIMIT:
            # Names come from a disk of others: no control characters, nothing that is not text.
            examples.append("".join(each if each.isprintable() else "?" for each in example))

    def document(self) -> dict[str, object]:
        """Return the report for programs."""
        return {
            "repositories": self.repositories,
            "blobs": self.blobs,
            "blob_bytes": self.blob_bytes,
            "manifests": self.manifests,
            "tags": self.tags,
            "present": self.present,
            "findings": {
                finding.name.lower(): {"count": count, "examples": self.examples[finding]}
                for finding, count in sorted(self.findings.items())
            },
        }
