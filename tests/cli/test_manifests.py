"""``dockreg manifest``, and what stays pinned when a tag goes."""

from __future__ import annotations

import json
import os

from dockreg_tx.cli import manifest
from dockreg_tx.cli.operator import Operator
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.preparation import run_inline
from tests.cli.test_repos import CONTENT, DIGEST, RepositoryCase

OTHER = Digest.of(b"never pushed")


class ManifestCase(RepositoryCase):
    """A registry with images in ``multi`` that share a layer, and an index of two of them."""

    def setUp(self) -> None:
        """Push them."""
        super().setUp()
        self.base, self.one_layer, self.two_layer = (self.blob(text) for text in (b"base", b"one.", b"two."))
        self.one = self.put(b"image one", "one", "first", layer=[self.base, self.one_layer])
        self.two = self.put(b"image two", layer=[self.base, self.two_layer])

    def blob(self, content: bytes, repository: str = "multi") -> Digest:
        """Record a blob."""
        digest = Digest.of(content)
        with Operator(root=self.root).records() as records:
            run_inline(
                records.commit_blob(
                    RepositoryName(repository), digest, len(content), lambda: None, upload_id=None, now=1.0
                )
            )
        return digest

    def removed(self, digest: Digest, repository: str = "multi") -> str:
        """Remove a manifest and return what is said."""
        return self.done("manifest", "remove", f"{repository}@{digest}", "--yes")

    def collected(self) -> str:
        """Collect garbage as if all times were over, and return what that freed, in words."""
        found = self.listed("gc", "--grace", "0s", "--yes")
        return (
            f"frees {len(found)} blobs ({sum(item['size_bytes'] for item in found)} bytes) that nothing else"
        )


