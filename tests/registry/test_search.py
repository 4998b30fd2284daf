"""Tests of ``dockreg_tx.registry.search``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.registry.search import Search
from tests.registry.world import World


class SearchTests(SynchronousTestCase):
    """``Search.repositories``."""

    def setUp(self) -> None:
        """Fill more repositories than are fetched at a time."""
        world = World()
        for number in range(1, 2501):
            self.successResultOf(
                world.records.commit_blob(
                    RepositoryName(f"team-{number % 2}/app-{number:04}"),
                    self.successResultOf(world.push_blob(b"layer")),
                    5,
                    lambda: None,
                    upload_id=None,
                    now=1.0,
                )
            )
        self.search = Search(records=world.records)

    def found(self, text: str, limit: int, *, refused: str = "-") -> list[str]:
        """Search as someone who may pull everything that does not contain ``refused``."""
        search = self.search.repositories(text, limit, may=lambda _action, name: refused not in str(name))
        return self.successResultOf(search)

    def test_behind_the_first_batch(self) -> None:
        """Names are found wherever they sort, in byte order, whatever the case of the text."""
        self.assertEqual(["team-0/app-2500"], self.found("APP-25", 9, refused="!"))
        self.assertEqual(["team-1/app-2499"], self.found("p-2499", 9, refused="!"))
        self.assertEqual([f"team-1/app-{n}" for n in (2491, 2493)], self.found("1/app-249", 2, refused="!"))

    def test_rights(self) -> None:
        """What the caller may not pull is not found, and does not count."""
        self.assertEqual(["team-1/app-0101", "team-1/app-0103"], self.found("app-010", 2, refused="team-0"))
        self.assertEqual([], self.found("team", 9, refused="team"))

    def test_limits(self) -> None:
        """No more than asked for; nothing for 0; every name contains the empty text."""
        self.assertEqual([], self.found("", 0, refused="!"))
        self.assertEqual(["team-0/app-0002"], self.found("", 1, refused="!"))
        self.assertEqual(1250, len(self.found("team-1", 5000, refused="!")))
