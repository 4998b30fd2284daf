"""``/token``: changes a password, a robot's token or a refresh token for an access token.

Docker's token protocol (GET) and OAuth 2.0 (POST), as registries' clients speak them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from dockreg_tx.access.grants import Principal
from dockreg_tx.access.tokens import TOKEN_SECONDS, granted_part
from dockreg_tx.oci.errors import Unsupported
from dockreg_tx.oci.scopes import Scope, parse_scopes
from dockreg_tx.ports import Now
from dockreg_tx.web.answers import Answer, json_answer
from dockreg_tx.web.calls import Call, Query
from dockreg_tx.web.guard import Guard

FORM_LIMIT_BYTES = 64 * 1024
#: More repositories than any client asks for at once; keeps tokens short enough for headers.
SCOPES_LIMIT = 50
_FORM = "application/x-www-form-urlencoded"
_NO_STORE = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))


class Issuer(Protocol):
    """What is needed of ``access.tokens``."""

    def issue(self, principal: Principal, *, granted: list[Scope], refused: list[Scope]) -> str:
        """Return an access token."""
        ...


class Logins(Protocol):
    """What is needed of ``access.callers``."""

    async def log_in(self, principal: Principal) -> str:
        """Return a new refresh token, empty for users who get none, or raise Unauthorized."""
        ...

    async def refresh(self, refresh_token: str) -> Principal:
        """Return whom a refresh token belongs to, or raise Unauthorized."""
        ...


class PublicKeys(Protocol):
    """What is needed of ``access.keys``."""

    def public_keys(self) -> Mapping[str, object]:
        """Return the JSON Web Key Set."""
        ...


class TokenService:
    """The token endpoint, and the keys that its tokens are verified with."""

    def __init__(self, *, issuer: Issuer, logins: Logins, keys: PublicKeys, guard: Guard, now: Now) -> None:
        self._issuer = issuer
        self._logins = logins
        self._keys = keys
        self._guard = guard
        self._now = now

    async def get(self, call: Call) -> Answer:
        """Give a token to whom the Authorization header names, or to anonymous without one."""
        wants_login = call.query.first("offline_token") == "true"
        return await self._answer(call.principal, call.query.all("scope"), wants_login=wants_login)

    async def post(self, call: Call) -> Answer:
        """Give a token to whom the form names."""
        form = await _form(call)
        wants_login = form.first("access_type") == "offline"
        grant_type = form.first("grant_type")
        if grant_type == "password":
            username, password = form.first("username") or "", form.first("password") or ""
            principal = await self._guard.authenticate(username, password, call.origin)
            call.identified(principal)
            return await self._answer(principal, form.all("scope"), wants_login=wants_login)
        if grant_type == "refresh_token":
            self._guard.check_confidential(call.origin)
            given = form.first("refresh_token") or ""
            principal = await self._logins.refresh(given)
            call.identified(principal)
            # The same one again: clients keep the one that they have.
            return await self._answer(principal, form.all("scope"), refresh_token=given)
        raise Unsupported("grant_type must be password or refresh_token", {"error": "unsupported_grant_type"})

    async def keys(self, call: Call) -> Answer:
        """Answer the JSON Web Key Set."""
        return json_answer(self._keys.public_keys(), headers=(("Cache-Control", "max-age=60"),))

    async def _answer(
        self,
        principal: Principal,
        scope_texts: list[str],
        *,
        wants_login: bool = False,
        refresh_token: str = "",
    ) -> Answer:
        granted, refused = granted_part(principal, _scopes(scope_texts))
        token = self._issuer.issue(principal, granted=granted, refused=refused)
        document: dict[str, object] = {
            # Docker reads the first, OAuth clients the second.
            "token": token,
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "issued_at": datetime.fromtimestamp(int(self._now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "scope": " ".join(map(str, granted)),
        }
        if wants_login and not principal.is_anonymous:
            refresh_token = await self._logins.log_in(principal)
        if refresh_token:
            document["refresh_token"] = refresh_token
        return json_answer(document, headers=_NO_STORE)


def _scopes(texts: list[str]) -> tuple[Scope, ...]:
    scopes = parse_scopes(" ".join(texts))
    if len(scopes) > SCOPES_LIMIT:
        raise Unsupported(f"more than {SCOPES_LIMIT} scopes: ask for fewer at once")
    return scopes


async def _form(call: Call) -> Query:
    content_type = (call.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if content_type != _FORM:
        raise Unsupported(f"send a form: {_FORM}")
    content = await call.body.read(FORM_LIMIT_BYTES)
    try:
        return Query(content.decode("ascii"))
    except ValueError:
        raise Unsupported("the form is malformed: values are percent-encoded UTF-8") from None
