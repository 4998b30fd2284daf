"""The closing line of ``make test``: what counts as passed, failed and skipped."""

from __future__ import annotations

import sys

from twisted.python.failure import Failure
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase, makeTodo

from tests.run import ALLOWED_SKIPS, BESIDE, Count, allowed_skips, beside, count, top_level


class CountTests(SynchronousTestCase):
    """A result becomes three numbers and the lines worth reading."""

    def setUp(self) -> None:
        """Make an empty result."""
        self.result = TestResult()

    def failure(self) -> Failure:
        """Return a failure with a traceback."""
        try:
            self.fail("so it is")
        except self.failureException:
            return Failure(*sys.exc_info())

    def test_passed(self) -> None:
        """A success, and a failure that its author expects, have passed."""
        self.result.addSuccess(self)
        self.result.addExpectedFailure(self, self.failure(), makeTodo("known"))
        self.assertEqual("2 passed, 0 failed, 0 skipped", count(self.result, allowed=None).line())

    def test_failed(self) -> None:
        """Failures, errors and unexpected successes have failed, and are named."""
        self.result.addFailure(self, self.failure())
        self.result.addError(self, self.failure())
        self.result.addUnexpectedSuccess(self, makeTodo("known"))
        tally = count(self.result, allowed=None)
        self.assertEqual("0 passed, 3 failed, 0 skipped", tally.line())
        self.assertEqual([f"FAILED {self.id()}"] * 3, tally.remarks)

    def test_skipped(self) -> None:
        """A skip is shown with its reason, on one line."""
        self.result.addSkip(self, "no such\nclient")
        tally = count(self.result, allowed=None)
        self.assertEqual("0 passed, 0 failed, 1 skipped", tally.line())
        self.assertEqual([f"SKIPPED {self.id()}: no such client"], tally.remarks)

    def test_skip_where_all_is_installed(self) -> None:
        """With clients installed a skip is a failure, unless it is on the list."""
        self.result.addSkip(self, "no such client")
        self.assertEqual("0 passed, 1 failed, 0 skipped", count(self.result, allowed=[]).line())
        self.assertEqual(
            "0 passed, 0 failed, 1 skipped", count(self.result, allowed=["tests.test_run.*"]).line()
        )


class AllowedSkipTests(SynchronousTestCase):
    """The list of skips that are allowed."""

    def test_reasons(self) -> None:
        """Each line has a pattern and a reason; comments and blank lines are passed over."""
        self.assertEqual(
            ["tests.a.*", "tests.b"], allowed_skips("# why\n\ntests.a.*: no disk\ntests.b: slow\n")
        )
        for line in ("tests.a.*", "tests.a.*:  "):
            self.assertRaises(ValueError, allowed_skips, line)

    def test_shipped_list(self) -> None:
        """The shipped list can be read, and is short."""
        self.assertLess(len(allowed_skips(ALLOWED_SKIPS.read_text(encoding="utf-8"))), 10)


class BesideTests(SynchronousTestCase):
    """Tests in a process of their own."""

    def test_counts(self) -> None:
        """What another process counted is added."""
        with beside([], ["tests.oci.test_names"]) as tally:
            pass
        self.assertGreater(tally.passed, 5)
        total = Count(passed=1, failed=2, skipped=3, remarks=["one"])
        total.add(Count(passed=1, failed=1, skipped=1, remarks=["two"]))
        self.assertEqual(("2 passed, 3 failed, 4 skipped", ["one", "two"]), (total.line(), total.remarks))

    def test_broken_process(self) -> None:
        """A process that cannot even begin is a failure."""
        with beside([], ["--no-such-option"]) as tally:
            pass
        self.assertEqual(1, tally.failed)

    def test_nothing_is_left_out(self) -> None:
        """All tests are in the one process or in the other."""
        self.assertLessEqual(set(BESIDE), set(top_level()))
        self.assertIn("tests.test_run", top_level())
