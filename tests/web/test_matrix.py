"""Every route and method, asked by every kind of caller in two repositories: who gets past the guard.

The expectations below are written by hand, apart from the code's own table: a route or method without a line
here fails, and so does one whose rights have changed.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from dockreg_tx.oci.digests import Digest
from dockreg_tx.web.routes import Route
from dockreg_tx.web.table import registry_routes
from tests.web.api import endpoints_of
from tests.web.tokens import GRANTS, START, TokenCase

DIGEST = Digest.of(b"never pushed")
OPEN, PASSWORD, LOGIN, CATALOG = "open", "password", "login", "catalog"
METRICS = "metrics"
LOOK = frozenset({"pull", "push", "create"})
PUSH = frozenset({"push", "create"})
PULL = frozenset({"pull"})
DELETE = frozenset({"delete"})

#: What each endpoint and method asks for.
EXPECTED: dict[tuple[str, str], str | frozenset[str]] = {
    ("root", "GET"): OPEN,
    ("root", "HEAD"): OPEN,
    ("healthz", "GET"): OPEN,
    ("healthz", "HEAD"): OPEN,
    ("readyz", "GET"): OPEN,
    ("readyz", "HEAD"): OPEN,
    ("debug.health", "GET"): OPEN,
    ("debug.health", "HEAD"): OPEN,
    ("metrics", "GET"): METRICS,
    ("metrics", "HEAD"): METRICS,
    ("jwks", "GET"): OPEN,
    ("jwks", "HEAD"): OPEN,
    ("ping", "GET"): OPEN,
    ("ping", "HEAD"): OPEN,
    ("token", "GET"): PASSWORD,
    ("token", "POST"): PASSWORD,
    ("base", "GET"): LOGIN,
    ("base", "HEAD"): LOGIN,
    ("extensions", "GET"): LOGIN,
    ("extensions", "HEAD"): LOGIN,
    ("catalog", "GET"): CATALOG,
    ("catalog", "HEAD"): CATALOG,
    ("search", "GET"): CATALOG,
    ("search", "HEAD"): CATALOG,
    ("uploads.new", "POST"): PUSH,
    ("uploads.session", "GET"): LOOK,
    ("uploads.session", "HEAD"): LOOK,
    ("uploads.session", "PATCH"): PUSH,
    ("uploads.session", "PUT"): PUSH,
    ("uploads.session", "DELETE"): PUSH,
    ("blobs", "GET"): PULL,
    ("blobs", "HEAD"): LOOK,
    ("blobs", "DELETE"): DELETE,
    ("manifests", "GET"): PULL,
    ("manifests", "HEAD"): LOOK,
    ("manifests", "PUT"): PUSH,
    ("manifests", "DELETE"): DELETE,
    ("tags", "GET"): PULL,
    ("tags", "HEAD"): PULL,
    ("referrers", "GET"): PULL,
    ("referrers", "HEAD"): PULL,
}
ALL = LOOK | DELETE
REPOSITORIES = ("team/app", "other")
#: What each user may do in the two repositories.
RIGHTS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "admin": (ALL, ALL),
    "puller": (PULL, PULL),
    "pusher": (PUSH, PUSH),
    "creator": (PULL | {"create"}, PULL | {"create"}),
    "deleter": (DELETE, DELETE),
    "team": (ALL, frozenset()),
    "denied": (frozenset(), ALL),
    "nobody": (frozenset(), frozenset()),
    "watcher": (frozenset(), frozenset()),
}
EVERY_SCOPE = "+".join(
    [*(f"repository:{name}:pull,push,delete" for name in REPOSITORIES), "registry:catalog:*"]
)


@dataclass(frozen=True)
class Cell:
    """One method of one route, in one of the repositories."""

    endpoint: str
    method: str
    path: str
    repository: int

    @property
    def expected(self) -> str | frozenset[str]:
        """What it asks for."""
        return EXPECTED[self.endpoint, self.method]


def cells_of(routes: list[Route]) -> Iterator[Cell]:
    """Yield a request for every method of every route in every repository."""
    for route in routes:
        for method in route.operations:
            for number, name in enumerate(REPOSITORIES):
                path = route.rule.replace("<repository:name>", name).replace("<upload>", "nonesuch")
                path = path.replace("<digest>", str(DIGEST)).replace("<reference>", "v1")
                yield Cell(route.endpoint, method, path, number)


class MatrixTests(TokenCase):
    """Who gets past the guard; 401 and 403 are refusals, all else is the handler's answer."""

    def cells(self) -> list[Cell]:
        """Return all requests."""
        return list(cells_of(registry_routes(endpoints_of(self.world, self.access.token))))

    def test_every_route_has_a_row(self) -> None:
        """No route or method is missing here, none is listed that is not there, and all users are."""
        self.assertEqual(set(EXPECTED), {(cell.endpoint, cell.method) for cell in self.cells()})
        self.assertEqual(set(GRANTS), set(RIGHTS))

    async def check(self, expected: int, cell: Cell, authorization: dict[str, str], who: str) -> None:
        """Check the status class of one request."""
        reply = await self.call(cell.method, cell.path, user=None, headers=authorization)
        status = reply.status if reply.status in (401, 403) else 200
        self.assertEqual(expected, status, f"{who}: {cell.method} {cell.path}")
        challenge = reply.header("WWW-Authenticate")
        self.assertEqual(status == 401, challenge is not None, f"{who}: {cell.method} {cell.path}")

    def expect(self, cell: Cell, user: str, *, limits: frozenset[str] = ALL) -> int:
        """Return the status class for a user."""
        if cell.expected == METRICS:
            return 200 if user in ("admin", "watcher") and limits == ALL else 403
        if isinstance(cell.expected, str):
            return 200
        return 200 if cell.expected & RIGHTS[user][cell.repository] & limits else 403

    async def test_passwords(self) -> None:
        """Users with their passwords."""
        for user in RIGHTS:
            for cell in self.cells():
                await self.check(self.expect(cell, user), cell, basic(user, "secret"), user)

    async def test_tokens(self) -> None:
        """Users with tokens that were asked for everything."""
        for user in RIGHTS:
            token = (await self.ask(EVERY_SCOPE, user=user))["token"]
            for cell in self.cells():
                expected = 401 if cell.expected in (PASSWORD, METRICS) else self.expect(cell, user)
                await self.check(expected, cell, bearer(token), f"token of {user}")

    async def test_tokens_without_scopes(self) -> None:
        """A token that was asked for nothing opens the root alone, even an admin's."""
        token = (await self.ask())["token"]
        for cell in self.cells():
            expected = 200 if cell.expected in (OPEN, LOGIN) else 401
            await self.check(expected, cell, bearer(token), "token without scopes")

    async def test_tokens_of_one_repository(self) -> None:
        """A token for pushing to one repository deletes nothing and opens no other, even an admin's."""
        token = (await self.ask("repository:team/app:pull,push"))["token"]
        for cell in self.cells():
            is_covered = cell.expected in (OPEN, LOGIN)
            if isinstance(cell.expected, frozenset):
                is_covered = cell.repository == 0 and cell.expected != DELETE
            await self.check(200 if is_covered else 401, cell, bearer(token), "token of one repository")

    async def test_robots(self) -> None:
        """An admin's robot for pulling, as a password and as a token."""
        secret = await self.add_robot("admin", "pull:**")
        for cell in self.cells():
            expected = self.expect(cell, "admin", limits=PULL)
            await self.check(expected, cell, basic("admin", secret), "robot")
            if cell.expected != PASSWORD:
                await self.check(expected, cell, bearer(secret), "robot as a token")

    async def test_strangers(self) -> None:
        """Nobody, the wrong password, a disabled user and forged tokens get nothing."""
        await self.world.records.set_disabled("puller", True, now=START)
        token = (await self.ask(EVERY_SCOPE, user=None))["token"]
        for who, authorization in [
            ("nothing", {}),
            ("empty", basic("", "")),
            ("disabled", basic("puller", "secret")),
            ("forged", bearer(token[:-6] + "AAAAAA")),
            ("anonymous token", bearer(token)),
        ]:
            for cell in self.cells():
                is_open = cell.expected == OPEN or (cell.expected == PASSWORD and who in ("nothing", "empty"))
                if who == "disabled" and not is_open:
                    # Every request is a failed login.
                    self.throttle.succeeded("127.0.0.1", "puller")
                await self.check(200 if is_open else 401, cell, authorization, who)


