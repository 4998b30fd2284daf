"""Secrets that stand for a user: robot tokens, used as passwords, and refresh tokens of logins.

Both are 256 random bits of which only the SHA-256 is stored. There is nothing to guess, so nothing slow is
needed to verify them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dockreg_tx.access.accounts import readable_grants
from dockreg_tx.access.grants import Principal
from dockreg_tx.ports import AccountRecords, NewId, Now, TokenKind, TokenRecord, TokenRecords

ROBOT_PREFIX = "dkr_"
LOGIN_PREFIX = "dkl_"
#: A client that did not refresh for so long logs in again.
LOGIN_IDLE_SECONDS = 90 * 86_400
#: The last use is noted no more often than this, for it costs a write.
USE_NOTED_SECONDS = 3600.0
_SECRET_BYTES = 32

RandomBytes = Callable[[int], bytes]
_log = Logger()


def new_secret(prefix: str, random_bytes: RandomBytes) -> str:
    """Return a fresh secret: a prefix that scanners for leaked secrets know, and 256 random bits."""
    return prefix + base64.urlsafe_b64encode(random_bytes(_SECRET_BYTES)).decode("ascii").rstrip("=")


def secret_hash(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class StoredTokens:
    """Looks tokens up; what it found holds until the generation of access moves.

    Args:
        tokens: their records.
        accounts: tell the generation.
        now: seconds since the epoch.
    """

    def __init__(self, *, tokens: TokenRecords, accounts: AccountRecords, now: Now) -> None:
        self._tokens = tokens
        self._accounts = accounts
        self._now = now
        self._generation: int | None = None
        self._known: dict[str, TokenRecord] = {}
        self._noted_at: dict[str, float] = {}

    async def find(self, secret: str, kind: TokenKind) -> TokenRecord | None:
        """Return the token that a secret belongs to, None when there is none that is good."""
        token_hash = secret_hash(secret)
        return await self._find(token_hash, kind, lambda: self._tokens.token(token_hash))

    async def robot(self, robot_id: str) -> TokenRecord | None:
        """Return a robot by id, None when it is revoked or has expired."""
        return await self._find(robot_id, TokenKind.ROBOT, lambda: self._tokens.token_by_id(robot_id))

    async def add_login(self, principal: Principal, *, new_id: NewId, random_bytes: RandomBytes) -> str:
        """Return a new refresh token for a user; empty when the database does not know it."""
        secret = new_secret(LOGIN_PREFIX, random_bytes)
        token = TokenRecord(
            id=new_id(),
            kind=TokenKind.LOGIN,
            hash=secret_hash(secret),
            user=principal.name,
            created_at=self._now(),
            robot_id=principal.robot_id,
        )
        return secret if await self._tokens.add_token(token) else ""

    async def _find(
        self, key: str, kind: TokenKind, look: Callable[[], Awaitable[TokenRecord | None]]
    ) -> TokenRecord | None:
        generation = await self._accounts.access_generation()
        if generation != self._generation:
            self._generation = generation
            self._known.clear()
        token = self._known.get(key)
        if token is None:
            token = await look()
            if token is None:
                return None
            # Another request may have seen a newer generation meanwhile: then this row may be too old.
            if generation == self._generation:
                self._known[key] = token
        if token.kind is not kind or self._has_ended(token):
            return None
        self._note_use(token)
        return token

    def _has_ended(self, token: TokenRecord) -> bool:
        if token.kind is TokenKind.LOGIN:
            last_at = max(token.used_at or 0.0, token.created_at, self._noted_at.get(token.id, 0.0))
            return self._now() >= last_at + LOGIN_IDLE_SECONDS
        return token.expires_at is not None and self._now() >= token.expires_at

    def _note_use(self, token: TokenRecord) -> None:
        now = self._now()
        if now - max(token.used_at or 0.0, self._noted_at.get(token.id, 0.0)) < USE_NOTED_SECONDS:
            return
        self._noted_at[token.id] = now
        # Nobody waits for it.
        noted = Deferred.fromCoroutine(self._tokens.note_token_use(token.id, now=now))
        noted.addErrback(_log_failure)


def confined(principal: Principal, robot: TokenRecord) -> Principal:
    """Return a user as one of its robots: with no more rights than the robot's grants leave."""
    limits = None if robot.grants is None else readable_grants(robot.grants)
    return replace(principal, limits=limits, robot_id=robot.id)


def _log_failure(failure: Failure) -> None:
    _log.warn("the use of a token could not be noted: {error}", error=failure.getErrorMessage())
