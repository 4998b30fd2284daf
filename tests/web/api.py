"""The web layer over memory backends on a loopback port, with treq as its client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import treq
from twisted.internet import reactor  # noqa: TID251 - real sockets need the real reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from dockreg_tx.access.callers import Caller
from dockreg_tx.access.grants import Grant, Principal, anonymous_principal
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.metrics import Counts, totals
from dockreg_tx.oci.errors import Unauthorized
from dockreg_tx.registry.push import ManifestRules
from dockreg_tx.registry.search import Search
from dockreg_tx.web.answers import Answer
from dockreg_tx.web.audit import Auditor
from dockreg_tx.web.calls import Call
from dockreg_tx.web.exposition import Exposition
from dockreg_tx.web.guard import Guard
from dockreg_tx.web.health import Health
from dockreg_tx.web.links import Links
from dockreg_tx.web.origin import Origins
from dockreg_tx.web.recent import RecentAnswers
from dockreg_tx.web.routes import RegistryApp, RegistryResource, registry_app
from dockreg_tx.web.search import SearchIndex
from dockreg_tx.web.site import AccessEntry, RegistrySite
from dockreg_tx.web.table import Endpoints, registry_routes
from dockreg_tx.web.token import TokenService
from dockreg_tx.web.v2.base import Base
from dockreg_tx.web.v2.blobs import Blobs
from dockreg_tx.web.v2.catalog import Catalog
from dockreg_tx.web.v2.extensions import Extensions
from dockreg_tx.web.v2.manifests import Manifests
from dockreg_tx.web.v2.referrers import Referrers
from dockreg_tx.web.v2.tags import Tags
from dockreg_tx.web.v2.uploads import UploadSessions
from tests.registry.world import World

#: Users of the tests, each with the password "secret".
USERS: Mapping[str, Principal] = {
    "admin": Principal("admin", is_admin=True),
    "puller": Principal("puller", grants=(Grant.parse("Docker.Download"),)),
    "pusher": Principal("pusher", grants=(Grant.parse("Docker.Upload"),)),
    "creator": Principal("creator", grants=(Grant.parse("create,pull:**"),)),
    "team": Principal("team", grants=(Grant.parse("*:team/**"),)),
    "nobody": Principal("nobody"),
}


class FixedAuthenticator:
    """Knows ``USERS``."""

    async def authenticate(self, username: str, password: str, source: str = "") -> Principal:
        """Return the user, if the password is "secret"."""
        if username in USERS and password == "secret":
            return USERS[username]
        raise Unauthorized("wrong user name or password")

    async def verify(self, token: str, *, version: int | None = None) -> Caller:
        """Know no tokens."""
        raise Unauthorized("no tokens here")


@dataclass(frozen=True)
class Access:
    """Who knows the users, and gives tokens if any."""

    guard: Guard
    token: TokenService | None = None


class _NoTokens:
    """A token service that is never called."""

    async def get(self, call: Call) -> Answer:
        raise NotImplementedError

    post = keys = get


class Reply:
    """An answer, read whole."""

    def __init__(self, status: int, headers: Any, body: bytes, length: Any) -> None:
        self.status = status
        #: Content-Length of anything but a HEAD, which the client keeps apart from the headers.
        self.length = length
        self._headers = headers
        self.body = body

    def header(self, name: str) -> str | None:
        """Return the only value of a header, None when it is absent."""
        values = self._headers.getRawHeaders(name)
        if values is None:
            return None
        (value,) = values
        return str(value)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The first code of an OCI error body."""
        return str(self.json["errors"][0]["code"])


def endpoints_of(world: World, token: TokenService | None = None) -> Endpoints:
    """Return everything that answers, over the backends of a world."""
    links = Links()
    counts = Counts()
    return Endpoints(
        token=token or cast("TokenService", _NoTokens()),
        health=Health(checks={"database": world.records.check}),
        exposition=Exposition(
            totals=lambda: totals([counts.slots]), blocking=InlineBlocking(), version="test"
        ),
        base=Base(),
        blobs=Blobs(pull=world.pull, remove=world.remove, new_boundary=lambda: "boundary-of-the-tests"),
        uploads=UploadSessions(uploads=world.uploads, push=world.push, links=links),
        manifests=Manifests(pull=world.pull, push=world.push, remove=world.remove, links=links),
        tags=Tags(browse=world.browse, links=links),
        referrers=Referrers(browse=world.browse, links=links),
        catalog=Catalog(browse=world.browse, links=links),
        extensions=Extensions(),
        search=SearchIndex(search=Search(records=world.records)),
    )


class ApiCase(TestCase):
    """A test case with a registry at ``self.url``."""

    anonymous_mode: Any = "none"
    rules = ManifestRules()
    origins = Origins()
    #: Whether requests may take the short way.
    is_short = True
    timeout = 30

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        """Serve."""
        self.world = World(self.rules)
        self.accesses: list[AccessEntry] = []
        self.access = self.make_access()
        numbers = iter(range(1_000_000))
        site = RegistrySite(
            RegistryResource(self._app(), is_short=self.is_short),
            clock=reactor,
            new_request_id=lambda: f"request-{next(numbers)}",
            access_log=self.accesses.append,
        )
        self.port: IListeningPort = reactor.listenTCP(
            0,
            site,  # type: ignore[arg-type]  # a factory of its own kind of protocol
            interface="127.0.0.1",
        )
        self.number: int = self.port.getHost().port  # type: ignore[attr-defined]  # IPv4Address
        self.url = f"http://127.0.0.1:{self.number}"
        pool = HTTPConnectionPool(reactor, persistent=True)
        self.client = treq.client.HTTPClient(Agent(reactor, pool=pool))
        self.addCleanup(self.port.stopListening)
        self.addCleanup(pool.closeCachedConnections)

        return Deferred.fromCoroutine(self.fill())

    def make_auditor(self) -> Auditor | None:
        """Return who takes notes."""
        return None

    def make_recent(self) -> RecentAnswers | None:
        """Return who repeats answers."""
        return None

    def _app(self) -> RegistryApp:
        return registry_app(
            registry_routes(self._endpoints()),
            guard=self.access.guard,
            origins=self.origins,
            auditor=self.make_auditor(),
            recent=self.make_recent(),
        )

    def make_access(self) -> Access:
        """Return who knows the users."""
        anonymous = anonymous_principal(self.anonymous_mode, ())
        return Access(Guard(authenticator=FixedAuthenticator(), anonymous=anonymous))

    async def fill(self) -> None:
        """Put something into the registry, before each test."""

    def _endpoints(self) -> Endpoints:
        return endpoints_of(self.world, self.access.token)

    async def call(
        self,
        method: str,
        path: str,
        *,
        user: str | None = "admin",
        password: str = "secret",
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> Reply:
        """Return the answer to a request."""
        response = await self.client.request(
            method,
            self.url + path,
            auth=None if user is None else (user, password),
            headers=Headers({name: [value] for name, value in (headers or {}).items()}),
            data=data,
            allow_redirects=False,
        )
        return Reply(response.code, response.headers, await treq.content(response), response.length)
