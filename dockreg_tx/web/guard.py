"""Who calls, and may they: asked once for every request, before any of its body is taken."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from dockreg_tx.access.basic import parse_basic
from dockreg_tx.access.callers import Caller
from dockreg_tx.access.grants import Principal, allows_any, may_push_everywhere
from dockreg_tx.access.recent_callers import RecentCallers
from dockreg_tx.access.tokens import CATALOG, Asked
from dockreg_tx.metrics import Counts
from dockreg_tx.oci.errors import Denied, RegistryError, TooManyRequests, Unauthorized
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.scopes import Action, Scope
from dockreg_tx.web.origin import Origin


class Need(enum.Enum):
    """What a caller needs where no right is involved."""

    #: Nothing at all; who calls is not even asked.
    NOTHING = "nothing"
    #: Good credentials or none; the handler decides. Only passwords count, no access tokens.
    PASSWORD = "password"  # noqa: S105 - a word
    #: To be a known user, or anonymous where anonymous may do anything.
    IDENTITY = "identity"
    #: The same; but where anonymous may not push, clients are asked to log in, so that users can.
    LOGIN = "login"


#: Actions of which a caller needs one, or a need without a right.
Rights = tuple[str, ...] | Need
Challenge = Literal["basic", "bearer"]
#: The actions of the scope that clients are told to ask for, by the first action that is needed.
_ASK_FOR = {
    Action.PULL: ("pull",),
    Action.PUSH: ("pull", "push"),
    Action.CREATE: ("pull", "push"),
    Action.DELETE: ("delete",),
}


class Authenticator(Protocol):
    """What the guard needs of ``access.callers``."""

    async def authenticate(self, username: str, password: str, source: str = "") -> Principal:
        """Return who these credentials belong to, or raise Unauthorized or TooManyRequests."""
        ...

    async def verify(self, token: str, *, version: int | None = None) -> Caller:
        """Return who this token belongs to, or raise Unauthorized."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about, as far as rights go; ``further``: what it needs in other repositories."""

    rights: Rights
    repository: RepositoryName | None = None
    further: tuple[Scope, ...] = ()

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """What a client should ask for."""
        if isinstance(self.rights, Need):
            return ()
        return (*_scopes(self.rights[0], self.repository), *self.further)


