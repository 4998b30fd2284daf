"""``dockreg import registry2``: trees of ``registry:2``, clean and dirty."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dockreg_tx.blobs.moving import FileMoving
from dockreg_tx.moving import stage
from dockreg_tx.oci.errors import StorageFull
from dockreg_tx.root import RootUnusable, initialise_root
from tests.integration.images import Content, Image, as_json, image, index
from tests.moving.case import MovingCase
from tests.moving.trees import Tree, write

COSIGN = {"dev.cosignproject.cosign/signature": "MEUC"}


class TreeCase(MovingCase):
    """A tree of three repositories."""

    def setUp(self) -> None:
        """Fill it."""
        super().setUp()
        self.tree = Tree(self.directory / "tree")
        self.app, self.other = image("app"), image("other", docker=True)
        self.multi = index([image("multi", architecture=name) for name in ("amd64", "arm64")])
        self.tree.push("team/app", "v1", self.app)
        self.tree.push("team/app", "latest", self.app)
        self.tree.push("team/app/nested", "v1", self.other)
        self.tree.push("multi", "v1", self.multi)

    def adopt(self, *options: str) -> dict[str, object]:
        """Run the import and return its report."""
        found: dict[str, object] = self.listed("import", "registry2", str(self.tree.directory), *options)
        self.assertEqual([], self.passing_files())
        return found

    def require_all(self) -> None:
        """Require that everything is here."""
        self.require("team/app", "v1", self.app)
        self.require("team/app", "latest", self.app)
        self.require("team/app/nested", "v1", self.other)
        self.require("multi", "v1", self.multi)
        self.assertEqual("", self.done("verify"))


class CleanTests(TreeCase):
    """Nothing is wrong with the tree."""

    def test_adopts_everything(self) -> None:
        """Every tag, manifest and blob is here with its digest; bytes are shared by hard links."""
        report = self.adopt()
        self.require_all()
        self.assertEqual({}, report["findings"])
        self.assertEqual((4, 5, 3), (report["tags"], report["manifests"], report["repositories"]))
        blob = self.app.blobs[0].digest
        self.assertTrue(os.path.samefile(self.tree.data(blob), self.path(blob)))
        self.assertIn("import.registry2", (self.directory.parent / self.layout.audit_log).read_text())

    def test_again(self) -> None:
        """A second run adopts only what is new."""
        first = self.adopt()
        late = image("late")
        self.tree.push("team/app", "v2", late)
        second = self.adopt()
        self.assertEqual((1, 1, 4), (second["tags"], second["manifests"], second["blobs"]))
        self.assertEqual(
            sum(int(str(first[name])) for name in ("tags", "manifests", "blobs")), second["present"]
        )
        self.require("team/app", "v2", late)

    def test_copy(self) -> None:
        """Copies are hashed, and other files than the tree's."""
        report = self.adopt("--mode", "copy")
        self.require_all()
        self.assertEqual(["copy"], list(report["ways"]))  # type: ignore[call-overload] # JSON
        blob = self.app.blobs[0].digest
        self.assertFalse(os.path.samefile(self.tree.data(blob), self.path(blob)))

    def test_move(self) -> None:
        """Moving leaves no bytes in the tree, and all of them here."""
        self.adopt("--mode", "move")
        self.require_all()
        self.assertEqual([], list(self.tree.top.glob("blobs/**/data")))
        self.assertEqual({}, self.adopt("--mode", "move")["findings"])

    def test_tags_here_win(self) -> None:
        """A tag that the old registry moved follows; one that somebody moved or removed here stays."""
        self.tree.push("team/app", "mine", self.app)
        self.adopt()
        later = image("later")
        for tag in ("v1", "latest", "mine"):
            self.tree.push("team/app", tag, later)
        self.done("tag", "remove", "team/app:mine", "--yes")
        report = self.adopt()
        self.assertEqual({"kept_tag": 1}, self.findings(report))
        self.require("team/app", "v1", later)
        self.assertEqual(["latest", "v1"], self.tags("team/app"))

    def test_referrers(self) -> None:
        """A manifest with a subject is listed among its referrers; cosign's tags are tags."""
        document = {
            "schemaVersion": 2,
            "mediaType": self.app.manifest.media_type,
            "artifactType": "application/vnd.example.sbom",
            "config": self.app.config.descriptor,
            "layers": [],
            "subject": self.app.manifest.descriptor,
        }
        referrer = Content(self.app.manifest.media_type, as_json(document))
        self.tree.put_manifest("team/app", referrer)
        signature = image("signature", layers=1, extra=COSIGN)
        tag = self.app.manifest.digest.replace(":", "-") + ".sig"
        self.tree.push("team/app", tag, signature)
        self.adopt()
        found = self.referrers("team/app", self.app.manifest.digest)
        self.assertEqual([referrer.digest], [str(each.digest) for each in found])
        self.assertEqual("application/vnd.example.sbom", found[0].artifact_type)
        self.require("team/app", tag, signature)

    def test_in_the_same_directory(self) -> None:
        """A root may be made beside the tree, on the volume of the old registry."""
        self.root = str(self.tree.directory)
        self.layout = type(self.layout)(self.root)
        with self.assertRaisesRegex(RootUnusable, "holds the images of a registry:2"):
            initialise_root(self.layout, new_id=lambda: "id")
        self.done("init")
        self.adopt("--mode", "move")
        self.require_all()

    def test_human_report(self) -> None:
        """People get one line, and one for each kind of dirt."""
        self.tree.tag_link("team/app", "latest").unlink()
        printed = self.done("import", "registry2", str(self.tree.top)).splitlines()
        self.assertTrue(printed[0].startswith("3 tags, 5 manifests and "), printed)
        self.assertEqual(["1 tags that were deleted: team/app:latest"], printed[1:])

    def test_cut_short(self) -> None:
        """An import that the disk stopped goes on where it was; what it had recorded is whole."""
        self.patch(stage, "STAGE_LIMIT", 5)
        original, calls = FileMoving.sync, iter(range(100))

        def sync(moving: FileMoving) -> None:
            if next(calls) == 2:
                raise StorageFull
            original(moving)

        self.patch(FileMoving, "sync", sync)
        self.refused("import", "registry2", str(self.tree.directory))
        self.assertEqual("", self.done("verify"))
        again = self.adopt()
        self.assertEqual(10, again["present"])
        self.require_all()

    def test_beside_a_collection(self) -> None:
        """Bytes that garbage collection takes before they are recorded are brought again."""
        original = FileMoving.sync

        def sync(moving: FileMoving) -> None:
            original(moving)
            for path in Path(self.layout.blobs).glob("sha256/*/*"):
                path.unlink()

        self.patch(FileMoving, "sync", sync)
        self.adopt()
        self.require_all()

    def test_full_disk(self) -> None:
        """Copies leave free what must stay free."""
        result = self.run_command(
            "import",
            "registry2",
            str(self.tree.directory),
            "--mode",
            "copy",
            DOCKREG_STORAGE_LOW_WATER="900000TiB",
        )
        self.assertEqual(1, result.exit_code)
        self.assertEqual([], self.tags("multi"))

    def test_no_tree(self) -> None:
        """A directory without a tree is refused by name."""
        self.assertIn("holds no", self.refused("import", "registry2", str(self.directory)))
        self.assertIn("dockreg backup", self.refused("import", "registry2", self.root))


