"""The access log: lines gathered and written together, since one by one they cost more than most requests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import NamedTuple, TextIO

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dockreg_tx.access.redaction import redacted, redacted_address
from dockreg_tx.logs import (
    NOBODY,
    access_fields,
    access_line,
    access_object,
    combined_parts,
    combined_time,
    printable,
    worker_text,
    write_whole,
)
from dockreg_tx.ports import HandsOff
from dockreg_tx.web.site import AccessEntry

#: A line waits no longer than this, and is lost if the process is killed meanwhile.
WAIT_SECONDS = 0.1
#: So many lines do not wait.
LINES_LIMIT = 1000
#: When so many lines have been handed over and are not written, the next ones are lost.
WAITING_LIMIT = 20_000
#: Texts that need no escape in any of our forms.
_PLAIN = re.compile(r"[ !#-\[\]-~]{0,1024}")
#: Longer questions are put together anew each time.
_REMEMBERED_CHARACTERS = 1000
_log = Logger()


class AccessLog:
    """Takes entries and writes lines, by a thread: whatever takes them may keep it waiting, but no client.

    Args:
        out: where lines go.
        render: makes a line of an entry, without its end.
        clock: ends the wait.
        blocking: writes, one piece of work after the other.
    """

    def __init__(
        self,
        out: TextIO,
        render: Callable[[AccessEntry], str],
        *,
        clock: IReactorTime,
        blocking: HandsOff,
    ) -> None:
        self.render = render
        self._out = out
        self._clock = clock
        self._blocking = blocking
        self._entries: list[AccessEntry] = []
        self._call: IDelayedCall | None = None
        #: Lines that were handed over, and those that the thread is done with; each has one who counts.
        self._given = 0
        self._taken = 0
        self._lost = 0

    def __call__(self, entry: AccessEntry) -> None:
        """Have an entry written soon."""
        self._entries.append(entry)
        if self._call is None:
            self._call = self._clock.callLater(WAIT_SECONDS, self._time_is_up)
        if len(self._entries) >= LINES_LIMIT:
            self._hand_over()

    def flush(self) -> None:
        """Write what waits, here and now; only when the thread has ended."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._entries:
            self._write(*self._text())

    def _time_is_up(self) -> None:
        self._call = None
        self._hand_over()

    def _hand_over(self) -> None:
        if not self._entries:
            return
        if self._given - self._taken > WAITING_LIMIT:
            self._lost += len(self._entries)
            self._entries = []
            return
        if self._lost:
            _log.warn(
                "{count} lines of the access log are lost, for what takes them was too slow", count=self._lost
            )
            self._lost = 0
        text, count = self._text()
        self._given += count
        self._blocking.give(partial(self._write, text, count))

    def _text(self) -> tuple[str, int]:
        entries, self._entries = self._entries, []
        return "\n".join([*map(self.render, entries), ""]), len(entries)

    def _write(self, text: str, count: int) -> None:
        # When the terminal or pipe has gone, serving goes on without it.
        with suppress(OSError, ValueError):
            write_whole(self._out, text)
        self._taken += count


def entry_form(
    form: str, worker: Mapping[str, int] = NOBODY, *, access: str = "combined"
) -> Callable[[AccessEntry], str]:
    """Return what makes a line of an entry.

    Args:
        form: of all lines, ``text`` or ``json``.
        worker: number and process id to be named in each line, where several processes write.
        access: ``combined``, or ``json`` for an object without that, whatever other lines are.
    """
    who = "".join(f', "{name}": {worker[name]}' for name in worker)
    if access == "json":
        return partial(object_entry, worker=worker, who=who)
    if form == "text":
        return partial(text_entry, who=worker_text(worker))
    return partial(json_entry, worker=worker, who=who)


def text_entry(entry: AccessEntry, *, who: str = "") -> str:
    """Return an entry as ``logs.text_line`` would write it."""
    return f"{_moment(entry)} info  {who}{printable(access_line(entry), 16 * 1024)}"


