"""``dockreg repo`` and ``dockreg tag``."""

from __future__ import annotations

from dockreg_tx.cli.operator import Operator
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import NewManifest
from dockreg_tx.preparation import run_inline
from tests.cli.case import CommandCase

CONTENT = b'{"schemaVersion": 2}'
DIGEST = Digest.of(CONTENT)


class RepositoryTests(CommandCase):
    """A registry with ``team/app`` (tags v1, v2) and ``zoo``."""

    def setUp(self) -> None:
        """Make the root ready and record the manifests."""
        super().setUp()
        self.done("init")
        with Operator(root=self.root).records() as records:
            for name, tags in (("team/app", ["v2", "v1"]), ("zoo", ["latest"])):
                manifest = NewManifest(RepositoryName(name), DIGEST, "application/json", CONTENT)
                run_inline(
                    records.put_manifest(
                        manifest, [Tag(tag) for tag in tags], lambda: None, may_overwrite=True, now=1.0
                    )
                )

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
        self.refused("tag", "remove", "v1", "--yes")

    def test_remove_repository(self) -> None:
        """A removed repository is gone with its tags; the question comes first."""
        self.refused("repo", "remove", "team/app")
        self.assertIn("2 tags", self.done("repo", "remove", "team/app", "--yes"))
        self.assertEqual("zoo\n", self.done("repo", "list"))

    def test_remove_tag(self) -> None:
        """A removed tag leaves its neighbours and its manifest."""
        self.assertIn(str(DIGEST), self.done("tag", "remove", "team/app:v1", "--yes"))
        self.assertEqual("v2\n", self.done("repo", "tags", "team/app"))
        self.done("tag", "remove", "team/app:v2", "--yes")
        self.assertEqual("", self.done("repo", "tags", "team/app"))
        with Operator(root=self.root).records() as records:
            self.assertIsNotNone(run_inline(records.manifest(RepositoryName("team/app"), DIGEST)))