class KleinMatrixTests(MatrixTests):
    """The same, with every request routed by Klein."""

    is_short = False


class AnonymousMatrixTests(TokenCase):
    """Anonymous where anonymous may push to everything, and pull."""

    anonymous_mode = "push"

    async def test_what_was_needed(self) -> None:
        """A refusal names the right that was needed, and a repository only where there is one."""
        for method, path, expected in [
            ("GET", "/metrics", {"Type": "registry", "Name": "metrics", "Action": "*"}),
            (
                "DELETE",
                "/v2/team/app/manifests/v1",
                {"Type": "repository", "Name": "team/app", "Action": "delete"},
            ),
        ]:
            reply = await self.call(method, path, user=None)
            self.assertEqual([expected], reply.json["errors"][0]["detail"]["access"])

    async def test_anonymous(self) -> None:
        """Everything but deleting, never 403."""
        for cell in cells_of(registry_routes(endpoints_of(self.world, self.access.token))):
            reply = await self.call(cell.method, cell.path, user=None)
            status = 401 if reply.status in (401, 403) else 200
            self.assertEqual(
                401 if cell.expected in (DELETE, METRICS) else 200, status, f"{cell.method} {cell.path}"
            )


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    """Return the header of a token."""
    return {"Authorization": f"Bearer {token}"}
