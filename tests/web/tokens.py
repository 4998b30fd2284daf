"""The web layer with everything that knows users, robots and tokens, over memory and a key on disk."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor  # noqa: TID251 - real sockets need the real reactor

from dockreg_tx.access.accounts import Authenticator, KnownAccounts
from dockreg_tx.access.callers import Callers
from dockreg_tx.access.grants import Grant, anonymous_principal
from dockreg_tx.access.keys import KeyRing, ensure_key
from dockreg_tx.access.passwords import hash_password
from dockreg_tx.access.recent_callers import RecentCallers
from dockreg_tx.access.robots import StoredTokens, secret_hash
from dockreg_tx.access.throttle import Throttle
from dockreg_tx.access.tokens import RETIRED_SECONDS, TokenIssuer
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.ports import Account, TokenKind, TokenRecord
from dockreg_tx.web.guard import Guard
from dockreg_tx.web.token import TokenService
from tests.web.api import Access, ApiCase, Reply

START = 1_800_000_000.0
HASH = hash_password("secret", 4)
#: Each with the password "secret".
GRANTS: dict[str, tuple[str, ...]] = {
    "admin": (),
    "puller": ("pull:**",),
    "pusher": ("push:**",),
    "creator": ("create,pull:**",),
    "deleter": ("delete:**",),
    "team": ("*:team/**",),
    "denied": ("*:**", "!*:team/**"),
    "nobody": (),
    "watcher": ("metrics",),
}


class TokenCase(ApiCase):
    """A registry with users, robots and a token service."""

    challenge: Any = "bearer"
    require_tls = False
    anonymous_grants: tuple[str, ...] = ()

    def make_access(self) -> Access:
        """Put everything together as the server does."""
        directory = self.mktemp()
        os.mkdir(directory)
        self.at = START
        ensure_key(directory, now=START)
        records = self.world.records
        anonymous = anonymous_principal(self.anonymous_mode, map(Grant.parse, self.anonymous_grants))
        self.keys = keys = KeyRing(directory=directory, now=self.now, retired_seconds=RETIRED_SECONDS)
        issuer = TokenIssuer(keys=keys, service="dockreg-test", now=self.now, new_id=lambda: "id")
        self.throttle = Throttle(reactor)
        self.callers = Callers(
            passwords=Authenticator(
                accounts=self.known_accounts(),
                blocking=InlineBlocking(),
                clock=reactor,
                secret=b"s" * 32,
                anonymous=anonymous,
                throttle=self.throttle,
                dummy_hash=hash_password("dummy", 4),
            ),
            stored=StoredTokens(tokens=records, accounts=records, now=self.now),
            issuer=issuer,
            anonymous=anonymous,
            new_id=lambda: os.urandom(8).hex(),
            random_bytes=os.urandom,
        )
        guard = Guard(
            authenticator=self.callers,
            anonymous=anonymous,
            challenge=self.challenge,
            service="dockreg-test",
            require_tls=self.require_tls,
            recent=self.recent_callers(),
        )
        service = TokenService(issuer=issuer, logins=self.callers, keys=keys, guard=guard, now=self.now)
        return Access(guard, service)

    def known_accounts(self) -> KnownAccounts:
        """Return who knows the users."""
        return self.world.records

    def recent_callers(self) -> RecentCallers | None:
        """Return who knows callers again; the clock of these tests stands, so only a change ends it."""
        return RecentCallers(generation=self.world.records.generation_at_once, now=self.now, secret=b"s" * 32)

    def now(self) -> float:
        """Return the time of day of these tests."""
        return self.at

    async def fill(self) -> None:
        """Add the users."""
        for name, grants in GRANTS.items():
            account = Account(name, HASH, is_admin=name == "admin", grants=grants)
            await self.world.records.add_account(account)

    async def add_robot(self, user: str, *specs: str, expires_at: float | None = None) -> str:
        """Add a robot of a user and return its secret."""
        secret = f"dkr_{user}-{'-'.join(specs)}"
        robot = TokenRecord(
            f"robot-{user}",
            TokenKind.ROBOT,
            secret_hash(secret),
            user,
            START,
            grants=specs or None,
            expires_at=expires_at,
        )
        self.assertTrue(await self.world.records.add_token(robot))
        return secret

    async def ask(
        self, scope: str = "", *, user: str | None = "admin", password: str = "secret", more: str = ""
    ) -> Any:
        """Return the document that the token endpoint gives."""
        reply = await self.call("GET", f"/token?scope={scope}{more}", user=user, password=password)
        self.assertEqual(200, reply.status, reply.body)
        return reply.json

    async def bearer(
        self, method: str, path: str, token: str, headers: dict[str, str] | None = None
    ) -> Reply:
        """Return the answer to a request with a token."""
        return await self.call(
            method, path, user=None, headers={"Authorization": f"Bearer {token}", **(headers or {})}
        )
