"""Every endpoint by method and kind of target, with status and code; a route without rows fails."""

from __future__ import annotations

import json
from typing import Any

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.web.recent import RecentAnswers
from dockreg_tx.web.table import registry_routes
from tests.registry.world import OCI_MANIFEST
from tests.web.api import ApiCase, Reply, endpoints_of

BLOB = b"a layer"
DIGEST = Digest.of(BLOB)
ABSENT = Digest.of(b"absent")
UNKNOWN_ALGORITHM = f"sha384:{'a' * 96}"

#: Repositories: one that has everything, one never seen, one that cannot be.
REPOSITORIES = {"known": "team/app", "unknown": "no/where", "bad": "Bad!Name"}

#: Statuses of GET, HEAD, PUT, DELETE, POST, PATCH and their codes; "-" is a method that the route lacks.
Row = dict[str, str]
NAME_INVALID = "400 NAME_INVALID"


def reading(outcome: str, **more: str) -> Row:
    """Return a row whose GET and HEAD come to the same."""
    return {"GET": outcome, "HEAD": outcome, **more}


BAD_NAME_CONTENT = reading(NAME_INVALID, PUT=NAME_INVALID, DELETE=NAME_INVALID)

#: By endpoint, then by kind of repository and of what follows it; ``{…}`` is filled in by the test.
TABLE: dict[str, dict[tuple[str, str], Row]] = {
    "blobs": {
        ("known", str(DIGEST)): reading("200", DELETE="202"),
        ("known", str(ABSENT)): reading("404 BLOB_UNKNOWN", DELETE="404 BLOB_UNKNOWN"),
        ("known", "nonsense"): reading("400 DIGEST_INVALID", DELETE="400 DIGEST_INVALID"),
        ("known", "sha256:ABC"): reading("400 DIGEST_INVALID", DELETE="400 DIGEST_INVALID"),
        ("known", UNKNOWN_ALGORITHM): reading("404 BLOB_UNKNOWN", DELETE="404 BLOB_UNKNOWN"),
        ("unknown", str(DIGEST)): reading("404 BLOB_UNKNOWN", DELETE="404 BLOB_UNKNOWN"),
        ("bad", str(DIGEST)): reading(NAME_INVALID, DELETE=NAME_INVALID),
    },
    "manifests": {
        ("known", "v1"): reading("200", PUT="201", DELETE="202"),
        ("known", "{manifest}"): reading("200", PUT="201", DELETE="202"),
        ("known", "absent"): reading("404 MANIFEST_UNKNOWN", PUT="201", DELETE="404 MANIFEST_UNKNOWN"),
        ("known", ".bad"): reading(
            "404 MANIFEST_UNKNOWN", PUT="400 TAG_INVALID", DELETE="404 MANIFEST_UNKNOWN"
        ),
        ("known", str(ABSENT)): reading(
            "404 MANIFEST_UNKNOWN", PUT="400 DIGEST_INVALID", DELETE="404 MANIFEST_UNKNOWN"
        ),
        ("known", "sha256:bad"): reading(
            "400 DIGEST_INVALID", PUT="400 DIGEST_INVALID", DELETE="400 DIGEST_INVALID"
        ),
        ("known", UNKNOWN_ALGORITHM): reading(
            "404 MANIFEST_UNKNOWN", PUT="400 DIGEST_INVALID", DELETE="404 MANIFEST_UNKNOWN"
        ),
        ("unknown", "v1"): reading(
            "404 NAME_UNKNOWN", PUT="400 MANIFEST_BLOB_UNKNOWN", DELETE="404 NAME_UNKNOWN"
        ),
        ("bad", "v1"): BAD_NAME_CONTENT,
    },
    "tags": {
        ("known", "list"): reading("200"),
        ("known", "list?n=0"): reading("200"),
        ("known", "list?n=-1"): reading("400 PAGINATION_NUMBER_INVALID"),
        ("unknown", "list"): reading("404 NAME_UNKNOWN"),
        ("bad", "list"): reading(NAME_INVALID),
    },
    "referrers": {
        ("known", str(ABSENT)): reading("200"),
        ("known", UNKNOWN_ALGORITHM): reading("200"),
        ("known", "sha256:bad"): reading("400 DIGEST_INVALID"),
        ("unknown", str(ABSENT)): reading("200"),
        ("bad", str(ABSENT)): reading(NAME_INVALID),
    },
    "uploads.new": {
        ("known", ""): {"POST": "202"},
        ("known", f"?digest={ABSENT}"): {"POST": "202"},
        ("known", "?digest=sha256:bad"): {"POST": "400 DIGEST_INVALID"},
        ("known", f"?digest={UNKNOWN_ALGORITHM}"): {"POST": "400 DIGEST_INVALID"},
        ("known", f"?mount={DIGEST}&from=team/app"): {"POST": "201"},
        ("known", f"?mount={DIGEST}&from=no/where"): {"POST": "202"},
        ("known", f"?mount={ABSENT}"): {"POST": "202"},
        ("known", "?digest-algorithm=md5"): {"POST": "400 UNSUPPORTED"},
        ("unknown", ""): {"POST": "202"},
        ("bad", ""): {"POST": NAME_INVALID},
    },
    "uploads.session": {
        ("known", "{session}"): reading("204", PATCH="202", PUT="400 DIGEST_INVALID", DELETE="204"),
        ("known", f"{{session}}?digest={DIGEST}"): reading("204", PATCH="202", PUT="201", DELETE="204"),
        ("known", f"{{session}}?digest={ABSENT}"): reading(
            "204", PATCH="202", PUT="400 DIGEST_INVALID", DELETE="204"
        ),
        ("known", f"nonesuch?digest={DIGEST}"): reading(
            "404 BLOB_UPLOAD_UNKNOWN",
            PATCH="404 BLOB_UPLOAD_UNKNOWN",
            PUT="404 BLOB_UPLOAD_UNKNOWN",
            DELETE="404 BLOB_UPLOAD_UNKNOWN",
        ),
        ("unknown", f"{{session}}?digest={DIGEST}"): reading(
            "404 BLOB_UPLOAD_UNKNOWN",
            PATCH="404 BLOB_UPLOAD_UNKNOWN",
            PUT="404 BLOB_UPLOAD_UNKNOWN",
            DELETE="404 BLOB_UPLOAD_UNKNOWN",
        ),
        ("bad", "{session}"): reading(
            NAME_INVALID, PATCH=NAME_INVALID, PUT=NAME_INVALID, DELETE=NAME_INVALID
        ),
    },
}
#: What stands between repository and target in a path.
MIDDLES = {
    "blobs": "blobs/",
    "manifests": "manifests/",
    "tags": "tags/",
    "referrers": "referrers/",
    "uploads.new": "blobs/uploads/",
    "uploads.session": "blobs/uploads/",
}
METHODS = ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "TRACE", "BREW")


