"""A short campaign of random requests, and proof that the oracle notices what is wrong."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.web.v2.base import Base
from dockreg_tx.web.v2.tags import Tags
from tests.fuzz.campaign import run
from tests.fuzz.cases import Case
from tests.fuzz.oracle import Failures, answer_problems, error_problems, problems_of
from tests.fuzz.server import FuzzServer

CASES = 20_000
SEED = 20_260


class FuzzTests(SynchronousTestCase):
    """Random requests."""

    def test_campaign(self) -> None:
        """No case makes a 500, a logged failure, a hang, an odd status or a malformed answer."""
        outcome = run(CASES, SEED)
        self.assertEqual([], outcome.failed[:3], str(outcome))
        self.assertEqual(CASES, outcome.cases)
        # The cases reach every kind of answer, so they do not all end at the first check.
        missing = {200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 408, 413, 414, 416, 431}
        self.assertEqual(set(), missing - outcome.statuses.keys())

    def test_reproducible(self) -> None:
        """The same seed plays the same cases, in one process or in two."""
        whole = run(600, 7)
        parts = [run(600, 7, first_block=number, step=2) for number in range(2)]
        self.assertEqual(whole.statuses, parts[0].statuses + parts[1].statuses)
        self.assertNotEqual(whole.statuses, run(600, 8).statuses)


class OracleTests(SynchronousTestCase):
    """The oracle, against a registry that is broken on purpose."""

    def problems(self, path: str, *, leaves: bool = False) -> list[str]:
        """Play one request."""
        head = f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic YWRtaW46c2VjcmV0\r\n\r\n"
        server = FuzzServer()
        with Failures() as failures:
            return problems_of(server, Case((head.encode(),), leaves), failures)

    def test_sound(self) -> None:
        """A good answer is no problem."""
        self.assertEqual([], self.problems("/v2/"))
        self.assertEqual([], self.problems("/v2/team/app/tags/list?n=x", leaves=True))

    def test_crash(self) -> None:
        """A handler that raises is found by status and by log."""

        async def crash(self: Any, call: Any) -> Any:
            raise ZeroDivisionError("broken on purpose")

        self.patch(Base, "get", crash)
        found = self.problems("/v2/")
        self.assertEqual(2, len(found), found)
        self.assertIn("ZeroDivisionError", found[0])
        self.assertEqual("undocumented status 500", found[1])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_silence(self) -> None:
        """A handler that logs an error, though it answers, is found."""
        original = Tags.get

        async def noisy(self: Tags, call: Any) -> Any:
            Logger().error("something is wrong")
            return await original(self, call)

        self.patch(Tags, "get", noisy)
        self.assertEqual(["something is wrong"], self.problems("/v2/team/app/tags/list"))

    def test_hang(self) -> None:
        """A handler that never answers is found."""

        async def wait(self: Any, call: Any) -> Any:
            from twisted.internet.defer import Deferred

            await Deferred()

        self.patch(Base, "get", wait)
        self.assertIn("the server never closes an idle connection", self.problems("/v2/"))

    def test_answers(self) -> None:
        """Bytes that nobody asked for, and errors in another form, are found."""
        self.assertIn("bytes that no request asked for", answer_problems(b"HTTP/1.1 200 OK\r\n\r\n", [])[0])
        good = {"content-type": "application/json", "docker-distribution-api-version": "registry/2.0"}
        body = json.dumps({"errors": [{"code": "DENIED", "message": "no"}]}).encode()
        self.assertEqual([], error_problems(good, body))
        for headers, content in (
            (good, b"<html>"),
            (good, b'{"errors":[]}'),
            (good, body.replace(b"DENIED", b"NO_CODE")),
            ({**good, "content-type": "text/html"}, body),
            ({"content-type": "application/json"}, body),
        ):
            self.assertEqual(1, len(error_problems(headers, content)))
