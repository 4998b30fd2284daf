"""What of the requests is audited: logins, tokens, pushes, deletes and refusals; pulls if wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dockreg_tx.access.basic import parse_basic
from dockreg_tx.access.callers import Caller
from dockreg_tx.access.redaction import redacted
from dockreg_tx.oci.errors import Unauthorized
from dockreg_tx.web.answers import AnyAnswer
from dockreg_tx.web.guard import Need, Target
from dockreg_tx.web.origin import Origin

Write = Callable[[Mapping[str, object]], None]
_READING = frozenset({"GET", "HEAD"})
_CONTENT = frozenset({"blobs", "manifests"})


@dataclass(slots=True, kw_only=True)
class Deed:
    """One request as far as it got; ``caller`` is None when it could not be identified.

    Nobody changes one; it is not frozen because making a frozen one takes three times as long.
    """

    request_id: str
    endpoint: str
    method: str
    target: Target
    caller: Caller | None
    origin: Origin
    authorization: str | None
    parts: Mapping[str, str]


class Auditor:
    """Writes down what is worth it.

    Args:
        write: takes one entry.
        includes_pulls: whether every pull of a manifest or blob is worth it.
    """

    def __init__(self, write: Write, *, includes_pulls: bool = False) -> None:
        self._write = write
        self._includes_pulls = includes_pulls

    def is_plain(self, target: Target, method: str, status: int) -> bool:
        """Tell at a glance what is not worth an entry: content that was read, an upload under way."""
        if isinstance(target.rights, Need) or status >= 400:
            return False
        if method in _READING:
            return not self._includes_pulls
        return status != 201 and "delete" not in target.rights

    def note(self, deed: Deed, answer: AnyAnswer) -> bool:
        """Write an entry, if there is anything to say; never what a client proves itself with.

        Returns:
            Whether the next deed of this kind must be noted, too, however soon it comes.
        """
        action = self._action(deed, answer.status)
        if action is None:
            return False
        self._write(
            {
                "action": action,
                "result": "ok" if answer.status < 400 else "refused",
                "status": answer.status,
                "principal": _principal(deed),
                "robot": None if deed.caller is None else deed.caller.principal.robot_id,
                "address": deed.origin.address,
                "repository": deed.target.repository and deed.target.repository.text,
                "reference": deed.parts.get("reference") or deed.parts.get("digest"),
                "digest": _digest(answer),
                "request_id": deed.request_id,
            }
        )
        # A client that asks again within the same second has not logged in once more.
        return action != "login" or answer.status >= 400

    def _action(self, deed: Deed, status: int) -> str | None:
        rights = deed.target.rights
        if status in {401, 429}:
            # Every client begins without credentials, and some with the wrong scope: those are no events.
            is_wrong = deed.authorization is not None and deed.caller is None
            return "login" if is_wrong or rights is Need.PASSWORD else None
        if rights is Need.PASSWORD:
            return "token"
        if isinstance(rights, Need):
            has_password = (deed.authorization or "").lower().startswith("basic ")
            return "login" if has_password and (rights is Need.LOGIN or status == 403) else None
        if status == 403 or "delete" in rights:
            return rights[0]
        if status == 201:
            return "push"
        is_pull = rights[0] == "pull" and deed.method == "GET" and deed.endpoint in _CONTENT
        return "pull" if is_pull and self._includes_pulls and status in {200, 206} else None


def _digest(answer: AnyAnswer) -> str | None:
    for name, value in answer.headers:
        if name == "Docker-Content-Digest":
            return value
    return None


def _principal(deed: Deed) -> str:
    """Return who it was; of a failed login, who it claimed to be."""
    if deed.caller is not None:
        return deed.caller.principal.name or "anonymous"
    try:
        claimed = parse_basic(deed.authorization or "")
    except Unauthorized:
        return "unknown"
    return "unknown" if claimed is None else f"{redacted(claimed[0])}?"
