"""The one Klein app: every route with its endpoint name, methods and rights.

A request goes: route → guard → handler → answer. Adding an endpoint is adding a line to ``registry_routes``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter
from zope.interface import implementer

from dockreg_tx.access.callers import Caller
from dockreg_tx.oci.errors import NameInvalid, RegistryError, Unauthorized
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.scopes import Scope
from dockreg_tx.web.answers import Answer, AnyAnswer, BlobAnswer, Headers, PartsAnswer
from dockreg_tx.web.audit import Auditor, Deed
from dockreg_tx.web.calls import Call, Query
from dockreg_tx.web.errors import error_answer, status_answer
from dockreg_tx.web.guard import Guard, InsufficientScope, Need, Rights, Target
from dockreg_tx.web.intake import RegistryRequest, shielded
from dockreg_tx.web.origin import Origin, Origins
from dockreg_tx.web.outflow import Slice, send, send_parts

Handle = Callable[[Call], Awaitable[AnyAnswer]]

#: On every answer: old dockers need the first; content is the users', so browsers must not guess its type.
COMMON_HEADERS: Headers = (
    ("Docker-Distribution-API-Version", "registry/2.0"),
    ("X-Content-Type-Options", "nosniff"),
)
#: Where passwords are changed for tokens, a token cannot be asked for.
PASSWORD_CHALLENGE = 'Basic realm="dockreg"'  # noqa: S105 - asks for one
_log = Logger()


def _nothing_further(_query: Query) -> tuple[Scope, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a route: what it needs, and who answers."""

    rights: Rights
    handle: Handle
    #: What a query needs in other repositories, if the client can have it.
    further: Callable[[Query], tuple[Scope, ...]] = field(default=_nothing_further)


def _no_headers(_call: Call, _error: Exception) -> Headers:
    return ()


@dataclass(frozen=True, slots=True)
class Route:
    """A path and its operations by method."""

    endpoint: str
    rule: str
    operations: Mapping[str, Operation]
    #: More headers for an error of this route.
    headers_of_error: Callable[[Call, Exception], Headers] = field(default=_no_headers)

    @property
    def allow(self) -> str:
        """The value of an Allow header."""
        return ", ".join([*self.operations, "OPTIONS"])


class RepositoryConverter(BaseConverter):
    """Takes as much of a path as it can, slashes included, so that the right-most keyword wins.

    What it takes may be no valid name: that is for ``RepositoryName.parse`` to say, with a 400.
    """

    regex = ".+"
    part_isolating = False


def registry_app(
    routes: Sequence[Route],
    *,
    guard: Guard,
    origins: Origins | None = None,
    auditor: Auditor | None = None,
) -> Klein:
    """Return the Klein app of these routes."""
    app = Klein()
    # A redirect turns a POST into a GET in most clients: answer where we are asked.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters = {**app.url_map.converters, "repository": RepositoryConverter}
    for route in routes:
        endpoint = _Endpoint(route=route, guard=guard, origins=origins or Origins(), auditor=auditor)
        methods = [*route.operations, "OPTIONS"]
        app.route(route.rule, endpoint=route.endpoint, methods=methods)(shielded(endpoint.answer))
    app.handle_errors(HTTPException)(_answer_routing_error)
    return app


class RegistryResource(Resource):
    """The app as the site's root; what fails before routing is answered here, in the OCI form."""

    isLeaf = True

    def __init__(self, app: Klein) -> None:
        super().__init__()
        self._resource = app.resource()

    def render(self, request: RegistryRequest) -> int:
        """Route the request; always NOT_DONE_YET."""
        try:
            self._resource.render(request)
        except (HTTPException, UnicodeError, ValueError):
            # Werkzeug refuses some Host headers and paths only while it binds them.
            answer = status_answer(400, "malformed Host header or path", request_id=request.request_id)
            send_answer(request, answer)
        return NOT_DONE_YET


@dataclass(slots=True)
class _Progress:
    """How far a request got."""

    origin: Origin
    #: The header, looked up once: with a token it is long.
    authorization: str | None = None
    target: Target = field(default=Target(Need.NOTHING))
    caller: Caller | None = None


