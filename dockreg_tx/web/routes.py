"""The one Klein app: every route with its endpoint name, methods and rights.

A request goes: route → guard → handler → answer. Adding an endpoint is adding a line to ``registry_routes``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

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
from dockreg_tx.metrics import METHODS, request_place
from dockreg_tx.oci.errors import NameInvalid, RegistryError, Unauthorized
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.scopes import Scope
from dockreg_tx.web.answers import Answer, AnyAnswer, Headers
from dockreg_tx.web.audit import Auditor, Deed
from dockreg_tx.web.calls import Call, Query
from dockreg_tx.web.errors import error_answer, status_answer
from dockreg_tx.web.guard import Guard, InsufficientScope, Need, Rights, Target
from dockreg_tx.web.intake import RegistryRequest, shielded
from dockreg_tx.web.origin import Origin, Origins
from dockreg_tx.web.recent import RecentAnswers
from dockreg_tx.web.sending import HeadersOf, as_sent, send_answer, send_content
from dockreg_tx.web.short_request import begin
from dockreg_tx.web.shortcut import Shortcut

Work = Coroutine[Any, Any, object]
Handle = Callable[[Call], Awaitable[AnyAnswer]]

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
    is_repeatable: bool = True  # within its second

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
    recent: RecentAnswers | None = None,
) -> RegistryApp:
    """Return the Klein app of these routes."""
    app = RegistryApp()
    app.recent = recent
    # A redirect turns a POST into a GET in most clients: answer where we are asked.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters = {**app.url_map.converters, "repository": RepositoryConverter}
    for route in routes:
        endpoint = Endpoint(
            route=route, guard=guard, origins=origins or Origins(), auditor=auditor, recent=recent
        )
        methods = [*route.operations, "OPTIONS"]
        app.route(route.rule, endpoint=route.endpoint, methods=methods)(shielded(endpoint.answer))
        app.served.append(endpoint)
    app.handle_errors(HTTPException)(_answer_routing_error)
    return app


class RegistryApp(Klein):
    """A Klein app that knows what serves its routes."""

    def __init__(self) -> None:
        super().__init__()
        self.served: list[Endpoint] = []
        self.recent: RecentAnswers | None = None


class RegistryResource(Resource):
    """The app as the site's root; what fails before routing is answered here, in the OCI form.

    Args:
        app: all routes.
        is_short: whether requests in their usual spelling may pass by Klein's own routing.
    """

    isLeaf = True

    def __init__(self, app: RegistryApp, *, is_short: bool = True) -> None:
        super().__init__()
        self._resource = app.resource()
        self._shortcut = Shortcut(app.served if is_short else [], _aim)
        self.recent = app.recent if is_short else None

    def render(self, request: RegistryRequest) -> int:
        """Route the request; always NOT_DONE_YET."""
        aim = self._shortcut.find(request.method, request.uri)
        if aim is not None:
            begin(request, aim.endpoint.serve(request, aim))
            return NOT_DONE_YET
        try:
            self._resource.render(request)
        except (HTTPException, UnicodeError, ValueError):
            # Werkzeug refuses some Host headers and paths only while it binds them.
            answer = status_answer(400, "malformed Host header or path", request_id=request.request_id)
            send_answer(request, answer)
        return NOT_DONE_YET

    def short_way(self, method: bytes, target: bytes) -> Callable[[RegistryRequest], Work] | None:
        """Return what answers a request for a target, None when it has to be rendered."""
        aim = self._shortcut.find(method, target)
        return None if aim is None else aim.serve


@dataclass(slots=True)
class Aim:
    """What a request asks for, as far as its first line tells. Nobody changes one, as with ``Call``."""

    endpoint: Endpoint
    operation: Operation
    method: str
    path: str
    query: Query
    parts: dict[str, str]
    target: Target

    def serve(self, request: RegistryRequest) -> Work:
        """Return what answers a request."""
        return self.endpoint.serve(request, self)


def _aim(endpoint: Endpoint, method: str, target: bytes, parts: dict[str, str]) -> Aim | None:
    try:
        return endpoint.aim(method, target, parts) if method in endpoint.operations else None
    except RegistryError:
        # Klein's way says what is wrong.
        return None


@dataclass(slots=True)
class _Progress:
    """How far a request got."""

    origin: Origin
    #: The header, looked up once: with a token it is long.
    authorization: str | None = None
    #: Of the database, if it was asked for this request already.
    version: int | None = None
    caller: Caller | None = None


class Endpoint:
    """One route at work."""

    def __init__(
        self,
        *,
        route: Route,
        guard: Guard,
        origins: Origins,
        auditor: Auditor | None,
        recent: RecentAnswers | None,
    ) -> None:
        self.rule = route.rule
        self.operations = route.operations
        self._route = route
        self._guard = guard
        self._origins = origins
        self._auditor = auditor
        self._recent = recent if route.is_repeatable else None
        self._places = {method: request_place(route.endpoint, method) for method in METHODS}

    async def answer(self, request: RegistryRequest, /, **parts: str) -> None:
        """Answer a request; runs to its end although the client may have gone."""
        method = request.method.decode("latin-1")
        if method == "OPTIONS":
            send_answer(request, Answer(200, (("Allow", self._route.allow),)))
            return
        if method not in self.operations:
            send_answer(request, _method_not_allowed(request.request_id, self._route.allow))
            return
        try:
            aim = self.aim(method, request.uri, parts)
        except RegistryError as error:
            send_answer(request, error_answer(error, request_id=request.request_id))
            return
        await self.serve(request, aim)

    def aim(self, method: str, uri: bytes, parts: dict[str, str]) -> Aim:
        """Return what a request asks for.

        Raises:
            Unsupported: the query is too long.
        """
        operation = self.operations[method]
        path, _, text = uri.decode("latin-1").partition("?")
        query = Query(text)
        target = Target(operation.rights, _valid_name(parts), operation.further(query))
        return Aim(self, operation, method, path, query, parts, target)

    def serve(self, request: RegistryRequest, aim: Aim) -> Work:
        """Return what answers a request; it runs to its end although the client may have gone."""
        request.counted_at = self._places[aim.method]
        recent = self._recent
        if recent is None or request.question is None:
            return self._serve(request, aim)
        return self._serve_and_keep(request, aim, recent)

    async def _serve_and_keep(self, request: RegistryRequest, aim: Aim, recent: RecentAnswers) -> None:
        """Answer a request, and keep the answer for the next one to ask the same."""
        # The connection has just looked there.
        state = recent.state
        answer = await self._serve(request, aim, version=state[1])
        if answer is not None:
            recent.keep(request, as_sent(answer), state)

    async def _serve(
        self, request: RegistryRequest, aim: Aim, *, version: int | None = None
    ) -> Answer | None:
        """Answer a request; return the answer if the next one to ask the same may get it, too."""
        headers = HeadersOf(request)
        progress = _Progress(self._origins.of(request), headers.get("Authorization"), version)
        request.client_address = progress.origin.address
        answer = await self._result(request, aim, progress, headers)
        is_noted = self._auditor is not None and self._audit(self._auditor, request, aim, progress, answer)
        if isinstance(answer, Answer):
            send_answer(request, answer)
            return None if is_noted else answer
        await send_content(request, answer)
        return None

    def _audit(
        self, auditor: Auditor, request: RegistryRequest, aim: Aim, progress: _Progress, answer: AnyAnswer
    ) -> bool:
        if auditor.is_plain(aim.target, aim.method, answer.status):
            return False
        return auditor.note(
            Deed(
                request_id=request.request_id,
                endpoint=self._route.endpoint,
                method=aim.method,
                target=aim.target,
                caller=progress.caller,
                origin=progress.origin,
                authorization=progress.authorization,
                parts=aim.parts,
            ),
            answer,
        )

    async def _result(
        self, request: RegistryRequest, aim: Aim, progress: _Progress, headers: HeadersOf
    ) -> AnyAnswer:
        call: Call | None = None
        try:
            if aim.target.rights is not Need.NOTHING:
                sent, origin = progress.authorization, progress.origin
                caller = self._guard.known(sent, origin) or await self._guard.identify(
                    sent,
                    origin,
                    takes_tokens=aim.target.rights is not Need.PASSWORD,
                    version=progress.version,
                )
                self._admit(request, aim, progress, caller)
            call = Call(
                method=aim.method,
                path=aim.path,
                query=aim.query,
                headers=headers,
                body=request.body,
                caller=progress.caller or Caller(self._guard.anonymous),
                origin=progress.origin,
                parts=aim.parts,
                named=aim.target.repository,
                identified=lambda principal: _identify(request, progress, Caller(principal)),
            )
            return await aim.operation.handle(call)
        except Unauthorized as error:
            asked = (("WWW-Authenticate", self._challenge(aim.target, progress, error)),)
            return error_answer(error, request_id=request.request_id, headers=asked)
        except RegistryError as error:
            if error.status >= 500:
                known_by = request.request_id
                _log.warn("{code}: {text} [{id}]", code=error.code, text=error.message, id=known_by)
            more = () if call is None else self._route.headers_of_error(call, error)
            return error_answer(error, request_id=request.request_id, headers=more)
        except Exception:  # noqa: BLE001 - the last line: no traceback ever reaches a client
            _log.failure("request {request_id} failed", request_id=request.request_id)
            message = "internal error: the registry's log has more under this request id"
            return status_answer(500, message, request_id=request.request_id)

    def _admit(self, request: RegistryRequest, aim: Aim, progress: _Progress, caller: Caller) -> None:
        """Let the caller pass if it may make this call; no body byte has been taken yet."""
        guard, target = self._guard, aim.target
        _identify(request, progress, caller)
        guard.check_admitted(caller, target)
        if target.repository is None and "name" in aim.parts:
            RepositoryName.parse(aim.parts["name"])
        guard.check(caller, target)

    def _challenge(self, target: Target, progress: _Progress, error: Unauthorized) -> str:
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
        return None  # For later: strangers do not even learn that.


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
