"""The page that says what real clients did."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.report import HEAD, Outcome, Recorder, page


class Sample(SynchronousTestCase):
    """Tests to be recorded."""

    def id(self) -> str:
        """Return a name as tests of clients have."""
        return f"tests.clients.test_nonesuch.Sample.{self._testMethodName}"

    def good(self) -> None:
        """Pass."""

    def bad(self) -> None:
        """Fail."""
        self.fail("on purpose")

    def absent(self) -> None:
        """Skip."""

    absent.skip = "no such\nclient"  # type: ignore[attr-defined] # how trial marks a skipped test


class PageTests(SynchronousTestCase):
    def test_page(self) -> None:
        """Each client has a row with its counts and a section with its operations, failures first."""
        outcomes = [
            Outcome("nonesuch", "It pulls.", "passed"),
            Outcome("nonesuch", "It pushes.", "failed"),
            Outcome("nonesuch", "It mounts.", "skipped", "(too old)"),
        ]
        expected = (
            "| nonesuch | not installed | 1 | 1 | 1 |\n"
            "\n## nonesuch\n\n- **failed**: It pushes.\n- **skipped**: It mounts. (too old)\n- It pulls.\n"
        )
        self.assertEqual(HEAD + expected, page(outcomes))

    def test_recorder(self) -> None:
        """What tests come to is kept with their docstrings."""
        with open("output", "w", encoding="utf-8") as output:
            recorder = Recorder(output)
            for name in ("good", "bad", "absent"):
                Sample(name).run(recorder)
        self.assertEqual(
            [
                Outcome("nonesuch", "Pass.", "passed"),
                Outcome("nonesuch", "Fail.", "failed"),
                Outcome("nonesuch", "Skip.", "skipped", "(no such client)"),
            ],
            recorder.outcomes,
        )