class DirtyTests(TreeCase):
    """Each kind of dirt is counted, and stops nothing else."""

    def dirty(self, *options: str) -> dict[str, int]:
        """Adopt, require the untouched image, and return what was found."""
        found = self.findings(self.adopt(*options))
        self.require("multi", "v1", self.multi)
        return found

    def test_links(self) -> None:
        """Tags and links that lead nowhere, empty or wrong link files, deleted manifests."""
        name, digest = "team/app", self.app.manifest.digest
        write(self.tree.tag_link(name, "gone"), "sha256:" + "a" * 64)
        write(self.tree.tag_link(name, "empty"), "")
        write(self.tree.tag_link(name, "bad"), "no digest")
        write(self.tree.layer_link(name, self.app.blobs[0].digest), "")
        write(self.tree.layer_link(name, self.app.blobs[1].digest), "sha256:" + "b" * 64)
        self.tree.revision_link("team/app/nested", self.other.manifest.digest).unlink()
        self.assertEqual(
            {
                "broken_tag": 2,
                "empty_link": 2,
                "bad_link": 2,
                "deleted_manifest": 1,
                "incomplete_manifest": 1,
                "unneeded_blob": 3,
            },
            self.dirty(),
        )
        self.assertEqual(digest, self.digest_of(name, "v1"))
        self.assertFalse(self.holds(name, self.app.blobs[0].digest))

    def test_bytes(self) -> None:
        """Missing, empty, cut and replaced bytes are not adopted; flipped ones only --verify finds."""
        missing, empty, cut, *_ = (blob.digest for blob in self.app.blobs)
        shutil.rmtree(self.tree.data(missing).parent)
        write(self.tree.data(empty), b"")
        write(self.tree.data(cut), self.app.blobs[2].content[:-1])
        flipped = self.other.blobs[0]
        write(self.tree.data(flipped.digest), flipped.content.swapcase())
        found = self.dirty("--verify")
        self.assertEqual(
            {"missing_blob": 1, "empty_blob": 1, "damaged_blob": 2, "incomplete_manifest": 2}, found
        )
        # No bytes that are wrong, only manifests whose lack the report has told.
        result = self.run_command("verify")
        lacking = [digest for digest in (missing, empty, cut, flipped.digest) if str(digest) in result.output]
        self.assertEqual((1, 4, 4), (result.exit_code, len(lacking), len(result.output.splitlines())))

    def test_wrong_length(self) -> None:
        """A blob of another length than its manifest says is hashed and not adopted, without --verify too."""
        cut = self.app.blobs[0]
        write(self.tree.data(cut.digest), cut.content[:-1])
        self.assertEqual({"damaged_blob": 1, "incomplete_manifest": 1}, self.dirty())
        self.assertFalse(self.holds("team/app", cut.digest))

    def test_flipped_is_trusted(self) -> None:
        """Without --verify flipped bytes of the right length are adopted; dockreg verify tells."""
        flipped = self.other.blobs[0]
        write(self.tree.data(flipped.digest), flipped.content.swapcase())
        self.assertEqual({}, self.dirty())
        self.assertIn(flipped.digest, self.run_command("verify").stdout)
        self.assertEqual(1, self.run_command("verify", "--repair").exit_code)
        write(self.tree.data(flipped.digest), flipped.content.swapcase())
        self.assertEqual({"quarantined_blob": 1}, self.dirty())

    def test_manifests(self) -> None:
        """Damaged, missing, invalid and schema 1 manifests are told apart."""
        schema1 = Content("", as_json({"schemaVersion": 1, "name": "x", "fsLayers": []}))
        invalid = Content("", b"{}")
        damaged, missing = Content("", b"damaged"), Content("", b"missing")
        for each in (schema1, invalid, damaged, missing):
            self.tree.put_manifest("odd", each)
        write(self.tree.tag_link("odd", "old"), schema1.digest)
        write(self.tree.data(damaged.digest), b"other")
        self.tree.data(missing.digest).unlink()
        self.assertEqual(
            {
                "schema1_manifest": 1,
                "invalid_manifest": 1,
                "damaged_manifest": 1,
                "missing_manifest": 1,
                "broken_tag": 1,
            },
            self.dirty(),
        )

    def test_lying_manifest(self) -> None:
        """A manifest that lies about the length of a good blob is not adopted; the blob is."""
        document = {
            "schemaVersion": 2,
            "mediaType": self.app.manifest.media_type,
            "config": {**self.app.config.descriptor, "size": 1},
            "layers": [],
        }
        liar = Image(Content("", as_json(document)), self.app.config, (), (), "amd64")
        self.tree.push("liar", "v1", liar)
        self.assertEqual({"invalid_manifest": 1, "broken_tag": 1}, self.dirty())
        self.assertTrue(self.holds("liar", self.app.config.digest))

    def test_names_and_litter(self) -> None:
        """Bad names, uploads, foreign files and links out of the tree."""
        self.tree.push("Bad\x1b\udcffName", "v1", image("bad"))
        write(self.tree.tag_link("team/app", "bad tag"), self.app.manifest.digest)
        write(self.tree.repository("team/app") / "_uploads" / "1" / "data", b"half")
        write(self.tree.repository("team/app") / "notes.txt", b"")
        write(self.tree.top / "blobs" / "sha256" / "zz" / "nothing" / "data", b"")
        secret = self.directory / "secret"
        write(secret, self.app.blobs[0].content)
        path = self.tree.data(self.app.blobs[0].digest)
        path.unlink()
        path.symlink_to(secret)
        found = self.dirty()
        self.assertEqual(5, found.pop("unneeded_blob"))
        self.assertEqual(
            {
                "bad_name": 1,
                "bad_tag": 1,
                "upload": 1,
                "foreign": 2,
                "missing_blob": 1,
                "incomplete_manifest": 1,
            },
            found,
        )
