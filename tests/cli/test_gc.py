"""``dockreg gc``."""

from __future__ import annotations

import os

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.cli.operator import Operator
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.preparation import run_inline
from tests.cli.case import CommandCase

CONTENT = b"nobody needs this"
DIGEST = Digest.of(CONTENT)


class CollectTests(CommandCase):
    """A registry with a blob that no manifest names, of long ago."""

    def setUp(self) -> None:
        """Make the root ready, and commit the blob."""
        super().setUp()
        self.done("init")
        self.layout = RootLayout(self.root)
        self.path = self.layout.blob_path(DIGEST)
        with open(self.path, "wb") as file:
            file.write(CONTENT)
        self.commit(now=1.0)

    def commit(self, *, now: float) -> None:
        """Record the blob at a time."""
        with Operator(root=self.root).records() as records:
            run_inline(
                records.commit_blob(
                    RepositoryName("app"), DIGEST, len(CONTENT), lambda: None, upload_id=None, now=now
                )
            )

    def test_dry_run(self) -> None:
        """A dry run names the digest first in its line, and changes nothing."""
        for _ in range(2):
            self.assertTrue(self.done("gc", "--dry-run").startswith(f"{DIGEST} "))
        self.assertTrue(os.path.exists(self.path))

    def test_collect(self) -> None:
        """The blob goes to the trash, and is named; the next run finds nothing."""
        self.assertEqual([str(DIGEST)], [item["digest"] for item in self.listed("gc")])
        self.assertFalse(os.path.exists(self.path))
        self.assertEqual(1, len(os.listdir(self.layout.trash)))
        self.assertEqual("", self.done("gc"))

    def test_without_grace(self) -> None:
        """0s asks first, and leaves nothing in the trash."""
        self.refused("gc", "--grace", "0s")
        self.done("gc", "--grace", "0s", "--yes")
        self.assertEqual([], os.listdir(self.layout.trash))

    def test_grace(self) -> None:
        """Within the grace nothing is removed; a duration without a unit is wrong usage."""
        self.assertEqual("", self.done("gc", "--grace", "36500d", "--trash", "1h"))
        self.assertEqual(2, self.run_command("gc", "--grace", "24").exit_code)

    def test_killed(self) -> None:
        """Bytes that a killed run had moved already are back after the next start."""
        os.rename(self.path, os.path.join(self.layout.trash, f"{DIGEST.encoded}.1"))
        self.done("init")
        self.assertTrue(os.path.exists(self.path))
        self.assertEqual([], os.listdir(self.layout.trash))
