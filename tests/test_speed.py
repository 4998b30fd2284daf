"""dockreg stays as fast, beside Debian's docker-registry, as it once was."""

from __future__ import annotations

import shutil
import sys

from twisted.trial.unittest import SynchronousTestCase

from bench import guard
from bench.guard import Finding


class SpeedTests(SynchronousTestCase):
    """The floors of ``bench/floors.toml``."""

    def test_floors(self) -> None:
        """No row is a quarter under its floor in all rounds."""
        for program in (guard.BESIDE, "wrk", "taskset"):
            if shutil.which(program) is None:
                self.skipTest(f"{program} is not installed")
        found = guard.look()
        for finding in found:
            sys.stderr.write(f"\n    {finding}")
        self.assertEqual([], [str(finding) for finding in found if not finding.is_kept])

    def test_finding(self) -> None:
        """The best round counts, and a quarter is forgiven."""
        self.assertTrue(Finding("row", 4.0, (1.0, 3.0)).is_kept)
        self.assertFalse(Finding("row", 4.0, (2.9, 1.0)).is_kept)
