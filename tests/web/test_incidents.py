"""What went wrong with rights in other registries, each by its name, and that it does not here."""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

from twisted.internet import reactor  # noqa: TID251 - the same as the server's
from twisted.internet.defer import Deferred, gatherResults

from dockreg_tx.access.accounts import KnownAccounts
from dockreg_tx.access.user_file import MergedAccounts, UserFile
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import StoreUnavailable
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import Account
from dockreg_tx.web.table import registry_routes
from tests.registry.world import OCI_MANIFEST
from tests.web.api import Reply, endpoints_of
from tests.web.test_matrix import EXPECTED, OPEN, PASSWORD, basic, cells_of
from tests.web.tokens import HASH, START, TokenCase

LAYER = b"a layer of others"
DIGEST = Digest.of(LAYER)
NEVER = Digest.of(b"never pushed")
#: ``team`` may do everything in ``team/**`` and nothing elsewhere.
MINE, OTHERS = "/v2/team/app", "/v2/other/secret"
EVERYTHING = "repository:team/app:pull,push,delete+repository:other/secret:pull,push,delete"


class IncidentCase(TokenCase):
    """``other/secret`` holds a layer that ``team`` may not see."""

    async def fill(self) -> None:
        """Push it."""
        await super().fill()
        await self.world.push_blob(LAYER, RepositoryName("other/secret"))

    async def push_manifest(self, reference: str, content: bytes, user: str, path: str = MINE) -> Reply:
        """Return the answer to a push of a manifest."""
        headers = {"Content-Type": OCI_MANIFEST}
        return await self.call(
            "PUT", f"{path}/manifests/{reference}", user=user, headers=headers, data=content
        )

    def facts(self, reply: Reply) -> tuple[int, str, Any]:
        """Return what an answer tells, apart from the names that the client itself has sent."""
        if not reply.body:
            return reply.status, "", None
        return reply.status, reply.code, [error["message"] for error in reply.json["errors"]]


class ContentOfOthersTests(IncidentCase):
    """Content is reached through a link of its repository to it, never because its bytes are there."""

    async def test_cve_2024_39897_mount_needs_pull(self) -> None:
        """A mount from a repository that may not be pulled is an upload, as for content that is not there."""
        for password in ("basic", "bearer"):
            for digest, source in itertools.product((DIGEST, NEVER), ("&from=other/secret", "", "&from=NO")):
                path = f"{MINE}/blobs/uploads/?mount={digest}{source}"
                if password == "basic":
                    reply = await self.call("POST", path, user="team")
                else:
                    token = (await self.ask(EVERYTHING, user="team"))["token"]
                    reply = await self.bearer("POST", path, token)
                self.assertEqual((202, b""), (reply.status, reply.body), path)
                self.assertIsNone(reply.header("Docker-Content-Digest"))
        self.assertEqual(404, (await self.call("GET", f"{MINE}/blobs/{DIGEST}", user="team")).status)

    async def test_gitea_22759_blob_of_another_repository(self) -> None:
        """HEAD and GET of another's digest are answered as for a digest that nobody has."""
        for method, base in itertools.product(("HEAD", "GET", "DELETE"), (MINE, OTHERS)):
            found, missing = [
                await self.call(method, f"{base}/blobs/{digest}", user="team") for digest in (DIGEST, NEVER)
            ]
            self.assertEqual(404 if base == MINE else 403, found.status)
            self.assertEqual(self.facts(missing), self.facts(found), f"{method} {base}")

    async def test_pulp_1286_manifest_names_a_private_blob(self) -> None:
        """A manifest that merely names another's layer is refused, as for a layer that is not there."""
        config = await self.world.push_blob(b"{}")
        replies = []
        for digest in (DIGEST, NEVER):
            manifest = {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": "application/json", "digest": str(config), "size": 2},
                "layers": [{"mediaType": "application/x", "digest": str(digest), "size": len(LAYER)}],
            }
            replies.append(await self.push_manifest("v1", json.dumps(manifest).encode(), "team"))
        self.assertEqual([(400, "MANIFEST_BLOB_UNKNOWN")] * 2, [(each.status, each.code) for each in replies])
        self.assertEqual(404, (await self.call("GET", f"{MINE}/blobs/{DIGEST}", user="team")).status)

    async def test_openshift_9819_dedupe_is_invisible(self) -> None:
        """Who uploads what is there already must send it all, and gets no link without the bytes."""
        path = f"{MINE}/blobs/uploads/?digest={DIGEST}"
        headers = {"Content-Type": "application/octet-stream"}
        reply = await self.call("POST", path, user="team", headers=headers, data=LAYER[:-1])
        self.assertEqual((400, "DIGEST_INVALID"), (reply.status, reply.code))
        session = (await self.call("POST", path, user="team")).header("Location") or ""
        reply = await self.call("PUT", f"{session}?digest={DIGEST}", user="team")
        self.assertEqual((400, "DIGEST_INVALID"), (reply.status, reply.code))
        self.assertEqual(404, (await self.call("HEAD", f"{MINE}/blobs/{DIGEST}", user="team")).status)
        reply = await self.call("POST", path, user="team", headers=headers, data=LAYER)
        self.assertEqual(201, reply.status)

    async def test_cve_2026_35172_deleted_stays_deleted(self) -> None:
        """Content deleted in one repository is not brought back there by reading it in another."""
        await self.world.push_blob(LAYER)
        self.assertEqual(202, (await self.call("DELETE", f"{OTHERS}/blobs/{DIGEST}")).status)
        for _ in range(2):
            for base, status in ((MINE, 200), (OTHERS, 404)):
                for method in ("GET", "HEAD"):
                    reply = await self.call(method, f"{base}/blobs/{DIGEST}")
                    self.assertEqual(status, reply.status, f"{method} {base}")


