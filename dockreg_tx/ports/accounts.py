"""Users, their rights, robots and tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Account:
    """A user; ``grants`` are SPEC texts such as ``pull,push:team-a/**``."""

    name: str
    password_hash: str = field(repr=False)
    is_admin: bool = False
    is_disabled: bool = False
    grants: tuple[str, ...] = ()
    created_at: float = 0.0


class AccountRecords(Protocol):
    """Users and their grants; every change bumps the generation in the same transaction."""

    async def account(self, name: str) -> Account | None:
        """Return one user with the grants, or None."""
        ...

    async def accounts(self) -> list[Account]:
        """Return all users, sorted by name."""
        ...

    async def access_generation(self) -> int:
        """Return a number that grows whenever a user or grant changes, by any process."""
        ...

    async def add_account(self, account: Account) -> bool:
        """Add a user; False when the name is taken."""
        ...

    async def set_password_hash(self, name: str, password_hash: str, *, now: float) -> bool:
        """Replace the hash; False when there is no such user."""
        ...

    async def set_disabled(self, name: str, is_disabled: bool, *, now: float) -> bool:
        """Switch a user off or on; False when there is no such user."""
        ...

    async def remove_account(self, name: str, *, now: float) -> bool:
        """Remove a user and the grants; False when there is no such user."""
        ...

    async def add_grant(self, name: str, spec: str, *, now: float) -> bool:
        """Give a grant (no error when it is there already); False when there is no such user."""
        ...

    async def remove_grant(self, name: str, spec: str, *, now: float) -> bool:
        """Take a grant; False when the user does not have it."""
        ...


class TokenKind(StrEnum):
    """What a stored token is for."""

    #: Made by an operator, used as the password of its user.
    ROBOT = "robot"
    #: A refresh token, given to a client that logged in.
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token that stands for a user; times in seconds since the epoch."""

    id: str
    kind: TokenKind
    #: SHA-256 of the secret, in hexadecimal.
    hash: str = field(repr=False)
    user: str
    created_at: float
    #: The robot whose token the login was made with.
    robot_id: str | None = None
    #: SPEC texts that narrow what the user may do, None for all of it.
    grants: tuple[str, ...] | None = None
    note: str = ""
    expires_at: float | None = None
    used_at: float | None = None


class TokenRecords(Protocol):
    """Tokens of users; taking one away bumps the generation in the same transaction.

    A user's tokens go with the user, a robot's logins with the robot, and other logins with the password.
    """

    async def add_token(self, token: TokenRecord) -> bool:
        """Add a token; False when there is no such user or robot, or the id or hash is taken.

        Expired tokens of the user are removed, and the oldest logins beyond 100.
        """
        ...

    async def token(self, token_hash: str) -> TokenRecord | None:
        """Return the token with this hash, expired or not."""
        ...

    async def token_by_id(self, token_id: str) -> TokenRecord | None:
        """Return the token with this id, expired or not."""
        ...

    async def tokens(self) -> list[TokenRecord]:
        """Return all tokens, sorted by user and age, the oldest first."""
        ...

    async def note_token_use(self, token_id: str, *, now: float) -> bool:
        """Note that a token was used; False when there is none."""
        ...

    async def remove_token(self, token_id: str, *, now: float) -> bool:
        """Remove a token; False when there is none."""
        ...
