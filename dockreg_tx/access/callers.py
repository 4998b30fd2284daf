"""Who calls: any credentials in, a caller out. What is wrong is refused, never taken for anonymous."""

from __future__ import annotations

from dataclasses import dataclass

from dockreg_tx.access.accounts import Authenticator
from dockreg_tx.access.grants import Principal, decide
from dockreg_tx.access.robots import ROBOT_PREFIX, RandomBytes, StoredTokens, confined
from dockreg_tx.access.tokens import CACHE_LIMIT_ENTRIES, Asked, Claims, TokenIssuer, invalid_token
from dockreg_tx.oci.errors import Unauthorized
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import NewId, TokenKind


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls; with an access token, also what that was asked for: no more than that is allowed."""

    principal: Principal
    asked: Asked | None = None

    def may(self, action: str, repository: RepositoryName | None) -> bool:
        """Tell whether the caller may do an action."""
        is_covered = self.asked is None or self.asked.covers(action, repository)
        return is_covered and decide(self.principal, action, repository).is_allowed


class Callers:
    """Identifies callers.

    Args:
        passwords: verifies names and passwords, and knows users.
        stored: robots and logins.
        issuer: reads access tokens.
        anonymous: a caller without credentials.
        new_id, random_bytes: for new refresh tokens.
    """

    def __init__(
        self,
        *,
        passwords: Authenticator,
        stored: StoredTokens,
        issuer: TokenIssuer,
        anonymous: Principal,
        new_id: NewId,
        random_bytes: RandomBytes,
    ) -> None:
        self._passwords = passwords
        self._stored = stored
        self._issuer = issuer
        self._anonymous = anonymous
        self._new_id = new_id
        self._random_bytes = random_bytes
        self._generation: int | None = None
        self._version: int | None = None
        self._known: dict[Claims, Caller] = {}

    async def authenticate(self, username: str, password: str, source: str = "") -> Principal:
        """Return whom a name and password belong to; the password may be a robot's token.

        Args:
            username: of a user; empty with an empty password for anonymous.
            password: of the user, or the secret of one of its robots.
            source: the client's address.

        Raises:
            Unauthorized: they are wrong.
            TooManyRequests: the client failed too often, or too many passwords wait to be checked.
        """
        if password.startswith(ROBOT_PREFIX):
            robot = await self._robot(password)
            if robot is not None and robot.name == username:
                return robot
        # A password may begin like a robot's token; and a wrong token is as wrong as any password.
        return await self._passwords.authenticate(username, password, source)

    async def verify(self, token: str, *, version: int | None = None) -> Caller:
        """Return whom a Bearer token belongs to: one of ours, or the secret of a robot.

        Args:
            token: as it came.
            version: of the database as this request found it, if that is known: as long as it stays, nobody
                asks for the generation again.

        Raises:
            Unauthorized: it is forged, has expired, or its user, password or robot is not what it was.
        """
        if token.startswith(ROBOT_PREFIX):
            robot = await self._robot(token)
            if robot is None:
                raise invalid_token("the token is unknown, revoked or has expired")
            return Caller(robot)
        generation = self._generation
        if generation is None or version is None or version != self._version:
            generation = await self._passwords.generation()
        claims = self._issuer.verify(token, generation)
        if generation != self._generation:
            self._generation = generation
            self._known.clear()
        # Read before the generation: that one may be newer, never older.
        self._version = version
        known = self._known.get(claims)
        if known is not None:
            return known
        caller = await self._caller(claims)
        # A robot ends by the clock as well; and another request may have seen a newer generation meanwhile.
        if claims.robot_id is None and generation == self._generation:
            if len(self._known) >= CACHE_LIMIT_ENTRIES:
                self._known.clear()
            self._known[claims] = caller
        return caller

    async def _caller(self, claims: Claims) -> Caller:
        """Return whom the claims of a token mean.

        Raises:
            Unauthorized: its user, password or robot is not what it was.
        """
        if not claims.user:
            return Caller(self._anonymous, claims.asked)
        principal = await self._passwords.principal(claims.user)
        if principal is not None and claims.robot_id is not None:
            principal = await self._confined(principal, claims.robot_id)
        elif principal is not None and principal.fingerprint != claims.fingerprint:
            principal = None
        if principal is None:
            raise invalid_token("the token's user has changed: log in again")
        return Caller(principal, claims.asked)

    async def log_in(self, principal: Principal) -> str:
        """Return a new refresh token; empty for a user whom only a file knows: clients keep the password.

        Raises:
            Unauthorized: the user was removed meanwhile.
        """
        secret = await self._stored.add_login(principal, new_id=self._new_id, random_bytes=self._random_bytes)
        if not secret and await self._passwords.principal(principal.name) is None:
            raise Unauthorized("the user was removed")
        return secret

    async def refresh(self, refresh_token: str) -> Principal:
        """Return whom a refresh token belongs to.

        Raises:
            Unauthorized: it is unknown, was revoked, or was not used for long.
        """
        login = await self._stored.find(refresh_token, TokenKind.LOGIN)
        principal = None if login is None else await self._passwords.principal(login.user)
        if principal is not None and login is not None and login.robot_id is not None:
            principal = await self._confined(principal, login.robot_id)
        if principal is None:
            raise Unauthorized("the login has ended: log in again")
        return principal

    async def _robot(self, secret: str) -> Principal | None:
        robot = await self._stored.find(secret, TokenKind.ROBOT)
        principal = None if robot is None else await self._passwords.principal(robot.user)
        return None if principal is None or robot is None else confined(principal, robot)

    async def _confined(self, principal: Principal, robot_id: str) -> Principal | None:
        robot = await self._stored.robot(robot_id)
        return None if robot is None or robot.user != principal.name else confined(principal, robot)