class RightTests(IncidentCase):
    """One table says which right each method of each route needs."""

    async def test_cve_2026_41888_deleting_a_tag_is_deleting(self) -> None:
        """A tag is deleted by the right that deletes manifests, and by no other."""
        digest = await self.world.put("v1", await self.world.image(b"layer"))
        for user, reference in itertools.product(("pusher", "creator", "puller"), ("v1", str(digest))):
            reply = await self.call("DELETE", f"{MINE}/manifests/{reference}", user=user)
            self.assertEqual((403, "DENIED"), (reply.status, reply.code), f"{user} {reference}")
        self.assertEqual(202, (await self.call("DELETE", f"{MINE}/manifests/v1", user="deleter")).status)

    async def test_cve_2026_61833_push_deletes_nothing(self) -> None:
        """A token for pulling and pushing is refused by every method that deletes content."""
        tokens = {
            user: (await self.ask("repository:team/app:pull,push", user=user))["token"]
            for user in ("admin", "pusher", "team")
        }
        found = set()
        for cell in cells_of(registry_routes(endpoints_of(self.world, self.access.token))):
            # A session is what a pusher may drop: nothing that was stored.
            if cell.method != "DELETE" or cell.repository or cell.endpoint == "uploads.session":
                continue
            found.add(cell.endpoint)
            for user, token in tokens.items():
                status = (await self.bearer("DELETE", cell.path, token)).status
                # Who has the right is sent for a token that says so.
                self.assertEqual(403 if user == "pusher" and status == 403 else 401, status, cell.path)
        self.assertEqual({"blobs", "manifests"}, found)

    async def test_cve_2026_31801_creator_moves_no_tag(self) -> None:
        """Who may only create makes a tag, and moves none; of two at once that differ one wins."""
        first, *others = [await self.world.image(b"%d" % number) for number in range(4)]
        self.assertEqual(201, (await self.push_manifest("latest", first, "creator")).status)
        reply = await self.push_manifest("latest", others[0], "creator")
        self.assertEqual((403, "DENIED"), (reply.status, reply.code))
        pushes = [Deferred.fromCoroutine(self.push_manifest("race", each, "creator")) for each in others]
        replies = await gatherResults(pushes)
        self.assertEqual([201, 403, 403], sorted(reply.status for reply in replies))
        found = (await self.call("GET", f"{MINE}/manifests/race", user="puller")).body
        (winner,) = (each for each, reply in zip(others, replies, strict=True) if reply.status == 201)
        self.assertEqual(winner, found)

    async def test_ghsa_27f2_qg57_2gwg_every_rule_counts(self) -> None:
        """A denial counts wherever it stands among the grants."""
        specs = ("pull:**", "*:team/*", "!push:team/app", "push:other/**")
        for number, order in enumerate(itertools.permutations(specs)):
            name = f"user-{number}"
            await self.world.records.add_account(Account(name, HASH, grants=order))
            for path, status in ((MINE, 403), ("/v2/team/b", 202), ("/v2/third", 403)):
                reply = await self.call("POST", f"{path}/blobs/uploads/", user=name)
                self.assertEqual(status, reply.status, f"{order} {path}")

    async def test_ghsa_wrw5_gmvj_gf23_user_agent_decides_nothing(self) -> None:
        """No name of a client opens or closes anything."""
        for agent in ("harbor-scanner-trivy", "Trivy", "docker/28.0", "containerd", "", "Go-http-client/1.1"):
            headers = {"User-Agent": agent}
            for user, path, status in (
                (None, "/v2/", 401),
                ("team", f"{OTHERS}/blobs/{DIGEST}", 403),
                ("admin", f"{OTHERS}/blobs/{DIGEST}", 200),
            ):
                reply = await self.call("GET", path, user=user, headers=headers)
                self.assertEqual(status, reply.status, f"{agent} {path}")

    async def test_ghsa_3x7c_wf86_mjx6_error_in_the_lookup(self) -> None:
        """When the users cannot be read nobody gets in, and nobody is taken for anonymous."""
        path = f"{OTHERS}/blobs/{DIGEST}"
        token = (await self.ask("repository:other/secret:pull"))["token"]
        self.assertEqual(200, (await self.bearer("GET", path, token)).status)
        for error, status in ((StoreUnavailable("locked"), 503), (RuntimeError("broken"), 500)):

            async def fail(*_: object, error: Exception = error) -> Any:
                raise error

            for method in ("access_generation", "account"):
                # So that what was read before does not help.
                await self.world.records.set_disabled("nobody", True, now=START)
                patch = self.patch(self.world.records, method, fail)
                for reply in (
                    await self.bearer("GET", path, token),
                    await self.call("GET", path),
                    await self.call("GET", path, password="wrong"),
                    await self.call("GET", "/token?scope=repository:other/secret:pull"),
                    await self.call("GET", "/v2/"),
                ):
                    self.assertEqual((status, 1), (reply.status, len(reply.json["errors"])))
                patch.restore()
        self.flushLoggedErrors(RuntimeError)


