"""Who calls, and may they: asked once for every request, before any of its body is taken."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from dockreg_tx.access.basic import parse_basic
from dockreg_tx.access.grants import Principal, allows_any
from dockreg_tx.oci.errors import Denied, Unauthorized
from dockreg_tx.oci.names import RepositoryName


class Need(enum.Enum):
    """What a caller needs where no repository is involved."""

    #: Nothing at all.
    NOTHING = "nothing"
    #: To be a known user, or anonymous where anonymous may do anything.
    IDENTITY = "identity"


#: Actions of which a caller needs one, or a need without a repository.
Rights = tuple[str, ...] | Need


class Authenticator(Protocol):
    """What the guard needs of ``access.accounts``."""

    async def authenticate(self, username: str, password: str) -> Principal:
        """Return who these credentials belong to, or raise Unauthorized or TooManyRequests."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brings to say who calls; ``is_confidential``: over TLS or the loopback."""

    authorization: str | None
    is_confidential: bool

    def __repr__(self) -> str:
        return "Credentials(…)"


class Guard:
    """Identifies callers and checks their rights."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        anonymous: Principal,
        realm: str = "dockreg",
        require_tls: bool = False,
    ) -> None:
        self._authenticator = authenticator
        self.anonymous = anonymous
        self._require_tls = require_tls
        #: The WWW-Authenticate of every 401: one scheme, as clients stumble over several.
        self.challenge = f'Basic realm="{realm}"'

    async def identify(self, credentials: Credentials) -> Principal:
        """Return the caller.

        Raises:
            Unauthorized: the credentials are wrong; never taken for anonymous, or a login would seem to work.
            Denied: a password came in the clear, and the settings forbid it.
            TooManyRequests: too many passwords wait to be checked.
        """
        if credentials.authorization is None:
            return self.anonymous
        if self._require_tls and not credentials.is_confidential:
            raise Denied("this registry takes passwords over TLS only: use https")
        basic = parse_basic(credentials.authorization)
        if basic is None:
            raise Unauthorized("this registry takes user name and password (Basic): log in again")
        return await self._authenticator.authenticate(*basic)

    def check(self, principal: Principal, rights: Rights, repository: RepositoryName | None) -> None:
        """Let the caller pass.

        Raises:
            Unauthorized: anonymous may not do this; credentials could help.
            Denied: the user may not do this; the message names the missing right.
        """
        if rights is Need.NOTHING:
            return
        if rights is Need.IDENTITY:
            if principal.is_anonymous and not principal.grants:
                raise Unauthorized("authentication required: log in to this registry")
            return
        if allows_any(principal, rights, repository):
            return
        if principal.is_anonymous:
            raise Unauthorized(
                f"authentication required to {rights[0]}: log in to this registry",
                {"access": [{"Type": "repository", "Name": str(repository), "Action": rights[0]}]},
            )
        raise Denied(
            f"user {principal.name} may not {rights[0]} in {repository}: "
            f"ask the registry's operator for the grant {rights[0]}:{repository}",
            {"action": rights[0], "name": str(repository)},
        )

    def check_admitted(self, principal: Principal) -> None:
        """Refuse strangers where anonymous has no rights at all, before anything of the path is judged.

        Raises:
            Unauthorized: the caller is such a stranger.
        """
        self.check(principal, Need.IDENTITY, None)
