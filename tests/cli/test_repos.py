"""``dockreg repo`` and ``dockreg tag``."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

from dockreg_tx.cli.operator import Operator
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import ContentReference, NewManifest, ReferenceKind
from dockreg_tx.preparation import run_inline
from tests.cli.case import CommandCase

CONTENT = b'{"schemaVersion": 2}'
DIGEST = Digest.of(CONTENT)


class RepositoryCase(CommandCase):
    """A registry with ``team/app`` (tags v1, v2) and ``zoo``."""

    def setUp(self) -> None:
        """Make the root ready and record the manifests."""
        super().setUp()
        self.done("init")
        self.put(CONTENT, "v2", "v1", repository="team/app")
        self.put(CONTENT, "latest", repository="zoo")

    def put(self, content: bytes, *tags: str, repository: str = "multi", **names: list[Digest]) -> Digest:
        """Record a manifest that names other content, four bytes long, by kind."""
        references = tuple(
            ContentReference(ReferenceKind(kind), digest, 4, required=False)
            for kind, digests in names.items()
            for digest in digests
        )
        manifest = NewManifest(
            RepositoryName(repository), Digest.of(content), "application/json", content, references
        )
        with Operator(root=self.root).records() as records:
            run_inline(
                records.put_manifest(
                    manifest, [Tag(tag) for tag in tags], lambda: None, may_overwrite=True, now=1.0
                )
            )
        return manifest.digest


class RepositoryTests(RepositoryCase):
    """What the commands say and do."""

    def test_listings(self) -> None:
        """Repositories and tags are listed one a line, in byte order."""
        self.assertEqual("team/app\nzoo\n", self.done("repo", "list"))
        self.assertEqual(["team/app", "zoo"], self.listed("repo", "list"))
        self.assertEqual("v1\nv2\n", self.done("repo", "tags", "team/app"))
        expected = [{"tag": tag, "digest": str(DIGEST)} for tag in ("v1", "v2")]
        self.assertEqual(expected, self.listed("repo", "tags", "team/app"))

    def test_unknown(self) -> None:
        """Unknown and malformed names are refused."""
        self.assertIn("no/such", self.refused("repo", "tags", "no/such"))
        self.refused("repo", "tags", "NO")
        self.refused("repo", "remove", "no/such", "--yes")
        self.refused("tag", "remove", "team/app:v3", "--yes")
        self.assertIn("NAME:TAG", self.refused("tag", "remove", "v1", "--yes"))
        self.assertIn("NAME:TAG", self.refused("repo", "history", "team/app"))

    def test_remove_repository(self) -> None:
        """A removed repository is gone with its tags; the question comes first."""
        self.refused("repo", "remove", "team/app")
        self.assertIn("2 tags", self.done("repo", "remove", "team/app", "--yes"))
        self.assertEqual("zoo\n", self.done("repo", "list"))

    def test_what_becomes_free(self) -> None:
        """Removals say what becomes free and when; what another repository holds does not."""
        self.assertIn("nothing becomes free", self.done("tag", "remove", "team/app:v1", "--yes"))
        said = self.done("repo", "remove", "team/app", "--yes")
        self.assertIn("0 blobs (0 bytes)", said)
        self.assertIn(f"stays: zoo (1 blobs, {len(CONTENT)} bytes)", said)
        said = self.done("repo", "remove", "zoo", "--yes")
        self.assertIn(f"1 blobs ({len(CONTENT)} bytes)", said)
        self.assertIn("24h in the trash", said)
        self.assertIn("0 bytes are free now", said)
        self.assertNotIn("stays", said)

    def test_collected(self) -> None:
        """What cannot come back says why, and what to do; an id that no trash can have is a usage error."""
        with Operator(root=self.root).records() as records:
            run_inline(records.delete_manifest(RepositoryName("zoo"), DIGEST, by="", now=3.0))
        (item,) = self.listed("trash", "list")
        line = self.refused("tag", "rollback", "zoo:latest", "--yes")
        self.assertIn(f"dockreg trash restore {item['id']}", line)
        self.done("repo", "remove", "team/app", "--yes")
        self.done("gc", "--grace", "0s", "--yes")
        self.assertIn("push it again", self.refused("tag", "rollback", "zoo:latest", "--yes"))
        self.assertIn("dockreg trash list", self.refused("trash", "restore", str(item["id"])))
        self.assertEqual(2, self.run_command("trash", "restore", str(10**30)).exit_code)

    def test_trash(self) -> None:
        """A removed repository comes back from the trash with its manifest and tags, once."""
        self.done("repo", "remove", "team/app", "--yes")
        (item,) = self.listed("trash", "list")
        self.assertEqual(("manifest", "team/app", str(DIGEST)), _key(item))
        self.assertEqual(["v1", "v2"], sorted(item["tags"]))
        self.assertIn("team/app", self.done("trash", "restore", str(item["id"])))
        self.assertEqual("v1\nv2\n", self.done("repo", "tags", "team/app"))
        self.assertEqual("", self.done("trash", "list"))
        self.refused("trash", "restore", str(item["id"]))

    def test_trash_keeps_content(self) -> None:
        """What a deleted manifest names can be restored until the trash is purged, and is collected then."""
        self.done("repo", "remove", "zoo", "--yes")
        self.done("repo", "remove", "team/app", "--yes")
        self.assertEqual("", self.done("gc", "--dry-run", "--grace", "0s", "--trash", "1h"))
        self.assertIn(str(DIGEST), self.done("gc", "--grace", "0s", "--yes"))
        self.assertEqual("", self.done("trash", "list"))

    def test_trashed_tag(self) -> None:
        """A removed tag comes back, but not over another of its name."""
        self.done("tag", "remove", "team/app:v1", "--yes")
        (item,) = self.listed("trash", "list")
        self.assertEqual(("tag", "team/app", str(DIGEST)), _key(item))
        self.done("trash", "restore", str(item["id"]))
        self.assertEqual("v1\nv2\n", self.done("repo", "tags", "team/app"))

    def test_tag_without_its_manifest(self) -> None:
        """A tag brings its manifest back that garbage collection took, and that counts as new then."""
        self.done("tag", "remove", "zoo:latest", "--yes")
        (tag,) = self.listed("trash", "list")
        with Operator(root=self.root).records() as records:
            run_inline(records.delete_manifest(RepositoryName("zoo"), DIGEST, by=":gc", now=3.0))
        self.done("trash", "restore", str(tag["id"]))
        self.assertEqual("latest\n", self.done("repo", "tags", "zoo"))
        self.assertEqual("", self.done("trash", "list"))
        with Operator(root=self.root).records() as records:
            run_inline(records.delete_tag(RepositoryName("zoo"), Tag("latest"), by="", now=5.0))
            self.assertNotIn("zoo", str(run_inline(records.untagged_manifests(6.0, None, 9))))
            self.assertEqual([], run_inline(records.damaged_rows()))

    def test_index(self) -> None:
        """An index comes back with its manifests, deep down; tags of theirs wait for their own turn."""
        repository = RepositoryName("multi")
        child, index, top = self.put(b"child", "one"), b"index", b"top"
        self.put(index, child=[child])
        self.put(top, "all", child=[Digest.of(index), Digest.of(b"never pushed")])
        self.done("repo", "remove", "multi", "--yes")
        (item,) = [item for item in self.listed("trash", "list") if item["tags"] == ["all"]]
        self.done("trash", "restore", str(item["id"]))
        with Operator(root=self.root).records() as records:
            for content in (b"child", index, top):
                self.assertIsNotNone(run_inline(records.manifest(repository, Digest.of(content))))
        self.assertEqual("all\n", self.done("repo", "tags", "multi"))
        (item,) = self.listed("trash", "list")
        self.done("trash", "restore", str(item["id"]))
        self.assertEqual("all\none\n", self.done("repo", "tags", "multi"))

    def test_missing_layers(self) -> None:
        """What came without a layer comes back without it, where that is allowed."""
        foreign = Digest.of(b"foreign")
        layer = {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": str(foreign),
        }
        self.put(json.dumps({"layers": [layer]}).encode(), "windows", layer=[foreign])
        self.put(b"{}", "bare", layer=[Digest.of(b"left out")])
        self.done("repo", "remove", "multi", "--yes")
        bare, windows = sorted(self.listed("trash", "list"), key=lambda item: item["tags"])
        self.done("trash", "restore", str(windows["id"]))
        self.assertIn("push it again", self.refused("trash", "restore", str(bare["id"])))
        arguments = ("trash", "restore", str(bare["id"]))
        found = self.run_command(*arguments, DOCKREG_MANIFESTS_MISSING_LAYERS="allow")
        self.assertEqual(0, found.exit_code, found.output)
        self.assertEqual("bare\nwindows\n", self.done("repo", "tags", "multi"))

    def test_rollback(self) -> None:
        """A tag goes back to where it pointed, and forth again; its history tells all."""
        content = CONTENT + b" "
        self.put(content, "v1", repository="team/app")
        self.refused("tag", "rollback", "team/app:v2", "--yes")
        self.assertIn(str(DIGEST), self.done("tag", "rollback", "team/app:v1", "--yes"))
        self.done("tag", "remove", "team/app:v1", "--yes")
        self.assertIn(str(DIGEST), self.done("tag", "rollback", "team/app:v1", "--yes"))
        expected = [str(DIGEST), None, str(DIGEST), str(Digest.of(content)), str(DIGEST)]
        found = self.listed("repo", "history", "team/app:v1")
        self.assertEqual(expected, [move["digest"] for move in found])
        self.assertIn("removed", self.done("repo", "history", "team/app:v1"))
        self.refused("repo", "history", "team/app:v9")

    def test_damaged_history(self) -> None:
        """A damaged entry of a tag's history is named among the others, and no rollback passes over it."""
        self.done("tag", "remove", "team/app:v1", "--yes")
        self.done("tag", "rollback", "team/app:v1", "--yes")
        for spoilt in (str(DIGEST).replace("sha256", "sha257"), str(DIGEST)[:-1], "", b"sha256:\xff\x1b"):
            with closing(sqlite3.connect(os.path.join(self.root, "registry.db"))) as connection, connection:
                connection.execute(
                    "UPDATE tag_history SET digest = CAST(? AS TEXT) WHERE name = 'v1' AND id < 3", [spoilt]
                )
            lines = self.done("repo", "history", "team/app:v1").splitlines()
            self.assertEqual([False, False, True], ["(damaged)" in line for line in lines], lines)
            self.assertNotIn("\x1b", lines[2])
            found = self.listed("repo", "history", "team/app:v1")
            self.assertEqual([False, False, True], [move["damaged"] for move in found])
            self.assertEqual([str(DIGEST), None], [move["digest"] for move in found][:2])
            line = self.refused("tag", "rollback", "team/app:v1", "--yes")
            self.assertIn("is damaged", line)

    def test_damaged_newest_entry(self) -> None:
        """What a tag means now is not asked of its history."""
        self.put(CONTENT + b" ", "v1", repository="team/app")
        with closing(sqlite3.connect(os.path.join(self.root, "registry.db"))) as connection, connection:
            connection.execute(
                "UPDATE tag_history SET digest = 'x' WHERE id = (SELECT max(id) FROM tag_history)"
            )
        self.assertIn(str(DIGEST), self.done("tag", "rollback", "team/app:v1", "--yes"))

    def test_remove_tag(self) -> None:
        """A removed tag leaves its neighbours and its manifest."""
        self.assertIn(str(DIGEST), self.done("tag", "remove", "team/app:v1", "--yes"))
        self.assertEqual("v2\n", self.done("repo", "tags", "team/app"))
        self.done("tag", "remove", "team/app:v2", "--yes")
        self.assertEqual("", self.done("repo", "tags", "team/app"))
        with Operator(root=self.root).records() as records:
            self.assertIsNotNone(run_inline(records.manifest(RepositoryName("team/app"), DIGEST)))


def _key(item: dict[str, object]) -> tuple[object, ...]:
    return item["kind"], item["repository"], item["digest"]