class SessionTests(IncidentCase):
    """Upload sessions belong to their repository and user."""

    async def test_cve_2026_32589_session_of_another(self) -> None:
        """By no method is another's session touched, nor one's own through another repository."""
        await self.world.records.add_account(Account("rival", HASH, grants=("*:**",)))
        location = (await self.call("POST", f"{MINE}/blobs/uploads/", user="team")).header("Location") or ""
        path = location.removeprefix(self.url)
        sent = await self.call("PATCH", path, user="team", data=b"abc")
        self.assertEqual(202, sent.status)
        elsewhere = path.replace("team/app", "team/b")
        digest = Digest.of(b"abc")
        for method in ("GET", "HEAD", "PATCH", "PUT", "DELETE"):
            for user, where in (("rival", path), ("admin", path), ("team", elsewhere)):
                target = f"{where}?digest={digest}" if method == "PUT" else where
                reply = await self.call(method, target, user=user, data=b"x" if method == "PATCH" else None)
                self.assertEqual(404, reply.status, f"{method} {user}")
        reply = await self.call("PUT", f"{path}?digest={digest}", user="team")
        self.assertEqual(201, reply.status)


class StrangerTests(IncidentCase):
    """Who shows no credentials has no rights that nobody gave."""

    async def test_cve_2026_27771_anonymous_pulls_nothing(self) -> None:
        """Every route that needs a right answers 401 to who shows none."""
        await self.world.put("v1", await self.world.image(b"layer"))
        count = 0
        for cell in cells_of(registry_routes(endpoints_of(self.world, self.access.token))):
            if EXPECTED[cell.endpoint, cell.method] not in (OPEN, PASSWORD):
                count += 1
                for headers in ({}, basic("", "")):
                    reply = await self.call(cell.method, cell.path, user=None, headers=headers)
                    self.assertEqual(401, reply.status, f"{cell.method} {cell.path}")
        self.assertGreater(count, 30)

    async def test_cve_2020_29662_catalog_by_another_path(self) -> None:
        """The list of repositories is closed by every path, and shows what its reader may pull."""
        await self.world.put("v1", await self.world.image(b"layer"))
        for path in (
            "/v2/_catalog", "/v2/_catalog/", "/v2/_catalog?n=1", "/v2//_catalog", "//v2/_catalog",
            "/v2/_catalo%67", "/v2/./_catalog", "/v2/x/../_catalog", "/V2/_catalog", "/v2/_CATALOG",
            "/v2/_catalog;x", "/v1/search?q=team", "/v1/_catalog", "/api/v2.0/repositories",
            "/v2/_catalog%00",
        ):  # fmt: skip
            for user in (None, "nobody"):
                reply = await self.call("GET", path, user=user)
                self.assertNotIn(b"team/app", reply.body, path)
                if user is None:
                    self.assertIn(reply.status, (400, 401, 404), path)
        reply = await self.call("GET", "/v2/_catalog", user="team")
        self.assertEqual({"repositories": ["team/app"]}, reply.json)

    async def test_cve_2019_16097_fields_make_no_admin(self) -> None:
        """Nothing that a client sends along makes it an admin, or another user."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        extra = "&has_admin_role=true&is_admin=1&admin=true&sub=admin&user=admin&account=admin&grants=*:**"
        data = f"grant_type=password&username=nobody&password=secret&scope={EVERYTHING}{extra}".encode()
        tokens = [
            (await self.call("POST", "/token", user=None, headers=form, data=data)).json["token"],
            (await self.ask(EVERYTHING, user="nobody", more=extra))["token"],
        ]
        for token in tokens:
            for path in (f"{OTHERS}/blobs/{DIGEST}", f"{MINE}/tags/list"):
                self.assertEqual(403, (await self.bearer("GET", f"{path}?is_admin=1", token)).status)
        body = json.dumps({"grant_type": "password", "username": "admin", "is_admin": True}).encode()
        headers = {"Content-Type": "application/json"}
        reply = await self.call("POST", "/token", user=None, headers=headers, data=body)
        self.assertEqual((400, "UNSUPPORTED"), (reply.status, reply.code))


class RobotTests(IncidentCase):
    """Robots are their user's, and never more than it."""

    async def test_cve_2022_31666_robot_of_another_user(self) -> None:
        """A robot's secret is no password of another user, an admin's included."""
        secret = await self.add_robot("team")
        self.assertEqual(200, (await self.call("GET", "/v2/", user="team", password=secret)).status)
        for user in ("admin", "nobody", "TEAM", "team ", ""):
            self.assertEqual(401, (await self.call("GET", "/v2/", user=user, password=secret)).status, user)

    async def test_cve_2024_22278_robot_does_not_escalate(self) -> None:
        """Whatever a robot's own grants say, it may no more than its user, at any moment."""
        secret = await self.add_robot("team", "*:**")
        for headers in (basic("team", secret), {"Authorization": f"Bearer {secret}"}):
            for path, status in ((f"{OTHERS}/blobs/{DIGEST}", 403), (f"{MINE}/blobs/{DIGEST}", 404)):
                reply = await self.call("GET", path, user=None, headers=headers)
                self.assertEqual(status, reply.status, path)
        await self.world.records.remove_grant("team", "*:team/**", now=START)
        reply = await self.call("GET", f"{MINE}/blobs/{DIGEST}", user="team", password=secret)
        self.assertEqual(403, reply.status)

    async def test_cve_2025_23208_what_is_taken_is_gone(self) -> None:
        """A grant that was taken is gone for the token, the login and the password, at once."""
        document = await self.ask(EVERYTHING, user="team", more="&offline_token=true")
        path = f"{MINE}/tags/list"
        self.assertEqual(404, (await self.bearer("GET", path, document["token"])).status)
        await self.world.records.remove_grant("team", "*:team/**", now=START)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        refresh = f"grant_type=refresh_token&refresh_token={document['refresh_token']}&scope={EVERYTHING}"
        reply = await self.call("POST", "/token", user=None, headers=form, data=refresh.encode())
        self.assertEqual("", reply.json["scope"])
        for token in (document["token"], reply.json["token"]):
            self.assertEqual(403, (await self.bearer("GET", path, token)).status)
        self.assertEqual(403, (await self.call("GET", path, user="team")).status)


