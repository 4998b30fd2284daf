"""What of the requests is written into the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dockreg_tx.oci.digests import Digest
from dockreg_tx.web.audit import Auditor
from tests.web.tokens import TokenCase

BLOB = b"a layer"
DIGEST = Digest.of(BLOB)
APP = "/v2/team/app"


class AuditTests(TokenCase):
    """Entries by request."""

    includes_pulls = False

    def make_auditor(self) -> Auditor:
        """Collect the entries."""
        self.entries: list[dict[str, Any]] = []

        def write(entry: Mapping[str, object]) -> None:
            self.entries.append({key: value for key, value in entry.items() if value is not None})

        return Auditor(write, includes_pulls=self.includes_pulls)

    def last(self, *keys: str) -> tuple[Any, ...]:
        """Return parts of the only entry, and forget it."""
        (entry,) = self.entries
        self.entries.clear()
        return tuple(entry.get(key) for key in keys)

    async def test_logins(self) -> None:
        """Good and failed logins and tokens are noted with address and request; beginnings are not."""
        what = ("action", "result", "principal", "address", "status")
        await self.call("GET", "/v2/")
        self.assertEqual(("login", "ok", "admin", "127.0.0.1", 200), self.last(*what))
        await self.call("GET", "/v2/", password="wrong")
        self.assertEqual(("login", "refused", "admin?", "127.0.0.1", 401), self.last(*what))
        await self.ask()
        self.assertEqual(("token", "ok", "admin", "127.0.0.1", 200), self.last(*what))
        await self.call("GET", "/token", password="wrong")
        self.assertEqual(("login", "refused", "admin?", "127.0.0.1", 401), self.last(*what))
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        data = b"grant_type=password&username=puller&password=secret"
        await self.call("POST", "/token", user=None, headers=form, data=data)
        self.assertEqual(("token", "ok", "puller", "127.0.0.1", 200), self.last(*what))
        for path in ("/v2/", f"{APP}/tags/list", "/healthz"):
            await self.call("GET", path, user=None)
        token = (await self.ask())["token"]
        self.entries.clear()
        await self.bearer("GET", f"{APP}/tags/list", token)
        self.assertEqual([], self.entries)

    async def test_pushes_and_deletes(self) -> None:
        """What was stored or removed is noted with repository, reference and digest."""
        what = ("action", "result", "principal", "repository", "reference", "digest")
        await self.call("POST", f"{APP}/blobs/uploads/?digest={DIGEST}", data=BLOB)
        self.assertEqual(("push", "ok", "admin", "team/app", None, str(DIGEST)), self.last(*what))
        await self.call("DELETE", f"{APP}/blobs/{DIGEST}")
        self.assertEqual(("delete", "ok", "admin", "team/app", str(DIGEST), None), self.last(*what))
        await self.call("DELETE", f"{APP}/manifests/v1")
        self.assertEqual(("delete", "refused", "admin", "team/app", "v1", None), self.last(*what))

    async def test_denied(self) -> None:
        """A right that was missing is noted, with a robot's id."""
        await self.call("PUT", f"{APP}/manifests/v1", user="puller")
        self.assertEqual(("push", "refused", 403, None), self.last("action", "result", "status", "robot"))
        secret = await self.add_robot("admin", "pull:**")
        await self.call("PUT", f"{APP}/manifests/v1", password=secret)
        self.assertEqual(("push", "admin", "robot-admin"), self.last("action", "principal", "robot"))

    async def test_reading(self) -> None:
        """Pulls and looks are not noted."""
        await self.world.put("v1", await self.world.image(BLOB))
        for method in ("GET", "HEAD"):
            await self.call(method, f"{APP}/manifests/v1")
        self.assertEqual([], self.entries)

    async def test_secrets(self) -> None:
        """No entry holds a password or token."""
        token = (await self.ask())["token"]
        await self.call("GET", "/v2/", password="secret-one")
        await self.bearer("GET", f"{APP}/manifests/v1", token[:-5] + "AAAAA")
        await self.call("GET", "/token?scope=x&password=secret-two", user=None)
        self.assertEqual(4, len(self.entries))
        for text in ("secret", token[:20], "AAAAA"):
            self.assertNotIn(text, repr(self.entries))


class PullAuditTests(AuditTests):
    """With pulls."""

    includes_pulls = True

    async def test_reading(self) -> None:
        """Pulls are noted, looks are not."""
        await self.world.put("v1", await self.world.image(BLOB))
        for method in ("GET", "HEAD"):
            await self.call(method, f"{APP}/manifests/v1")
        self.assertEqual(("pull", "v1"), self.last("action", "reference"))
