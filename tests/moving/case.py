"""A registry of its own for each test, that content moves into and out of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.cli.operator import Operator
from dockreg_tx.oci.digests import Digest, parse_reference
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import ReferrerRecord
from dockreg_tx.preparation import run_inline
from tests.cli.case import CommandCase
from tests.integration.images import Image, Index


class MovingCase(CommandCase):
    """An initialised root, and a directory for files."""

    def setUp(self) -> None:
        """Make the root ready."""
        super().setUp()
        self.done("init")
        self.layout = RootLayout(self.root)
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def digest_of(self, name: str, reference: str) -> str | None:
        """Return the digest of a manifest, None when it is unknown."""
        with Operator(root=self.root).records() as records:
            found = run_inline(records.manifest(RepositoryName(name), parse_reference(reference)))
        return None if found is None else str(found.digest)

    def tags(self, name: str) -> list[str]:
        """Return a repository's tags."""
        with Operator(root=self.root).records() as records:
            return run_inline(records.tags(RepositoryName(name), "", None))

    def referrers(self, name: str, subject: str) -> list[ReferrerRecord]:
        """Return what refers to a manifest."""
        with Operator(root=self.root).records() as records:
            return run_inline(records.referrers(RepositoryName(name), Digest.parse(subject), (), "", 100))

    def require(self, name: str, tag: str, content: Image | Index) -> None:
        """Require that an image can be pulled whole: tag, manifests, blobs, bytes."""
        self.assertEqual(content.manifest.digest, self.digest_of(name, tag))
        for image in content.images if isinstance(content, Index) else (content,):
            self.assertEqual(image.manifest.digest, self.digest_of(name, image.manifest.digest))
            for blob in image.blobs:
                self.assertEqual(blob.content, self.content(blob.digest))
                self.assertTrue(self.holds(name, blob.digest), blob.digest)

    def holds(self, name: str, digest: str) -> bool:
        """Tell whether a repository hands out a blob."""
        with Operator(root=self.root).records() as records:
            return run_inline(records.blob(RepositoryName(name), Digest.parse(digest))) is not None

    def content(self, digest: str) -> bytes:
        """Return stored bytes."""
        return Path(self.path(digest)).read_bytes()

    def path(self, digest: str) -> str:
        """Return where bytes are stored."""
        return self.layout.blob_path(Digest.parse(digest))

    def findings(self, report: Any) -> dict[str, int]:
        """Return the counts of a report's findings."""
        return {name: found["count"] for name, found in report["findings"].items()}

    def passing_files(self) -> list[str]:
        """Return what was left half-done."""
        return os.listdir(self.layout.uploads)
