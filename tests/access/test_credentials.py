"""Tests of ``dockreg_tx.access.callers`` and ``robots``."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.accounts import Authenticator
from dockreg_tx.access.callers import Caller, Callers
from dockreg_tx.access.grants import Grant, Principal, anonymous_principal
from dockreg_tx.access.keys import KeyRing, ensure_key
from dockreg_tx.access.passwords import hash_password
from dockreg_tx.access.robots import (
    LOGIN_IDLE_SECONDS,
    USE_NOTED_SECONDS,
    StoredTokens,
    confined,
    new_secret,
    secret_hash,
)
from dockreg_tx.access.tokens import RETIRED_SECONDS, TokenIssuer, granted_part
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.oci.errors import Unauthorized
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.scopes import parse_scopes
from dockreg_tx.ports import Account, TokenKind, TokenRecord
from tests.access.test_accounts import Accounts

START = 1_800_000_000.0
HASH = hash_password("secret", 4)
APP = RepositoryName("team/app")


class Tokens:
    """The questions of ``TokenRecords`` that are asked here."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.rows: list[TokenRecord] = []
        self.noted: list[str] = []
        self.error: Exception | None = None
        self.meanwhile: Callable[[], object] | None = None

    async def token(self, token_hash: str) -> TokenRecord | None:
        if self.meanwhile is not None:
            self.meanwhile()
        return next((row for row in self.rows if row.hash == token_hash), None)

    async def token_by_id(self, token_id: str) -> TokenRecord | None:
        return next((row for row in self.rows if row.id == token_id), None)

    async def add_token(self, token: TokenRecord) -> bool:
        if token.user not in self.accounts.rows:
            return False
        self.rows.append(token)
        return True

    async def note_token_use(self, token_id: str, *, now: float) -> None:
        if self.error is not None:
            raise self.error
        self.noted.append(token_id)


