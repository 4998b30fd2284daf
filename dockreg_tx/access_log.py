"""The access log: lines gathered and written together, since one by one they cost more than most requests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TextIO

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dockreg_tx.access.redaction import redacted, redacted_address
from dockreg_tx.logs import (
    NOBODY,
    access_fields,
    access_line,
    access_object,
    printable,
    worker_text,
)
from dockreg_tx.web.site import AccessEntry

#: A line waits no longer than this, and is lost if the process is killed meanwhile.
WAIT_SECONDS = 0.1
#: So many lines do not wait.
LINES_LIMIT = 1000
#: Texts that need no escape in any of our forms.
_PLAIN = re.compile(r"[ !#-\[\]-~]{0,1024}")


class AccessLog:
    """Takes entries and writes lines.

    Args:
        out: where lines go.
        render: makes a line of an entry, without its end.
        clock: ends the wait.
    """

    def __init__(self, out: TextIO, render: Callable[[AccessEntry], str], *, clock: IReactorTime) -> None:
        self.render = render
        self._out = out
        self._clock = clock
        self._entries: list[AccessEntry] = []
        self._call: IDelayedCall | None = None

    def __call__(self, entry: AccessEntry) -> None:
        """Have an entry written soon."""
        self._entries.append(entry)
        if self._call is None:
            self._call = self._clock.callLater(WAIT_SECONDS, self._time_is_up)
        if len(self._entries) >= LINES_LIMIT:
            self._write()

    def flush(self) -> None:
        """Write what waits."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._write()

    def _time_is_up(self) -> None:
        self._call = None
        self._write()

    def _write(self) -> None:
        entries, self._entries = self._entries, []
        if not entries:
            return
        lines = [self.render(entry) for entry in entries]
        try:
            self._out.write("\n".join([*lines, ""]))
            self._out.flush()
        except (OSError, ValueError):
            # The terminal or pipe is gone; serving goes on without it.
            return


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
    """Return an entry as ``logs.json_line`` would write it; ``who`` is ``worker`` as a part of an object."""
    line = access_line(entry)
    if _is_plain(entry):
        message = line.replace('"', '\\"')
        return f'{_beginning(entry)}{who}, "msg": "{message}", {_plain_fields(entry)}}}'
    document = {"ts": _moment(entry), "level": "info", "logger": "dockreg.access", **worker, "msg": line}
    return json.dumps({**document, **access_fields(entry)})


def object_entry(entry: AccessEntry, *, worker: Mapping[str, int] = NOBODY, who: str = "") -> str:
    """Return an entry as a JSON object of its fields; ``who`` is ``worker`` as a part of an object."""
    if _is_plain(entry):
        referer = redacted_address(entry.referer)
        return (
            f"{_beginning(entry)}{who}, {_plain_fields(entry)}, "
            f'"referer": "{referer}", "http_version": "{entry.http_version}"}}'
        )
    document = {"ts": _moment(entry), "level": "info", "logger": "dockreg.access", **worker}
    return json.dumps({**document, **access_object(entry)})


def _is_plain(entry: AccessEntry) -> bool:
    """Tell whether all texts of an entry can stand in JSON as they are."""
    texts = entry.peer + entry.user + entry.uri + entry.method + entry.user_agent + entry.referer
    return _PLAIN.fullmatch(texts + entry.http_version) is not None


def _beginning(entry: AccessEntry) -> str:
    return f'{{"ts": "{_moment(entry)}", "level": "info", "logger": "dockreg.access"'


def _plain_fields(entry: AccessEntry) -> str:
    """Return ``logs.access_fields`` as a part of an object; made by hand, since each request pays for it."""
    return (
        f'"peer": "{entry.peer}", "user": "{entry.user}", "method": "{entry.method}", '
        f'"uri": "{redacted_address(entry.uri)}", "status": {entry.status}, '
        f'"sent_bytes": {entry.sent_bytes}, "received_bytes": {entry.received_bytes}, '
        f'"duration_seconds": {round(entry.duration_seconds, 6)!r}, '
        f'"user_agent": "{redacted(entry.user_agent)}", "request_id": "{entry.request_id}"'
    )


def _moment(entry: AccessEntry) -> str:
    ended_at = entry.started_at + entry.duration_seconds
    second = int(ended_at)
    return f"{_second_text(second)}.{int((ended_at - second) * 1000):03d}Z"


@lru_cache(maxsize=16)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
