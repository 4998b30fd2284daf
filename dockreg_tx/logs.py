"""Log lines: one event a line, as text or JSON, with nothing in it that could forge another line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from threading import Lock
from types import MappingProxyType
from typing import TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from zope.interface import implementer

from dockreg_tx.access.redaction import redacted, redacted_address
from dockreg_tx.web.site import AccessEntry

#: Longest field taken from a request; more is cut, so that nobody fills the log's disk with one header.
FIELD_LIMIT_CHARACTERS = 1024
#: The worker of a server that has none.
NOBODY: Mapping[str, int] = MappingProxyType({})
#: A traceback may take this much.
_FAILURE_LIMIT_CHARACTERS = 16 * 1024
#: One text at a time, where no buffer sees to it.
_WHOLE = Lock()


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as one line."""

    def __init__(self, out: TextIO, render: Callable[[LogEvent], str]) -> None:
        self._out = out
        self._render = render

    def __call__(self, event: LogEvent) -> None:
        """Write the line."""
        try:
            write_whole(self._out, self._render(event) + "\n")
        except (OSError, ValueError):
            # The terminal or pipe is gone; serving goes on without it.
            return


def write_whole(out: TextIO, text: str) -> None:
    """Write all of a text and flush it.

    Without a buffer, as PYTHONUNBUFFERED has it, a text stream loses the rest of what a pipe takes only in
    part, as it does when a signal comes.

    Raises:
        OSError: the other end has gone, or does not read and must not be waited for.
    """
    raw = getattr(out, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        out.write(text)
        out.flush()
        return
    left = memoryview(text.encode(out.encoding, "backslashreplace"))
    with _WHOLE:
        while left:
            written = raw.write(left)
            if written is None:
                raise BlockingIOError("the log's reader is too slow")
            left = left[written:]


def line_form(out: TextIO, form: str) -> str:
    """Return ``text`` or ``json``; of ``auto``, text when ``out`` is a terminal."""
    is_text = form == "text" or (form == "auto" and out.isatty())
    return "text" if is_text else "json"


class Threshold:
    """The least level that is written: ``debug``, ``info``, ``warn``, ``error`` or ``critical``."""

    def __init__(self, level: str) -> None:
        self.predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))

    def move(self, level: str) -> None:
        """Write another least level from now on."""
        self.predicate.setLogLevelForNamespace("", LogLevel.levelWithName(level))


def line_observer(
    out: TextIO, *, form: str, threshold: Threshold, worker: Mapping[str, int] | None = None
) -> ILogObserver:
    """Return an observer that writes to ``out``.

    Args:
        out: a text stream.
        form: ``text``, ``json``, or ``auto``: text when ``out`` is a terminal.
        threshold: what is written.
        worker: number and process id to be named in each line, where several processes write.
    """
    render = text_line if line_form(out, form) == "text" else json_line
    observer = LineObserver(out, partial(render, worker=worker or {}))
    return FilteringLogObserver(observer, [threshold.predicate])


def text_line(event: LogEvent, worker: Mapping[str, int] = NOBODY) -> str:
    """Return an event as text; control characters are escaped, line ends too."""
    level = event.get("log_level", LogLevel.info).name
    who = worker_text(worker)
    line = f"{_time_text(event)} {level:<5} {who}{printable(formatEvent(event), _FAILURE_LIMIT_CHARACTERS)}"
    failure = event.get("log_failure")
    if failure is not None:
        # Only our own code's lines stand in a traceback, so its line ends may stay.
        line += "\n" + str(failure.getTraceback())[-_FAILURE_LIMIT_CHARACTERS:].rstrip()
    return line


def worker_text(worker: Mapping[str, int]) -> str:
    """Return what names a worker in a line of text; nothing for a server that has none."""
    return f"[{' '.join(f'{name} {number}' for name, number in worker.items())}] " if worker else ""


def json_line(event: LogEvent, worker: Mapping[str, int] = NOBODY) -> str:
    """Return an event as one JSON object: ``ts``, ``level``, ``logger``, ``msg``, perhaps more."""
    document: dict[str, object] = {
        "ts": _time_text(event),
        "level": event.get("log_level", LogLevel.info).name,
        "logger": event.get("log_namespace", "-"),
        **worker,
        "msg": formatEvent(event)[:_FAILURE_LIMIT_CHARACTERS],
    }
    if "request_id" in event:
        document["request_id"] = event["request_id"]
    if isinstance(event.get("access"), dict):
        document.update(event["access"])
    failure = event.get("log_failure")
    if failure is not None:
        document["traceback"] = str(failure.getTraceback())[-_FAILURE_LIMIT_CHARACTERS:]
    return json.dumps(document, ensure_ascii=True)


def access_line(entry: AccessEntry) -> str:
    """Return an access in Apache's combined form, followed by request id and duration in seconds."""
    return combined_line(entry, combined_parts(entry))


def combined_parts(entry: AccessEntry) -> tuple[str, str, str]:
    """Return what a line has before its time, after it, and after its numbers."""
    # A head that could not be read has none of the three.
    request = f"{entry.method} {redacted_address(entry.uri)} {entry.http_version}" if entry.method else ""
    return (
        f"{_field(entry.peer)} - {_field(entry.user)} [",
        f"] {_quoted(request)} ",
        f" {_quoted(redacted_address(entry.referer))} {_quoted(redacted(entry.user_agent))} ",
    )


def combined_line(entry: AccessEntry, parts: tuple[str, str, str]) -> str:
    """Return a line of its parts."""
    before, request, agent = parts
    return (
        f"{before}{combined_time(int(entry.started_at))}{request}{entry.status} {entry.sent_bytes}"
        f"{agent}{_field(entry.request_id)} {entry.duration_seconds:.3f}"
    )


@lru_cache(maxsize=16)
def combined_time(second: int) -> str:
    """Return the time of a line."""
    return datetime.fromtimestamp(second, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")


def access_fields(entry: AccessEntry) -> dict[str, object]:
    """Return an access as fields of a JSON line."""
    return {
        "peer": entry.peer,
        "user": printable(entry.user),
        "method": printable(entry.method),
        "uri": printable(redacted_address(entry.uri)),
        "status": entry.status,
        "sent_bytes": entry.sent_bytes,
        "received_bytes": entry.received_bytes,
        "duration_seconds": round(entry.duration_seconds, 6),
        "user_agent": printable(redacted(entry.user_agent)),
        "request_id": entry.request_id,
    }


def access_object(entry: AccessEntry) -> dict[str, object]:
    """Return an access as fields of a JSON line that has no other form beside them."""
    return {
        **access_fields(entry),
        "referer": printable(redacted_address(entry.referer)),
        "http_version": printable(entry.http_version),
    }


def printable(text: str, limit: int = FIELD_LIMIT_CHARACTERS) -> str:
    """Return ``text`` cut to ``limit`` characters, with everything unprintable escaped."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def _field(text: str) -> str:
    if text.isalnum():
        return text
    return printable(text).replace(" ", "_") or "-"


def _quoted(text: str) -> str:
    if not text:
        return '"-"'
    escaped = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped or "-"}"'


def _time_text(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
