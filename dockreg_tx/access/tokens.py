"""Access tokens: what they say, how they are signed and verified; pure apart from the keys.

A token (JWT, ES256) names its user and the scopes that were asked for. It gives no right by itself: each
request is decided again by what the user may do at that moment, so taking a right away needs no list of
revoked tokens.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError

from dockreg_tx.access.grants import Principal, decide
from dockreg_tx.access.keys import ALGORITHM, KeyRing
from dockreg_tx.oci.errors import NameInvalid, Unauthorized
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.scopes import Action, Scope
from dockreg_tx.ports import NewId, Now

TOKEN_SECONDS = 300
#: Clocks of the machines that share a registry may differ by so much.
LEEWAY_SECONDS = 60
#: A key that was replaced verifies for so long: until its last token has ended.
RETIRED_SECONDS = TOKEN_SECONDS + LEEWAY_SECONDS
#: Longer than any of ours; nothing is spent on what cannot be one.
TOKEN_LIMIT_CHARACTERS = 48 * 1024
CACHE_LIMIT_ENTRIES = 10_000
#: How long a look at the keys holds for remembered tokens: each look costs as much as the rest of the check.
LOOK_SECONDS = 1.0
CATALOG = Scope("registry", "catalog", ("*",))
#: A token with any other header (jwk, jku, x5u, x5c, crit …) is not ours.
_HEADERS = frozenset({"typ", "alg", "kid"})
#: Which actions each action of a scope stands for.
_MEANING = {
    "pull": frozenset({Action.PULL}),
    "push": frozenset({Action.PUSH, Action.CREATE}),
    "delete": frozenset({Action.DELETE}),
    "*": frozenset({Action.PULL, Action.PUSH, Action.CREATE, Action.DELETE}),
}
_EVERY = ("pull", "push", "delete")


@dataclass(frozen=True, slots=True)
class Asked:
    """The scopes that a token was asked for; whether they are granted is another question."""

    scopes: tuple[Scope, ...]
    _actions: Mapping[tuple[str, str], frozenset[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        actions: dict[tuple[str, str], frozenset[str]] = {}
        for scope in self.scopes:
            key = scope.type, scope.name
            meant = (_MEANING.get(action, frozenset()) for action in scope.actions)
            actions[key] = actions.get(key, frozenset[str]()).union(*meant)
        object.__setattr__(self, "_actions", actions)

    def covered(self, actions: tuple[str, ...], repository: RepositoryName | None) -> tuple[str, ...]:
        """Return those of some actions that are among what was asked for."""
        if len(actions) == 1:
            return actions if self.covers(actions[0], repository) else ()
        return tuple(action for action in actions if self.covers(action, repository))

    def covers(self, action: str, repository: RepositoryName | None) -> bool:
        """Tell whether an action in a repository (None: the catalog) is among what was asked for."""
        if repository is None:
            return action == Action.CATALOG and (CATALOG.type, CATALOG.name) in self._actions
        return action in self._actions.get(("repository", repository.text), frozenset())


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """What a good token says; the same object as long as the token is remembered."""

    #: Empty for anonymous.
    user: str
    #: The robot whose token it was fetched with.
    robot_id: str | None
    #: Of the stored password when the token was made, empty for robots and anonymous.
    fingerprint: str
    asked: Asked
    expires_at: float


def password_fingerprint(password_hash: str) -> str:
    """Return what tells one stored password from the next; the hash's salt keeps it unguessable."""
    return hashlib.sha256(b"dockreg password\0" + password_hash.encode()).hexdigest()[:32]


def granted_part(principal: Principal, scopes: Iterable[Scope]) -> tuple[list[Scope], list[Scope]]:
    """Return what of some scopes the principal has, and what it does not.

    Scopes of one target are joined; of ``*`` what can be had is named, and the rest refused.
    """
    granted: list[Scope] = []
    refused: list[Scope] = []
    for scope in _joined(scopes):
        have, lack = _split(principal, scope)
        if have:
            granted.append(Scope(scope.type, scope.name, have))
        if lack:
            refused.append(Scope(scope.type, scope.name, lack))
    return granted, refused