class _Endpoint:
    """One route at work."""

    def __init__(self, *, route: Route, guard: Guard, origins: Origins, auditor: Auditor | None) -> None:
        self._route = route
        self._guard = guard
        self._origins = origins
        self._auditor = auditor

    async def answer(self, request: RegistryRequest, /, **parts: str) -> None:
        """Answer a request; runs to its end although the client may have gone."""
        method = request.method.decode("latin-1")
        authorization = _RequestHeaders(request).get("Authorization")
        progress = _Progress(self._origins.of(request), authorization)
        answer = await self._result(request, method, parts, progress)
        if self._auditor is not None and method in self._route.operations:
            deed = Deed(
                request_id=request.request_id,
                endpoint=self._route.endpoint,
                method=method,
                target=progress.target,
                caller=progress.caller,
                origin=progress.origin,
                authorization=progress.authorization,
                parts=parts,
            )
            self._auditor.note(deed, answer)
        if isinstance(answer, Answer):
            send_answer(request, answer)
            return
        try:
            headers = _encoded((*COMMON_HEADERS, *answer.headers))
            await send_parts(request, answer.status, headers, _parts(answer))
        finally:
            answer.blob.close()

    async def _result(
        self, request: RegistryRequest, method: str, parts: dict[str, str], progress: _Progress
    ) -> AnyAnswer:
        call: Call | None = None
        try:
            if method == "OPTIONS":
                return Answer(200, (("Allow", self._route.allow),))
            operation = self._route.operations.get(method)
            if operation is None:
                return _method_not_allowed(request.request_id, self._route.allow)
            path, _, query = request.uri.decode("latin-1").partition("?")
            asked = Query(query)
            progress.target = Target(operation.rights, _valid_name(parts), operation.further(asked))
            await self._admit(request, parts, progress)
            call = Call(
                method=method,
                path=path,
                query=asked,
                headers=_RequestHeaders(request),
                body=request.body,
                caller=progress.caller or Caller(self._guard.anonymous),
                origin=progress.origin,
                parts=parts,
                named=progress.target.repository,
                identified=lambda principal: _identify(request, progress, Caller(principal)),
            )
            return await operation.handle(call)
        except Unauthorized as error:
            headers = (("WWW-Authenticate", self._challenge(progress, error)),)
            return error_answer(error, request_id=request.request_id, headers=headers)
        except RegistryError as error:
            if error.status >= 500:
                _log.warn(
                    "{code}: {text} [{request_id}]",
                    code=error.code,
                    text=error.message,
                    request_id=request.request_id,
                )
            more = () if call is None else self._route.headers_of_error(call, error)
            return error_answer(error, request_id=request.request_id, headers=more)
        except Exception:  # noqa: BLE001 - the last line: no traceback ever reaches a client
            _log.failure("request {request_id} failed", request_id=request.request_id)
            message = "internal error: the registry's log has more under this request id"
            return status_answer(500, message, request_id=request.request_id)

    async def _admit(self, request: RegistryRequest, parts: dict[str, str], progress: _Progress) -> None:
        """Let the caller pass if it may make this call; no body byte has been taken yet."""
        guard, target = self._guard, progress.target
        if target.rights is Need.NOTHING:
            return
        caller = await guard.identify(
            progress.authorization,
            progress.origin,
            takes_tokens=target.rights is not Need.PASSWORD,
        )
        _identify(request, progress, caller)
        guard.check_admitted(caller, target)
        if "name" in parts:
            RepositoryName.parse(parts["name"])
        guard.check(caller, target)

    def _challenge(self, progress: _Progress, error: Unauthorized) -> str:
        target = progress.target
        if target.rights is Need.PASSWORD:
            return PASSWORD_CHALLENGE
        scopes = error.scopes if isinstance(error, InsufficientScope) else target.scopes
        return self._guard.challenge(progress.origin, scopes, error.reason)


def _identify(request: RegistryRequest, progress: _Progress, caller: Caller) -> None:
    """Note who calls, for the logs."""
    progress.caller = caller
    request.user_name = caller.principal.name


def _valid_name(parts: Mapping[str, str]) -> RepositoryName | None:
    try:
        return RepositoryName.parse(parts["name"]) if "name" in parts else None
    except NameInvalid:
        # For later: strangers do not even learn that.
        return None


class _RequestHeaders:
    """Headers of a Twisted request."""

    def __init__(self, request: IRequest) -> None:
        self._headers = request.requestHeaders

    def get(self, name: str) -> str | None:
        values = self._headers.getRawHeaders(name.encode("latin-1"))
        return None if not values else b", ".join(values).decode("latin-1")


@implementer(IResource)
class _AnswerResource(Resource):
    """Sends an answer; what Klein's error handlers may return to have the whole answer to themselves."""

    isLeaf = True

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def render(self, request: RegistryRequest) -> int:
        send_answer(request, self._answer)
        return NOT_DONE_YET


def _answer_routing_error(request: IRequest, failure: Failure) -> IResource:
    request_id = cast("RegistryRequest", request).request_id
    error = failure.value
    if isinstance(error, MethodNotAllowed):
        return _AnswerResource(_method_not_allowed(request_id, ", ".join(sorted(error.valid_methods or ()))))
    status = getattr(error, "code", None) or 500
    message = "no such endpoint: the API is under /v2/" if status == 404 else None
    return _AnswerResource(status_answer(status, message, request_id=request_id))


def _method_not_allowed(request_id: str, allow: str) -> Answer:
    message = "this method is not offered here: see the Allow header"
    return status_answer(405, message, request_id=request_id, headers=(("Allow", allow),))


def send_answer(request: RegistryRequest, answer: Answer) -> None:
    """Write a whole answer and end the request."""
    send(request, answer.status, _encoded((*COMMON_HEADERS, *answer.headers)), answer.body)


def _parts(answer: BlobAnswer | PartsAnswer) -> Sequence[bytes | Slice]:
    if isinstance(answer, BlobAnswer):
        return [(answer.blob, answer.start_bytes, answer.length_bytes)]
    return [
        part if isinstance(part, bytes) else (answer.blob, part.start, part.length) for part in answer.parts
    ]


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
