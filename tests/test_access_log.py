"""The access log: lines as the other log has them, gathered and never lost by an orderly end."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from dockreg_tx.access_log import LINES_LIMIT, WAIT_SECONDS, WAITING_LIMIT, AccessLog, entry_form
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.logs import access_fields, access_line, access_object, json_line, text_line, write_whole
from dockreg_tx.ports import HandsOff
from dockreg_tx.web.site import AccessEntry

PLAIN = AccessEntry(
    "192.0.2.1",
    "alice",
    "GET",
    "/v2/",
    200,
    2,
    0,
    0.00125,
    "0a1b",
    "",
    "docker/29",
    "HTTP/1.1",
    1_800_000_000.0,
)
FORGED = PLAIN._replace(method="", http_version='HTTP/"1\n', status=400)
#: Of a head that could not be read.
UNREAD = PLAIN._replace(method="", uri="", http_version="", status=400)
ODD = PLAIN._replace(uri='/v2/"\\\u00e9', user_agent="a\tb", user="")


class AccessLogTests(SynchronousTestCase):
    """When lines are written, and how they look."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.out = io.StringIO()
        self.log = self.log_by(InlineBlocking())

    def log_by(self, blocking: HandsOff) -> AccessLog:
        """Return one that is written in another way."""
        return AccessLog(self.out, lambda entry: entry.uri, clock=self.clock, blocking=blocking)

    def test_gathered(self) -> None:
        """Lines wait a moment for others, and then are written together."""
        self.log(PLAIN)
        self.log(PLAIN)
        self.assertEqual("", self.out.getvalue())
        self.clock.advance(WAIT_SECONDS)
        self.assertEqual("/v2/\n/v2/\n", self.out.getvalue())

    def test_many(self) -> None:
        """Many lines do not wait."""
        for _ in range(LINES_LIMIT):
            self.log(PLAIN)
        self.assertEqual(LINES_LIMIT, self.out.getvalue().count("\n"))

    def test_flush(self) -> None:
        """At the end nothing waits any more, and no timer is left."""
        self.log(PLAIN)
        self.log.flush()
        self.assertEqual(("/v2/\n", []), (self.out.getvalue(), self.clock.getDelayedCalls()))

    def test_slow(self) -> None:
        """While what takes lines keeps them waiting, they are gathered; too many are lost, and counted."""
        given: list[Callable[[], None]] = []

        class _Stuck:
            def give(self, work: Callable[[], None]) -> None:
                given.append(work)

        log = self.log_by(_Stuck())
        for _ in range(WAITING_LIMIT + 3 * LINES_LIMIT):
            log(PLAIN)
        self.assertEqual("", self.out.getvalue())
        for work in given:
            work()
        self.assertEqual(WAITING_LIMIT + LINES_LIMIT, self.out.getvalue().count("\n"))
        warned: list[str] = []

        @provider(ILogObserver)
        def note(event: LogEvent) -> None:
            warned.append(formatEvent(event))

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        log(PLAIN)
        self.clock.advance(WAIT_SECONDS)
        given[-1]()
        self.assertEqual(WAITING_LIMIT + LINES_LIMIT + 1, self.out.getvalue().count("\n"))
        self.assertEqual(
            [f"{2 * LINES_LIMIT} lines of the access log are lost, for what takes them was too slow"], warned
        )

    def test_unbuffered(self) -> None:
        """What a pipe takes only in part is written to its end, also without a buffer in between."""
        taken = bytearray()

        class _Pipe(io.RawIOBase):
            def writable(self) -> bool:
                return True

            def write(self, data: Any) -> int:
                taken.extend(data[:7])
                return min(7, len(data))

        write_whole(io.TextIOWrapper(_Pipe(), "utf-8", write_through=True), "a long line \u00e9\n")  # type: ignore[type-var]
        self.assertEqual("a long line \u00e9\n", taken.decode())

    def test_closed(self) -> None:
        """An output that has gone stops nothing."""
        self.out.close()
        self.log(PLAIN)
        self.log.flush()

    def test_forms(self) -> None:
        """A line is what the log of events would have written at the end of the request."""
        for entry in (PLAIN, ODD, FORGED, UNREAD):
            event = {
                "log_level": LogLevel.info,
                "log_namespace": "dockreg.access",
                "log_time": entry.started_at + entry.duration_seconds,
                "log_format": "{line}",
                "line": access_line(entry),
                "access": access_fields(entry),
            }
            for worker in ({}, {"worker": 2, "pid": 4711}):
                as_json, as_text = entry_form("json", worker)(entry), entry_form("text", worker)(entry)
                self.assertEqual(json_line(event, worker), as_json)
                self.assertEqual(text_line(event, worker), as_text)

    def test_objects(self) -> None:
        """As JSON a line is an object of all fields, whatever form other lines have."""
        for entry in (PLAIN, ODD, FORGED, UNREAD, PLAIN._replace(referer="https://a:secret@h/?token=secret")):
            for form in ("text", "json"):
                for worker in ({}, {"worker": 2, "pid": 4711}):
                    line = entry_form(form, worker, access="json")(entry)
                    found = json.loads(line)
                    moment = found.pop("ts")
                    self.assertTrue(moment.startswith("2027-01-15T08:00:00.0"), moment)
                    expected = {"level": "info", "logger": "dockreg.access", **worker, **access_object(entry)}
                    self.assertEqual(expected, found)
                    self.assertNotIn("secret", line)
                    self.assertNotIn("\n", line)

    def test_unread(self) -> None:
        """What could not be read as a request is a dash, as in the logs of other servers."""
        line = access_line(PLAIN._replace(method="", uri="", http_version=""))
        self.assertIn('] "-" ', line)

    def test_capped(self) -> None:
        """A client that sends long fields does not make long lines."""
        long = PLAIN._replace(uri="/" + "x" * 60_000, user_agent="y" * 60_000, referer="z" * 60_000)
        for form, access in (("text", "combined"), ("json", "combined"), ("text", "json")):
            self.assertLess(len(entry_form(form, access=access)(long)), 6500)

    def test_time(self) -> None:
        """A line bears the time of the answer."""
        moment = datetime.fromtimestamp(PLAIN.started_at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        self.assertEqual(f"{moment}.001Z", json.loads(entry_form("json")(PLAIN))["ts"])