class RemoveTests(ManifestCase):
    """What the command says and does."""

    def test_shared_layers(self) -> None:
        """What this manifest alone holds becomes free; who shares the rest is named."""
        said = self.removed(self.one)
        self.assertIn(f"manifest multi@{self.one} removed with 2 tags; 0 bytes are free now", said)
        self.assertIn(
            "frees 2 blobs (13 bytes) that nothing else holds, once they are 24h in the trash", said
        )
        self.assertTrue(
            said.endswith(
                f"what others hold stays: multi@{self.two} (1 blobs, 4 bytes) (dockreg blob why DIGEST)\n"
            ),
            said,
        )
        self.assertEqual("", self.done("repo", "tags", "multi"))

    def test_collected(self) -> None:
        """What is said to become free is what garbage collection takes, from an image to the last one."""
        index = self.put(b"index", "all", child=[self.one, self.two, OTHER])
        for digest in (self.one, index, self.two):
            said = self.removed(digest)
            self.assertIn(self.collected(), said)

    def test_trash(self) -> None:
        """The manifest comes back from the trash with its tags."""
        self.removed(self.one)
        (item,) = self.listed("trash", "list")
        self.assertEqual(["first", "one"], item["tags"])
        self.done("trash", "restore", str(item["id"]))
        self.assertEqual("first\none\n", self.done("repo", "tags", "multi"))

    def test_named_by_an_index(self) -> None:
        """An index that names it comes first, and keeps its own bytes alone."""
        index = self.put(b"index", "all", child=[self.one, self.two])
        said = self.removed(self.one)
        self.assertIn("frees 1 blobs (4 bytes)", said)
        self.assertIn(f"stays: index multi@{index} (all) that names it (1 blobs, 9 bytes), multi@", said)

    def test_index(self) -> None:
        """The images of an index stay with all that they hold."""
        index = self.put(b"index", child=[self.one, self.two])
        said = self.removed(index)
        self.assertIn("frees 1 blobs (5 bytes)", said)
        for digest, tags in ((self.one, " (first one)"), (self.two, "")):
            self.assertIn(f"its child multi@{digest}{tags} (3 blobs, 17 bytes)", said)

    def test_subject(self) -> None:
        """What refers to it holds its bytes; when that goes, too, they become free."""
        signature = self.put(b"signature", subject=[self.two])
        said = self.removed(self.two)
        self.assertIn("frees 1 blobs (4 bytes)", said)
        self.assertIn(f"multi@{signature} that refers to it (1 blobs, 9 bytes)", said)
        self.assertEqual(self.collected(), "frees 1 blobs (4 bytes) that nothing else")
        said = self.removed(signature)
        self.assertIn("frees 2 blobs (18 bytes)", said)
        self.assertNotIn("stays", said)
        self.assertIn(self.collected(), said)

    def test_other_repositories(self) -> None:
        """What another repository holds stays, by name; who holds the most comes first."""
        for name, layers in (("a", [self.base]), ("b", [self.base, self.one_layer]), ("c", []), ("d", [])):
            for content in (b"x", b"y"):
                self.put(content + name.encode(), repository=name, layer=[*layers, self.base])
        said = self.removed(self.one)
        self.assertIn("frees 1 blobs (9 bytes)", said)
        self.assertIn(
            "stays: b (2 blobs, 8 bytes), a (1 blobs, 4 bytes), c (1 blobs, 4 bytes) and 2 more", said
        )
        self.assertIn("frees 0 blobs (0 bytes)", self.removed(DIGEST, "zoo"))

    def test_refused(self) -> None:
        """Unknown and malformed names are refused, and so is an answer that nobody can give."""
        for image in (
            f"no/such@{self.one}",
            f"multi@{OTHER}",
            f"zoo@{self.one}",
            f"NO@{self.one}",
            "multi@x:y",
        ):
            self.refused("manifest", "remove", image, "--yes")
        self.assertIn("NAME@DIGEST", self.refused("manifest", "remove", "multi:one", "--yes"))
        self.assertIn("no manifest", self.refused("manifest", "remove", f"multi@{OTHER}", "--yes"))
        self.assertIn("say --yes", self.refused("manifest", "remove", f"multi@{self.one}"))
        self.assertEqual("first\none\n", self.done("repo", "tags", "multi"))

    def test_question(self) -> None:
        """Whoever is asked is told of the tags, and of an index that needs the manifest."""
        index = self.put(b"index", child=[self.one])
        asked: list[str] = []
        self.patch(manifest, "ask", lambda question, **_: asked.append(question))
        self.done("manifest", "remove", f"multi@{self.one}")
        (question,) = asked
        self.assertIn("with its 2 tags?", question)
        self.assertIn(f"There is an index multi@{index} that names it.", question)

    def test_audit(self) -> None:
        """The removal is noted with its tags."""
        self.removed(self.one)
        with open(os.path.join(self.root, "audit.log")) as file:
            (entry,) = [json.loads(line) for line in file]
        expected = ("manifest.remove", "ok", "multi", str(self.one), str(self.one), ["first", "one"])
        keys = ("action", "result", "repository", "reference", "digest", "tags")
        self.assertEqual(expected, tuple(entry[key] for key in keys))


class TagTests(ManifestCase):
    """What a tag leaves behind."""

    def test_pinned(self) -> None:
        """The manifest stays with its layers; the command that removes it is named."""
        said = self.done("tag", "remove", "multi:one", "--yes")
        self.assertIn(f"multi@{self.one} stays and pins 3 blobs (17 bytes), its own included", said)
        self.assertIn(f"before dockreg manifest remove multi@{self.one}", said)

    def test_index(self) -> None:
        """An index pins what its images do, each blob once."""
        self.put(b"top", "top", child=[self.put(b"index", "all", child=[self.one, self.two, OTHER])])
        self.assertIn("pins 6 blobs (35 bytes)", self.done("tag", "remove", "multi:all", "--yes"))
        self.assertIn("pins 7 blobs (38 bytes)", self.done("tag", "remove", "multi:top", "--yes"))

    def test_subject(self) -> None:
        """A signature does not count what it signs, while that is there."""
        self.put(b"signature", "sig", subject=[self.one])
        self.assertIn("pins 1 blobs (9 bytes)", self.done("tag", "remove", "multi:sig", "--yes"))

    def test_untagged_after(self) -> None:
        """Where untagged manifests go by themselves, that is said."""
        result = self.run_command("tag", "remove", "multi:one", "--yes", DOCKREG_GC_UNTAGGED_AFTER="14d")
        self.assertIn("frees it once it is 14d without any tag", result.stdout)

    def test_as_before(self) -> None:
        """A manifest without layers pins itself."""
        said = self.done("tag", "remove", "zoo:latest", "--yes")
        self.assertIn(f"pins 1 blobs ({len(CONTENT)} bytes)", said)