def json_entry(entry: AccessEntry, *, worker: Mapping[str, int] = NOBODY, who: str = "") -> str:
    """Return an entry as ``logs.json_line`` would write it; ``who`` is ``worker`` as a part of an object.

    Made by hand, and in one piece, since each request pays for it.
    """
    known = _known(entry)
    if known is None:
        line = access_line(entry)
        document = {"ts": _moment(entry), "level": "info", "logger": "dockreg.access", **worker, "msg": line}
        return json.dumps({**document, **access_fields(entry)})
    before, opening, closing, after, asked, agent, _ = known
    _, _, _, uri, status, sent_bytes, received_bytes, seconds, request_id, _, _, _, started_at = entry
    address = _address(uri)
    return (
        f'{{"ts": "{_moment(entry)}", "level": "info", "logger": "dockreg.access"{who}, "msg": "{before}'
        f"{combined_time(int(started_at))}{opening}{address}{closing}{status} {sent_bytes}{after}"
        f'{request_id} {seconds:.3f}", {asked}"uri": "{address}", "status": {status}, '
        f'"sent_bytes": {sent_bytes}, "received_bytes": {received_bytes}, '
        f'"duration_seconds": {round(seconds, 6)!r}, {agent}"request_id": "{request_id}"}}'
    )


def object_entry(entry: AccessEntry, *, worker: Mapping[str, int] = NOBODY, who: str = "") -> str:
    """Return an entry as a JSON object of its fields; ``who`` is ``worker`` as a part of an object."""
    known = _known(entry)
    if known is None:
        document = {"ts": _moment(entry), "level": "info", "logger": "dockreg.access", **worker}
        return json.dumps({**document, **access_object(entry)})
    return (
        f'{{"ts": "{_moment(entry)}", "level": "info", "logger": "dockreg.access"{who}, {known.asked}'
        f'"uri": "{_address(entry.uri)}", "status": {entry.status}, "sent_bytes": {entry.sent_bytes}, '
        f'"received_bytes": {entry.received_bytes}, '
        f'"duration_seconds": {round(entry.duration_seconds, 6)!r}, '
        f'{known.agent}"request_id": "{entry.request_id}", {known.more}}}'
    )


class _Client(NamedTuple):
    """What the JSON line says of all that a client asks for with one method."""

    #: Of the combined line: what stands before the time, before the address, and after it.
    before: str
    opening: str
    closing: str
    #: What stands after the numbers.
    after: str
    asked: str
    agent: str
    #: What only the form without a combined line has.
    more: str


def _known(entry: AccessEntry) -> _Client | None:
    """Return the parts; None when something has to be escaped, or is so long that it is not remembered."""
    peer, user, method, uri, _, _, _, _, request_id, referer, user_agent, http_version, _ = entry
    if len(method) + len(uri) + len(referer) + len(user_agent) > _REMEMBERED_CHARACTERS:
        return None
    # A head that could not be read has no method, and an own form.
    if not method or _address(uri) is None or not request_id.isalnum():
        return None
    return _client(peer, user, method, referer, user_agent, http_version)


# Clients ask the same again and again, and so often that even to look for secrets each time costs too much.
@lru_cache(maxsize=1024)
def _address(uri: str) -> str | None:
    """Return an address as it is logged, None when it has to be escaped."""
    return redacted_address(uri) if _PLAIN.fullmatch(uri) else None


@lru_cache(maxsize=1024)
def _client(
    peer: str, user: str, method: str, referer: str, user_agent: str, http_version: str
) -> _Client | None:
    if not _PLAIN.fullmatch(peer + user + method + user_agent + referer + http_version):
        return None
    entry = AccessEntry(peer, user, method, "", 0, 0, 0, 0.0, "", referer, user_agent, http_version, 0.0)
    before, request, agent = (part.replace('"', '\\"') for part in combined_parts(entry))
    # Neither the method nor the version holds a space.
    opening, closing = request.rsplit("  ", 1)
    return _Client(
        before,
        f"{opening} ",
        f" {closing}",
        agent,
        f'"peer": "{peer}", "user": "{user}", "method": "{method}", ',
        f'"user_agent": "{redacted(user_agent)}", ',
        f'"referer": "{redacted_address(referer)}", "http_version": "{http_version}"',
    )


def _moment(entry: AccessEntry) -> str:
    ended_at = entry.started_at + entry.duration_seconds
    second = int(ended_at)
    return f"{_second_text(second)}.{int((ended_at - second) * 1000):03d}Z"


@lru_cache(maxsize=16)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
