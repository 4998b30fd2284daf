"""A call: one authorised request as a handler sees it, without anything of Twisted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl

from dockreg_tx.access.callers import Caller
from dockreg_tx.access.grants import Principal, decide
from dockreg_tx.oci.errors import Unsupported
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import Body
from dockreg_tx.web.origin import Origin

#: More parameters than any client sends; above it the query is refused.
_QUERY_LIMIT_FIELDS = 1000


class Query:
    """The parameters behind the ``?``; unknown ones are ignored by whoever does not ask for them.

    Raises:
        Unsupported: there are more than 1,000.
    """

    def __init__(self, text: str) -> None:
        if text.count("&") >= _QUERY_LIMIT_FIELDS:
            raise Unsupported(f"a query may have at most {_QUERY_LIMIT_FIELDS} parameters")
        self._pairs = _pairs(text)

    def first(self, name: str) -> str | None:
        """Return the first value of a parameter, or None when it is absent."""
        return next((value for key, value in self._pairs if key == name), None)

    def all(self, name: str) -> list[str]:
        """Return all values of a parameter in their order."""
        return [value for key, value in self._pairs if key == name]


def _pairs(text: str) -> list[tuple[str, str]]:
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True)
    # The same, for what needs no decoding: each upload has another query.
    parts = (pair.partition("=") for pair in text.split("&") if pair)
    return [(name, value) for name, _, value in parts]


class RequestHeaders(Protocol):
    """The headers of a request, looked up by any case."""

    def get(self, name: str) -> str | None:
        """Return the value of a header, or None; repeated ones are joined by commas (RFC 9110, 5.3)."""
        ...


@dataclass(kw_only=True, slots=True)
class Call:
    """What a handler needs of a request whose rights have been checked.

    Nobody changes one; it is not frozen because making a frozen one takes three times as long.
    """

    method: str
    path: str
    query: Query
    headers: RequestHeaders
    body: Body
    caller: Caller
    origin: Origin
    #: Parts of the path by their names in the route; the repository is parsed already.
    parts: dict[str, str]
    #: The repository of the path, None for routes that have none.
    named: RepositoryName | None = None
    #: Told by handlers that find out themselves who calls.
    identified: Callable[[Principal], None] = lambda _: None

    @property
    def repository(self) -> RepositoryName:
        """The repository of the path, for routes that have one."""
        if self.named is None:
            raise LookupError("this route names no repository")
        return self.named

    @property
    def principal(self) -> Principal:
        """Who calls."""
        return self.caller.principal

    @property
    def is_head(self) -> bool:
        """Whether only the headers are wanted."""
        return self.method == "HEAD"

    @property
    def owner(self) -> str:
        """Name of the user, empty for anonymous."""
        return "" if self.principal.is_anonymous else self.principal.name

    def may(self, action: str, repository: RepositoryName) -> bool:
        """Tell whether the caller may do an action in any repository, with the credentials it sent."""
        return self.caller.may(action, repository)

    @property
    def lists_everything(self) -> bool:
        """Whether a list that the caller may read names all repositories."""
        return self.principal.is_admin and self.principal.limits is None

    def may_list(self, action: str, repository: RepositoryName) -> bool:
        """Tell whether a list that the caller may read names a repository: whatever a token was asked for."""
        return decide(self.principal, action, repository).is_allowed
