"""``docker search`` and ``podman search``, and the list of extensions."""

from __future__ import annotations

from dockreg_tx.oci.names import RepositoryName
from tests.web.api import Reply
from tests.web.test_api import BLOB, FilledCase


class SearchTests(FilledCase):
    """``/v1/``."""

    async def fill(self) -> None:
        """Push to several repositories."""
        await super().fill()
        for name in ("other/app", "team/base"):
            await self.world.push_blob(BLOB, RepositoryName(name))

    def names(self, reply: Reply) -> list[str]:
        """Return the names of results."""
        self.assertEqual((200, "application/json"), (reply.status, reply.header("Content-Type")))
        self.assertEqual(len(reply.json["results"]), reply.json["num_results"])
        return [result["name"] for result in reply.json["results"]]

    async def test_ping(self) -> None:
        """Docker's ping needs no credentials."""
        reply = await self.call("GET", "/v1/_ping", user=None)
        self.assertEqual((200, {"standalone": True}), (reply.status, reply.json))

    async def test_result(self) -> None:
        """A result has the fields that docker and podman decode."""
        reply = await self.call("GET", "/v1/search?q=base&n=25")
        (result,) = reply.json["results"]
        flags = {"star_count": 0, "is_official": False, "is_automated": False}
        self.assertEqual({"name": "team/base", "description": "", **flags}, result)
        self.assertEqual("base", reply.json["query"])

    async def test_substring_and_bound(self) -> None:
        """The text may stand anywhere; ``n`` cuts, absurd ones are lowered, nonsense is refused."""
        for query, names in (
            ("q=app", ["other/app", "team/app"]),
            ("q=TEAM", ["team/app", "team/base"]),
            ("q=app&n=1", ["other/app"]),
            ("q=app&n=0", []),
            ("q=&n=" + "9" * 500, ["other/app", "team/app", "team/base"]),
            ("", ["other/app", "team/app", "team/base"]),
            ("q=%00%ff%F0%9F%90%B3", []),
        ):
            self.assertEqual(names, self.names(await self.call("GET", f"/v1/search?{query}")), query)
        refused = await self.call("GET", "/v1/search?q=a&n=-1")
        self.assert_error(400, "PAGINATION_NUMBER_INVALID", refused)

    async def test_rights(self) -> None:
        """Each user finds what the user may pull; strangers are asked for credentials."""
        for user, names in (
            ("team", ["team/app"]),
            ("nobody", []),
            ("pusher", []),
            ("puller", ["other/app", "team/app"]),
        ):
            self.assertEqual(names, self.names(await self.call("GET", "/v1/search?q=app", user=user)), user)
        self.assert_error(401, "UNAUTHORIZED", await self.call("GET", "/v1/search?q=app", user=None))

    async def test_nothing_else(self) -> None:
        """All else of the old API is 404, in JSON: podman fails hard on anything that is not."""
        for path in ("/v1/", "/v1/repositories/team/app/tags", "/v1/users", "/v1/searches", "/v1/_ping/x"):
            for user in (None, "admin"):
                self.assert_error(404, "NAME_UNKNOWN", await self.call("GET", path, user=user))


class AnonymousSearchTests(FilledCase):
    """With ``--anonymous pull``."""

    anonymous_mode = "pull"

    async def test_anonymous(self) -> None:
        """Podman searches without credentials."""
        reply = await self.call("GET", "/v1/search?q=app&n=25", user=None)
        self.assertEqual(["team/app"], [result["name"] for result in reply.json["results"]])


class ExtensionTests(FilledCase):
    """``/v2/_oci/ext/discover``."""

    async def test_discover(self) -> None:
        """The list names itself; strangers do not see it."""
        reply = await self.call("GET", "/v2/_oci/ext/discover")
        (extension,) = reply.json["extensions"]
        self.assertEqual(("_oci", ["_oci/ext/discover"]), (extension["name"], extension["endpoints"]))
        self.assert_error(401, "UNAUTHORIZED", await self.call("GET", "/v2/_oci/ext/discover", user=None))