class Guard:
    """Identifies callers and checks their rights.

    Args:
        authenticator: knows users, robots and tokens.
        anonymous: who calls without credentials.
        challenge: what a 401 asks for: one scheme, as clients stumble over several.
        service: name of this registry for token requests.
        require_tls: refuse credentials that others can read on their way.
        counts: take every look at credentials.
        recent: knows callers again; None: everybody proves themselves each time.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        anonymous: Principal,
        challenge: Challenge = "basic",
        service: str = "dockreg",
        require_tls: bool = False,
        counts: Counts | None = None,
        recent: RecentCallers | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._recent = recent
        self.anonymous = anonymous
        self._challenge = challenge
        self._service = service
        self._require_tls = require_tls
        self._counts = counts or Counts()
        self._accepted = {
            kind: self._counts.adder("dockreg_logins", kind, "accepted") for kind in ("password", "token")
        }
        self._is_open = challenge == "basic" or may_push_everywhere(anonymous)

    def challenge(self, origin: Origin, scopes: Sequence[Scope] = (), reason: str = "") -> str:
        """Return the WWW-Authenticate of a 401: pairs of key and quoted value, none of them empty."""
        if self._challenge == "basic":
            return 'Basic realm="dockreg"'
        pairs = [("realm", f"{origin.base_url}/token"), ("service", self._service)]
        if scopes:
            pairs.append(("scope", " ".join(map(str, scopes))))
        if reason:
            pairs.append(("error", reason))
        return "Bearer " + ",".join(f'{key}="{value}"' for key, value in pairs)

    def known(self, authorization: str | None, origin: Origin) -> Caller | None:
        """Return at once who was let in with the same password a moment ago, else None.

        Raises:
            Denied: as ``identify``.
        """
        recent = self._recent
        if recent is None or authorization is None or not authorization.startswith("Basic "):
            return None
        page = recent.page()
        if not page:
            return None
        caller = page.get(recent.key(authorization))
        if caller is not None:
            self.check_confidential(origin)
            self._accepted["password"]()
        return caller

    async def identify(
        self,
        authorization: str | None,
        origin: Origin,
        *,
        takes_tokens: bool = True,
        version: int | None = None,
    ) -> Caller:
        """Return the caller.

        Args:
            authorization: the header.
            origin: of the request.
            takes_tokens: whether Bearer tokens count.
            version: of the database as this request found it, if that is known.

        Raises:
            Unauthorized: the credentials are wrong; never taken for anonymous, or a login would seem to work.
            Denied: credentials came in the clear, and the settings forbid it.
            TooManyRequests: the client failed too often, or too many passwords wait to be checked.
        """
        if authorization is None:
            return Caller(self.anonymous)
        self.check_confidential(origin)
        scheme, _, token = authorization.strip(" \t").partition(" ")
        if scheme.lower() == "bearer" and takes_tokens:
            try:
                caller = await self._authenticator.verify(token.strip(" \t"), version=version)
            except (Unauthorized, TooManyRequests) as error:
                self._count_refusal("token", error)
                raise
            self._accepted["token"]()
            return caller
        page = None if self._recent is None else self._recent.page()
        basic = parse_basic(authorization)
        if basic is None:
            raise Unauthorized("this registry takes user name and password: log in again")
        caller = Caller(await self.authenticate(*basic, origin))
        if self._recent is not None and page is not None:
            self._recent.note(page, authorization, caller)
        return caller

    async def authenticate(self, username: str, password: str, origin: Origin) -> Principal:
        """Return whom a name and password belong to.

        Raises:
            Unauthorized, TooManyRequests, Denied: as ``identify``.
        """
        self.check_confidential(origin)
        try:
            principal = await self._authenticator.authenticate(username, password, origin.address)
        except (Unauthorized, TooManyRequests) as error:
            self._count_refusal("password", error)
            raise
        self._accepted["password"]()
        return principal

    def _count_refusal(self, credential: str, error: RegistryError) -> None:
        result = "throttled" if isinstance(error, TooManyRequests) else "refused"
        self._counts.add("dockreg_logins", 1, credential, result)

    def check_confidential(self, origin: Origin) -> None:
        """Refuse credentials that others could have read, if the settings say so.

        Raises:
            Denied: they came in the clear.
        """
        if self._require_tls and not origin.is_confidential:
            raise Denied("this registry takes passwords and tokens over TLS only: use https")

    def check(self, caller: Caller, target: Target) -> None:
        """Let the caller pass.

        Raises:
            Unauthorized: anonymous may not do this, or the token was not asked for it; credentials, or
                another token, could help.
            Denied: the user may not do this; the message names the missing right.
        """
        rights, principal = target.rights, caller.principal
        if rights in (Need.NOTHING, Need.PASSWORD):
            return
        if isinstance(rights, Need):
            self._check_identity(caller, is_login=rights is Need.LOGIN)
            return
        covered = rights
        if caller.asked is not None:
            covered = caller.asked.covered(rights, target.repository)
        if not allows_any(principal, covered, target.repository):
            raise self._refusal(principal, target, covered)
        if caller.asked is not None:
            self._check_further(caller.asked, target)

    def check_admitted(self, caller: Caller, target: Target) -> None:
        """Refuse strangers where anonymous has no rights at all, before anything of the path is judged.

        Raises:
            Unauthorized: the caller is such a stranger.
        """
        if caller.principal.is_anonymous and target.rights not in (Need.NOTHING, Need.PASSWORD):
            self._check_identity(caller, is_login=False)

    def _check_identity(self, caller: Caller, *, is_login: bool) -> None:
        principal = caller.principal
        is_asked = is_login and not self._is_open and caller.asked is None
        if principal.is_anonymous and (is_asked or not principal.grants):
            raise Unauthorized("authentication required: log in to this registry")

    def _refusal(
        self, principal: Principal, target: Target, covered: tuple[str, ...]
    ) -> Unauthorized | Denied:
        """Return why a caller whose token covers these of the needed rights may not pass."""
        assert not isinstance(target.rights, Need)  # noqa: S101 - for the types; check saw to it
        open_rights = tuple(right for right in target.rights if right not in covered)
        helpful = [right for right in open_rights if allows_any(principal, (right,), target.repository)]
        if helpful or (open_rights and not covered):
            asked_for = _scopes((helpful or open_rights)[0], target.repository)
            return insufficient_scope((*asked_for, *target.further))
        right = target.rights[0]
        where = "" if target.repository is None else f" in {target.repository}"
        if principal.is_anonymous:
            return Unauthorized(
                f"authentication required to {right}{where}: log in to this registry",
                _needed(right, target.repository),
            )
        grant = right if target.repository is None else f"{right}:{target.repository}"
        who = f"user {principal.name}" if principal.robot_id is None else f"this token of {principal.name}"
        return Denied(
            f"{who} may not {right}{where}: ask the registry's operator for the grant {grant}",
            {"action": right, "name": str(target.repository or "")},
        )

    def _check_further(self, asked: Asked, target: Target) -> None:
        """Have a client ask for what it needs elsewhere too; once it has, the handler does what it can."""
        for scope in target.further:
            if not all(asked.covers(action, RepositoryName(scope.name)) for action in scope.actions):
                raise insufficient_scope(target.scopes)


def insufficient_scope(scopes: Sequence[Scope]) -> Unauthorized:
    """Return the refusal upon which clients fetch a token with these scopes."""
    asked = " ".join(map(str, scopes))
    if not scopes:
        # No scope stands for metrics.
        return InsufficientScope("no fetched token opens this: use a password or a robot's token", scopes)
    return InsufficientScope(f"the token was not asked for {asked}: fetch another one", scopes)


class InsufficientScope(Unauthorized):
    """A token was not asked for what it is used for."""

    def __init__(self, message: str, scopes: Sequence[Scope]) -> None:
        super().__init__(message, reason="insufficient_scope")
        self.scopes = tuple(scopes)


def _needed(right: str, repository: RepositoryName | None) -> dict[str, object]:
    """Return what a refusal says of the right, as distribution's do."""
    if repository is None:
        return {"access": [{"Type": "registry", "Name": right, "Action": "*"}]}
    return {"access": [{"Type": "repository", "Name": repository.text, "Action": right}]}


def _scopes(right: str, repository: RepositoryName | None) -> tuple[Scope, ...]:
    if repository is None:
        return (CATALOG,) if right == Action.CATALOG else ()
    return (Scope("repository", repository.text, _ASK_FOR[Action(right)]),)