class EndpointTests(ApiCase):
    """The whole table, each call on a registry filled afresh."""

    timeout = 120

    async def fill(self) -> None:
        """Have the image ``team/app:v1``, and nothing else."""
        for name in REPOSITORIES.values():
            await self.world.records.remove_repository(RepositoryName(name), by="", now=0.0)
        self.manifest = await self.world.image(BLOB)
        self.manifest_digest = await self.world.put("v1", self.manifest)

    async def test_table(self) -> None:
        """Each call comes to its status and code; a method that a route lacks to 405 with Allow."""
        for endpoint, rows in TABLE.items():
            for (repository, target), row in rows.items():
                for method in METHODS:
                    await self.fill()
                    reply = await self.reply(endpoint, repository, target, method)
                    where = (endpoint, method, repository, target)
                    self.check(reply, method, row.get(method, "405 UNSUPPORTED"), where)
                    if method not in row:
                        self.assertEqual(
                            {*row, "OPTIONS"}, set(str(reply.header("Allow")).split(", ")), where
                        )

    async def reply(self, endpoint: str, repository: str, target: str, method: str) -> Reply:
        """Return the answer to one cell's call; bodies are those of a good push."""
        session = ""
        if "{session}" in target:
            opened = await self.call("POST", f"/v2/{REPOSITORIES['known']}/blobs/uploads/")
            session = str(opened.header("Docker-Upload-UUID"))
        filled = target.format(manifest=self.manifest_digest, session=session)
        headers, data = {}, None
        if method == "PUT" and endpoint == "manifests":
            headers, data = {"Content-Type": OCI_MANIFEST}, self.manifest
        elif method in {"PUT", "PATCH"}:
            data = BLOB
        path = f"/v2/{REPOSITORIES[repository]}/{MIDDLES[endpoint]}{filled}"
        return await self.call(method, path, headers=headers, data=data)

    def check(self, reply: Reply, method: str, expected: str, where: object) -> None:
        """Compare an answer with ``STATUS [CODE]``, and its form with what every answer has."""
        status, _, code = expected.partition(" ")
        self.assertEqual(int(status), reply.status, (where, reply.body))
        self.assertEqual("registry/2.0", reply.header("Docker-Distribution-API-Version"), where)
        self.assertEqual("nosniff", reply.header("X-Content-Type-Options"), where)
        if method == "HEAD":
            self.assertEqual(b"", reply.body, where)
        elif code:
            self.assertEqual("application/json", reply.header("Content-Type"), where)
            (entry, *_) = json.loads(reply.body)["errors"]
            self.assertEqual(code, entry["code"], where)
            self.assertTrue(entry["message"], where)
            self.assertIn("request_id", entry["detail"], where)

    def test_complete(self) -> None:
        """Every route that names a repository has rows, and every method of it stands in each row."""
        routes = {
            route.endpoint: route
            for route in registry_routes(endpoints_of(self.world))
            if "<repository:" in route.rule
        }
        self.assertEqual(set(routes), set(TABLE))
        for endpoint, rows in TABLE.items():
            for row in rows.values():
                self.assertEqual(set(routes[endpoint].operations), set(row), endpoint)


class KleinEndpointTests(EndpointTests):
    """The same, with every request routed by Klein."""

    is_short = False


class RepeatedEndpointTests(EndpointTests):
    """The same, where what was answered a moment ago is answered again."""

    commits = 0

    def make_recent(self) -> RecentAnswers:
        """Remember until the test says that something changed."""
        return RecentAnswers(version=lambda: self.commits, now=lambda: 0.0)

    async def call(self, method: str, path: str, **options: Any) -> Reply:
        """Call, and repeat what only asks: the answers are alike."""
        self.commits += 1
        reply = await super().call(method, path, **options)
        if method in {"GET", "HEAD"} and reply.status == 200:
            again = await super().call(method, path, **options)
            self.assertEqual((reply.status, reply.body), (again.status, again.body))
            for name in ("Content-Type", "Docker-Content-Digest", "ETag", "Link", "Cache-Control"):
                self.assertEqual(reply.header(name), again.header(name), (path, name))
        return reply
