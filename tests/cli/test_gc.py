"""``dockreg gc``, ``dockreg verify`` and ``dockreg blob``."""

from __future__ import annotations

import os
import time

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import ContentReference, NewManifest, ReferenceKind, UploadRecord
from dockreg_tx.preparation import run_inline
from tests.cli.case import CommandCase

CONTENT = b"nobody needs this"
DIGEST = Digest.of(CONTENT)


class StoredCase(CommandCase):
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


class CollectTests(StoredCase):
    """Collecting it."""

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

    def test_clock_that_jumped(self) -> None:
        """While the registry does not believe the clock, only a grace of one's own removes anything."""
        with Operator(root=self.root).records() as records:
            jump = {"jump_seconds": 3600.0, "hold_seconds": 86_400.0}
            for at in (now() - 90_000, now()):
                run_inline(records.clock_is_steady(at, **jump))
        self.assertIn("the clock has jumped", self.refused("gc"))
        self.assertTrue(os.path.exists(self.path))
        self.assertEqual([str(DIGEST)], [item["digest"] for item in self.listed("gc", "--grace", "24h")])

    def test_without_grace(self) -> None:
        """0s asks first, and leaves nothing in the trash."""
        self.refused("gc", "--grace", "0s")
        self.done("gc", "--grace", "0s", "--yes")
        self.assertEqual([], os.listdir(self.layout.trash))

    def test_expired_uploads(self) -> None:
        """Expired sessions go with their bytes, and so do bytes of no session; open ones stay."""
        with Operator(root=self.root).records() as records:
            for number, touched_at in (("old", 1.0), ("open", time.time())):  # noqa: TID251 - the command's clock
                upload = UploadRecord(number, RepositoryName("app"), "ann", 0, 1.0, touched_at, "")
                run_inline(records.begin_upload(upload))
        for name in ("old", "open", "lost"):
            open(self.layout.upload_path(name), "wb").close()
        self.done("gc", "--dry-run")
        self.assertEqual(["lost", "old", "open"], sorted(os.listdir(self.layout.uploads)))
        self.done("gc")
        self.assertEqual(["open"], os.listdir(self.layout.uploads))

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


class VerifyTests(StoredCase):
    """The same registry, whose blob may be damaged."""

    def damage(self, content: bytes) -> None:
        """Write other bytes under the digest."""
        with open(self.path, "wb") as file:
            file.write(content)

    def bad(self, *options: str) -> str:
        """Return what verification finds, which must not be nothing."""
        result = self.run_command("verify", *options)
        self.assertEqual(1, result.exit_code, result.output)
        return result.stdout

    def test_good(self) -> None:
        """A sound registry passes."""
        self.assertEqual("", self.done("verify"))

    def test_damaged(self) -> None:
        """Flipped, cut and missing bytes are found; the digest is the first word."""
        for content in (CONTENT.swapcase(), CONTENT[:4]):
            self.damage(content)
            self.assertTrue(self.bad().startswith(f"{DIGEST} "))
        os.unlink(self.path)
        self.assertIn("missing", self.bad())

    def test_repair(self) -> None:
        """Repair moves the bytes to the quarantine, and the next push makes all well."""
        self.damage(CONTENT.swapcase())
        self.assertIn("quarantine", self.bad("--repair"))
        self.assertFalse(os.path.exists(self.path))
        self.assertEqual(1, len(os.listdir(self.layout.quarantine)))
        self.assertIn("push it again", self.bad())
        self.damage(CONTENT)
        self.commit(now=2.0)
        self.assertEqual("", self.done("verify"))

    def test_healed(self) -> None:
        """Repair writes a manifest anew from the copy that the database has; no push is needed."""
        content = b"{}"
        digest = Digest.of(content)
        path = self.layout.blob_path(digest)
        with Operator(root=self.root).records() as records:
            manifest = NewManifest(RepositoryName("app"), digest, "application/json", content)
            run_inline(records.put_manifest(manifest, [], lambda: None, may_overwrite=True, now=1.0))
        self.assertIn("missing", self.bad())
        self.assertIn("healed", self.bad("--repair"))
        with open(path, "rb") as file:
            self.assertEqual(content, file.read())
        self.assertEqual("", self.done("verify"))

    def test_reference(self) -> None:
        """A manifest without its layer is found, unless layers may be missing."""
        content, app = b"{}", RepositoryName("app")
        reference = ContentReference(ReferenceKind.LAYER, DIGEST, len(CONTENT), required=True)
        digest = Digest.of(content)
        with open(self.layout.blob_path(digest), "wb") as file:
            file.write(content)
        with Operator(root=self.root).records() as records:
            manifest = NewManifest(app, digest, "application/json", content, (reference,))
            run_inline(records.put_manifest(manifest, [], lambda: None, may_overwrite=True, now=1.0))
            self.assertEqual("", self.done("verify"))
            run_inline(records.unlink_blob(app, DIGEST, by="ann", now=2.0))
        self.assertTrue(self.bad().startswith(f"app@{digest} lacks its layer {DIGEST}: "))
        result = self.run_command("verify", DOCKREG_MANIFESTS_MISSING_LAYERS="allow")
        self.assertEqual((0, ""), (result.exit_code, result.stdout))

    def test_why(self) -> None:
        """What holds a blob is told; one that is unknown is refused."""
        uses = self.listed("blob", "why", str(DIGEST))
        self.assertEqual(["touched", "linked"], [use["kind"] for use in uses])
        self.assertIn("app", self.done("blob", "why", str(DIGEST)))
        self.refused("blob", "why", str(Digest.of(b"unknown")))