class CallersTests(SynchronousTestCase):
    """Any credentials in, a caller out."""

    def setUp(self) -> None:
        """Know alice, who has a robot."""
        directory = self.mktemp()
        os.mkdir(directory)
        ensure_key(directory, now=START)
        self.at = START
        self.accounts = Accounts(Account("alice", HASH, grants=("pull,push:**",)))
        self.tokens = Tokens(self.accounts)
        anonymous = anonymous_principal("pull", ())
        keys = KeyRing(directory=directory, now=self.now, retired_seconds=RETIRED_SECONDS)
        self.issuer = TokenIssuer(keys=keys, service="test", now=self.now, new_id=lambda: "id")
        self.stored = StoredTokens(tokens=self.tokens, accounts=self.accounts, now=self.now)  # type: ignore[arg-type]  # what is asked
        self.callers = Callers(
            passwords=Authenticator(
                accounts=self.accounts,
                blocking=InlineBlocking(),
                clock=Clock(),
                secret=b"s" * 32,
                anonymous=anonymous,
                dummy_hash=hash_password("dummy", 4),
            ),
            stored=self.stored,
            issuer=self.issuer,
            anonymous=anonymous,
            new_id=lambda: f"id-{len(self.tokens.rows)}",
            random_bytes=os.urandom,
        )
        self.robot = self.add_robot("robot", ("pull:**",))

    def now(self) -> float:
        """Return the time."""
        return self.at

    def add_robot(
        self, robot_id: str, grants: tuple[str, ...] | None, expires_at: float | None = None
    ) -> str:
        """Add a robot of alice and return its secret."""
        secret = new_secret("dkr_", os.urandom)
        self.tokens.rows.append(
            TokenRecord(
                robot_id, TokenKind.ROBOT, secret_hash(secret), "alice", START, None, grants, "", expires_at
            )
        )
        return secret

    def result(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what work comes to."""
        return self.successResultOf(work)

    def refused(self, work: Coroutine[Any, Any, Any]) -> None:
        """Check that credentials are refused."""
        self.failureResultOf(work).trap(Unauthorized)

    def alice(self) -> Principal:
        """Return alice by her password."""
        principal: Principal = self.result(self.callers.authenticate("alice", "secret"))
        return principal

    def issue(self, principal: Principal) -> str:
        """Return an access token for pulling and pushing."""
        granted, refused = granted_part(principal, parse_scopes("repository:team/app:pull,push"))
        return self.issuer.issue(principal, granted=granted, refused=refused)

    def test_password(self) -> None:
        """A name with a password; nothing at all is anonymous; a wrong one is nobody."""
        self.assertEqual("alice", self.alice().name)
        self.assertTrue(self.result(self.callers.authenticate("", "")).is_anonymous)
        self.refused(self.callers.authenticate("alice", "wrong"))

    def test_robot(self) -> None:
        """A robot's secret is its user's password, and a token; it narrows what the user may do."""
        for principal in (
            self.result(self.callers.authenticate("alice", self.robot)),
            self.result(self.callers.verify(self.robot)).principal,
        ):
            self.assertEqual(("alice", "robot"), (principal.name, principal.robot_id))
            self.assertTrue(Caller(principal).may("pull", APP))
            self.assertFalse(Caller(principal).may("push", APP))
        unlimited = self.result(self.callers.verify(self.add_robot("all", None))).principal
        self.assertTrue(Caller(unlimited).may("push", APP))
        for name, secret in (("bob", self.robot), ("alice", self.robot + "x")):
            self.refused(self.callers.authenticate(name, secret))
        self.refused(self.callers.verify("dkr_unknown"))

    def test_robot_of_nobody(self) -> None:
        """A robot goes with its user, and an expired one is none."""
        expired = self.add_robot("expired", None, START + 10)
        self.result(self.callers.verify(expired))
        self.at = START + 10
        self.refused(self.callers.verify(expired))
        del self.accounts.rows["alice"]
        self.accounts.generation += 1
        self.refused(self.callers.verify(self.robot))

    def test_access_token(self) -> None:
        """A token stands for its user within what it was asked for; a new password ends it."""
        token = self.issue(self.alice())
        caller = self.result(self.callers.verify(token))
        self.assertTrue(caller.may("pull", APP))
        self.assertFalse(caller.may("delete", APP))
        self.assertFalse(caller.may("pull", RepositoryName("other")))
        self.accounts.change(Account("alice", hash_password("new", 4)))
        self.refused(self.callers.verify(token))
        anonymous = self.issue(anonymous_principal("pull", ()))
        self.assertTrue(self.result(self.callers.verify(anonymous)).principal.is_anonymous)

    def test_access_token_of_a_robot(self) -> None:
        """A robot's token ends with the robot, and is confined as it is."""
        robot = self.result(self.callers.authenticate("alice", self.robot))
        token = self.issue(robot)
        self.assertEqual("robot", self.result(self.callers.verify(token)).principal.robot_id)
        self.assertFalse(self.result(self.callers.verify(token)).may("push", APP))
        self.tokens.rows.clear()
        self.accounts.generation += 1
        self.refused(self.callers.verify(token))

    def test_login(self) -> None:
        """A refresh token stands for its user, or its robot, until nobody has used it for long."""
        robot = self.result(self.callers.authenticate("alice", self.robot))
        for principal in (self.alice(), robot):
            secret = self.result(self.callers.log_in(principal))
            found = self.result(self.callers.refresh(secret))
            self.assertEqual((principal.name, principal.robot_id), (found.name, found.robot_id))
            self.refused(self.callers.verify(secret))
        self.at += LOGIN_IDLE_SECONDS
        self.refused(self.callers.refresh(secret))
        self.refused(self.callers.refresh("dkl_unknown"))

    def test_login_without_a_row(self) -> None:
        """Who is no user of the database gets no refresh token; who is no user at all is refused."""
        alice = self.alice()
        bob = Principal("bob")
        self.refused(self.callers.log_in(bob))
        # As with a file beside the database: known to the one, not to the other.
        self.tokens.accounts = Accounts()
        self.assertEqual("", self.result(self.callers.log_in(alice)))

    def test_use_is_noted(self) -> None:
        """The last use is noted at most once an hour, and a failure of that stops nobody."""
        for _ in range(3):
            self.result(self.callers.verify(self.robot))
        self.assertEqual(["robot"], self.tokens.noted)
        self.at += USE_NOTED_SECONDS
        self.tokens.error = OSError("the disk is full")
        self.result(self.callers.verify(self.robot))
        self.assertEqual(["robot"], self.tokens.noted)

    def test_old_row(self) -> None:
        """A row that was read while the users changed is not kept."""

        def meanwhile() -> None:
            self.accounts.generation += 1
            self.result(self.stored.robot("robot"))

        self.tokens.meanwhile = meanwhile
        self.result(self.callers.verify(self.robot))
        self.assertEqual(["robot"], list(self.stored._known))
        self.tokens.meanwhile = None
        self.result(self.callers.verify(self.robot))
        self.assertEqual(["robot", secret_hash(self.robot)], list(self.stored._known))

    def test_unreadable_grant(self) -> None:
        """A robot's grant that this version cannot read gives nothing."""
        record = TokenRecord("r", TokenKind.ROBOT, "h", "alice", START, None, ("fly:**",))
        principal = confined(Principal("alice", grants=(Grant.parse("*:**"),)), record)
        self.assertFalse(Caller(principal).may("pull", APP))