class TokenIssuer:
    """Makes access tokens, and reads them.

    Args:
        keys: the signing keys.
        service: name of this registry, issuer and audience in one.
        now: seconds since the epoch.
        new_id: for ``jti``.
    """

    def __init__(self, *, keys: KeyRing, service: str, now: Now, new_id: NewId) -> None:
        self.service = service
        self._keys = keys
        self._now = now
        self._new_id = new_id
        self._verified: OrderedDict[str, Claims] = OrderedDict()
        self._version = -1
        self._generation: int | None = None
        self._looked_at = 0.0

    def issue(self, principal: Principal, *, granted: Sequence[Scope], refused: Sequence[Scope]) -> str:
        """Return a token for 300 s."""
        key = self._keys.signing_key()
        issued_at = int(self._now())
        claims: dict[str, Any] = {
            "iss": self.service,
            "sub": principal.name,
            "aud": self.service,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + TOKEN_SECONDS,
            "jti": self._new_id(),
            "access": [_document(scope) for scope in granted],
        }
        if refused:
            # A client that asks again in vain is told 403, not sent for another token.
            claims["refused"] = [_document(scope) for scope in refused]
        if principal.robot_id is not None:
            claims["robot"] = principal.robot_id
        elif principal.fingerprint:
            claims["fpr"] = principal.fingerprint
        header = {"typ": "JWT", "alg": ALGORITHM, "kid": key.key_id}
        return jwt.encode(header, claims, key.key, algorithms=[ALGORITHM])

    def verify(self, token: str, generation: int | None = None) -> Claims:
        """Return what a token says, if it is ours and in force.

        Args:
            token: as it was sent.
            generation: of access at this moment. While it stays, a remembered token is trusted for up to
                a second after its key was taken away; None to look at the keys each time.

        Raises:
            Unauthorized: it is not.
        """
        now = self._now()
        if (
            generation is None
            or generation != self._generation
            or not 0 <= now - self._looked_at < LOOK_SECONDS
        ):
            self._look(generation, now)
        # By the text itself: hashing it costs more than all the rest, and memory holds it anyway.
        claims = self._verified.get(token)
        if claims is None:
            claims = self._read(token)
            self._verified[token] = claims
            if len(self._verified) > CACHE_LIMIT_ENTRIES:
                self._verified.popitem(last=False)
        if now >= claims.expires_at + LEEWAY_SECONDS:
            self._verified.pop(token, None)
            raise invalid_token("the token has expired: fetch a new one")
        return claims

    def _look(self, generation: int | None, now: float) -> None:
        """Forget all tokens if a key may be gone."""
        version = self._keys.version
        if version != self._version:
            self._verified.clear()
            self._version = version
        self._generation = generation
        self._looked_at = now

    def _read(self, token: str) -> Claims:
        if len(token) > TOKEN_LIMIT_CHARACTERS or not token.isascii():
            raise invalid_token("this is no token of this registry")
        try:
            read = jwt.decode(token, self._find_key, algorithms=[ALGORITHM])
        except (JoseError, ValueError, LookupError, TypeError):
            # Not chained: nothing of a forged token belongs into our log.
            raise invalid_token("this is no token of this registry") from None
        claims = read.claims
        is_ours = claims.get("iss") == self.service and claims.get("aud") in (self.service, [self.service])
        if not is_ours:
            raise invalid_token("the token was made for another registry")
        # Signed by us, so of our form, unless another release of ours made it.
        try:
            begins_at, expires_at = float(claims["nbf"]), float(claims["exp"])
            found = Claims(
                user=str(claims["sub"]),
                robot_id=claims.get("robot"),
                fingerprint=str(claims.get("fpr", "")),
                asked=Asked(tuple(map(_scope, [*claims["access"], *claims.get("refused", ())]))),
                expires_at=expires_at,
            )
        except (LookupError, TypeError, ValueError):
            raise invalid_token("the token does not say what it is good for") from None
        if self._now() < begins_at - LEEWAY_SECONDS:
            raise invalid_token("the token is not in force yet")
        return found

    def _find_key(self, token: Any) -> Any:
        """Return our own key that a token names; never one that it brings."""
        header = token.headers()
        if set(header) - _HEADERS or header.get("alg") != ALGORITHM:
            raise LookupError("not a header of ours")
        key = self._keys.verification_key(str(header.get("kid")))
        if key is None:
            raise LookupError("not a key of ours")
        return key


def invalid_token(message: str) -> Unauthorized:
    """Return the refusal of a token, upon which clients fetch a new one."""
    return Unauthorized(message, reason="invalid_token")


def _joined(scopes: Iterable[Scope]) -> list[Scope]:
    actions: dict[tuple[str, str], dict[str, None]] = {}
    for scope in scopes:
        actions.setdefault((scope.type, scope.name), {}).update(dict.fromkeys(scope.actions))
    return [Scope(kind, name, tuple(each)) for (kind, name), each in actions.items()]


def _split(principal: Principal, scope: Scope) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if scope.type == CATALOG.type:
        has = scope.name == CATALOG.name and decide(principal, Action.CATALOG, None).is_allowed
        return (scope.actions, ()) if has else ((), scope.actions)
    try:
        repository = RepositoryName.parse(scope.name)
    except NameInvalid:
        return (), scope.actions
    have = [action for action in _EVERY if _has(principal, action, repository)]
    if "*" not in scope.actions:
        split = {action: action in have for action in scope.actions}
        return (
            tuple(action for action, is_had in split.items() if is_had),
            tuple(action for action, is_had in split.items() if not is_had),
        )
    return (("*",), ()) if len(have) == len(_EVERY) else (tuple(have), ("*",))


def _has(principal: Principal, action: str, repository: RepositoryName) -> bool:
    return any(decide(principal, each, repository).is_allowed for each in _MEANING[action])


def _document(scope: Scope) -> dict[str, object]:
    return {"type": scope.type, "name": scope.name, "actions": list(scope.actions)}


def _scope(document: Mapping[str, Any]) -> Scope:
    return Scope(str(document["type"]), str(document["name"]), tuple(map(str, document["actions"])))