class FileUserTests(IncidentCase):
    """Users from elsewhere: a live htpasswd file, over HTTP."""

    def known_accounts(self) -> KnownAccounts:
        """Return the records, and a file beside them that knows an admin and a guest."""
        self.path = os.path.abspath(self.mktemp())
        self.write("admin", "guest", "ghost")
        self.file = UserFile(
            self.path, grants=("pull:other/*",), blocking=InlineBlocking(), clock=reactor, now=self.now
        )
        return MergedAccounts(accounts=self.world.records, file=self.file)

    def recent_callers(self) -> None:
        """Know nobody again, as with any such file."""

    def write(self, *names: str) -> None:
        """Let the file know these users, with the password of all others."""
        with open(self.path, "w") as file:
            file.writelines(f"{name}:{HASH}\n" for name in names)

    async def test_harbor_external_admin(self) -> None:
        """An admin's name in the file makes nobody an admin, not even when the admin is removed."""
        await self.world.records.remove_account("admin", now=START)
        self.assertEqual(200, (await self.call("GET", f"{OTHERS}/blobs/{DIGEST}", user="admin")).status)
        self.assertEqual(403, (await self.call("DELETE", f"{OTHERS}/blobs/{DIGEST}", user="admin")).status)
        self.assertEqual(403, (await self.call("GET", f"{MINE}/tags/list", user="admin")).status)

    async def test_login_and_removal(self) -> None:
        """A user of the file logs in by tokens as others do; once its line is gone they end."""
        document = await self.ask(EVERYTHING, user="guest", more="&offline_token=true")
        self.assertNotIn("refresh_token", document)
        path = f"{OTHERS}/blobs/{DIGEST}"
        self.assertEqual(200, (await self.bearer("GET", path, document["token"])).status)
        self.write("admin")
        # The second after which the file is looked at again.
        self.patch(self.file, "_looked_at", None)
        self.assertEqual(401, (await self.bearer("GET", path, document["token"])).status)
        self.assertEqual(401, (await self.call("GET", path, user="guest")).status)

    async def test_removed_between(self) -> None:
        """Who is removed while it logs in gets no login."""
        principal = await self.callers.authenticate("guest", "secret")
        self.write("admin")
        self.patch(self.file, "_looked_at", None)
        with self.assertRaisesRegex(Exception, "the user was removed"):
            await self.callers.log_in(principal)
