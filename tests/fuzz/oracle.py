"""What must hold of every answer, whatever was asked."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from dockreg_tx.oci.errors import ErrorCode
from dockreg_tx.web.site import CLIENT_CLOSED_REQUEST, AccessEntry
from tests.fuzz.cases import Case
from tests.fuzz.server import FuzzServer

#: Every status of docs/protocol.md that a healthy registry gives.
STATUSES = {200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 408, 413, 414, 416, 431}
#: Processor time, as other work on the machine is no fault of ours.
LIMIT_SECONDS = 1.0
CODES = {code.value for code in ErrorCode}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@implementer(ILogObserver)
class Failures:
    """Collects what the log says of failures; a context manager."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event or event.get("isError") or event["log_level"] >= LogLevel.error:
            self.events.append(event)

    def __enter__(self) -> Failures:
        globalLogPublisher.addObserver(self)
        return self

    def __exit__(self, *exception: object) -> None:
        globalLogPublisher.removeObserver(self)

    def take(self) -> list[str]:
        """Return what was logged since the last time."""
        events, self.events = self.events, []
        return [str(event.get("log_failure") or event.get("log_format")) for event in events]


def problems_of(server: FuzzServer, case: Case, failures: Failures) -> list[str]:
    """Play a case and return what went wrong."""
    began = time.process_time()
    server.log.clear()
    wire = server.connect(case.takes_bytes)
    problems = []
    try:
        if not all(wire.send(piece) for piece in case.pieces):
            problems.append("the server neither reads on nor closes")
        if not case.leaves and not wire.wait_for_end():
            problems.append("the server never closes an idle connection")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        problems.append(f"{type(error).__name__} went through to the transport: {error}")
    wire.lose()
    if server.site.open_connections or server.site.in_flight:
        problems.append("the site still counts the connection")
    problems += failures.take()
    problems += answer_problems(wire.received, server.log)
    spent = time.process_time() - began
    if spent > LIMIT_SECONDS:
        problems.append(f"took {spent:.2f} s of processor time")
    return problems


def answer_problems(received: bytes, log: Sequence[AccessEntry]) -> list[str]:
    """Check that the answers are those of the log, one after the other, each well-formed."""
    problems: list[str] = []
    for entry in log:
        if entry.status != CLIENT_CLOSED_REQUEST:
            found, received = _next_answer(_without_continue(received), entry)
            problems += found
    received = _without_continue(received)
    if received:
        problems.append(f"bytes that no request asked for: {received[:200]!r}")
    return problems


def _without_continue(received: bytes) -> bytes:
    while received.startswith(CONTINUE):
        received = received[len(CONTINUE) :]
    return received


def _next_answer(received: bytes, entry: AccessEntry) -> tuple[list[str], bytes]:
    """Return what is wrong with the next answer, and what comes after it."""
    head, separator, rest = received.partition(b"\r\n\r\n")
    if not separator:
        return [f"no answer to {entry.method} {entry.uri[:80]}"], b""
    status, headers, problems = _head(head)
    if status != entry.status:
        problems.append(f"{status} was sent and {entry.status} logged")
    if status not in STATUSES:
        problems.append(f"undocumented status {status}")
    is_silent = entry.method == "HEAD" or status in (204, 304)
    length = 0 if is_silent else int(headers.get("content-length", "-1"))
    if not 0 <= length <= len(rest):
        return [*problems, f"Content-Length {length}, but {len(rest)} bytes follow"], b""
    if status >= 400:
        problems += error_problems(headers, None if is_silent else rest[:length])
    return problems, rest[length:]


def _head(head: bytes) -> tuple[int, dict[str, str], list[str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, *_ = [*first.split(" ", 2), "0", ""]
    problems = [] if version in ("HTTP/1.1", "HTTP/1.0") else [f"bad status line {first!r}"]
    headers: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(": ")
        if not separator or "\n" in line or "\r" in line or (name.lower() in headers and name != "OCI-Tag"):
            problems.append(f"bad or repeated header {line!r}")
        headers[name.lower()] = value
    return (int(status) if status.isdigit() else 0), headers, problems


def error_problems(headers: dict[str, str], body: bytes | None) -> list[str]:
    """Check an error; ``body`` is None for HEAD."""
    problems = []
    if headers.get("content-type") != "application/json":
        problems.append(f"an error of type {headers.get('content-type')}")
    if headers.get("docker-distribution-api-version") != "registry/2.0":
        problems.append("an error without Docker-Distribution-API-Version")
    if body is None:
        return problems
    try:
        errors = json.loads(body)["errors"]
        is_good = bool(errors) and all(
            entry["code"] in CODES and isinstance(entry["message"], str) for entry in errors
        )
    except (ValueError, KeyError, TypeError):
        is_good = False
    return problems if is_good else [*problems, f"not an error in the OCI form: {body[:300]!r}"]
