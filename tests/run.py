"""Runs the whole suite and ends with one line: ``N passed, N failed, N skipped``.

Every skip is printed with its reason. With ``--clients=install`` each client must be there, so that a skip is
a failure unless ``allowed_skips.txt`` names it.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from twisted.trial.reporter import Reporter, TestResult, VerboseTextReporter
from twisted.trial.runner import TestLoader, TrialRunner

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")
#: Rooms whose every branch is run by these tests; what tokens are for shows only in requests.
COVERED = {
    "oci": ("tests.oci",),
    "access": ("tests.access", "tests.web.test_token", "tests.web.test_matrix"),
}


@dataclass
class Count:
    """What a run came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    #: Lines worth repeating at the end.
    remarks: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the closing line."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def fail(self, remark: str) -> None:
        """Count one more failure, and say which."""
        self.failed += 1
        self.remarks.append(f"FAILED {remark}")


def allowed_skips(text: str) -> list[str]:
    """Return the patterns of test ids that may be skipped; each line is ``pattern: reason``.

    Raises:
        ValueError: a line gives no reason.
    """
    patterns = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pattern, _, reason = line.partition(":")
        if not reason.strip():
            raise ValueError(f"a skip without a reason: {line}")
        patterns.append(pattern.strip())
    return patterns


def count(result: TestResult, *, allowed: Sequence[str] | None) -> Count:
    """Return what ``result`` came to.

    Args:
        result: of a finished run.
        allowed: patterns of ids that may be skipped; None when every test may.
    """
    # An expected failure did as its author said; a test that passed in spite of that did not.
    tally = Count(passed=result.successes + len(result.expectedFailures))
    for test, _ in [*result.failures, *result.errors, *result.unexpectedSuccesses]:
        tally.fail(test.id())
    for test, reason in result.skips:
        name, why = test.id(), " ".join(str(reason).split())
        if allowed is not None and not any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed):
            tally.fail(f"{name} was skipped: {why}")
        else:
            tally.skipped += 1
            tally.remarks.append(f"SKIPPED {name}: {why}")
    return tally


def run_suite(names: Sequence[str]) -> TestResult:
    """Run the tests of these names with trial's own loader and runner."""
    suite = TestLoader().loadByNames(list(names), recurse=True)

    def reporter(*args: object, **kwargs: object) -> Reporter:
        return VerboseTextReporter(*args, **kwargs)

    runner = TrialRunner(reporter, workingDirectory="_trial_temp")
    return cast("TestResult", runner.run(suite))


def uncovered(room: str) -> bool:
    """Tell whether a branch of a room is left out by the room's tests, and print which."""
    environ = {**os.environ, "COVERAGE_FILE": f".coverage.{room}"}
    trial = [
        "-m",
        "twisted.trial",
        "--reporter=text",
        f"--temp-directory=_trial_temp_{room}",
        *COVERED[room],
    ]
    for arguments in (
        ["run", "--branch", f"--source=dockreg_tx.{room}", *trial],
        ["combine", "--quiet"],
        ["report", "--fail-under=100"],
    ):
        command = [sys.executable, "-m", "coverage", *arguments]
        done = subprocess.run(command, env=environ, check=False, text=True, capture_output=True)
        if done.returncode:
            sys.stdout.write(done.stdout + done.stderr)
            return True
    return False


def main(arguments: Sequence[str]) -> int:
    """Run, report and return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.run")
    parser.add_argument("--clients", choices=["install"], help="clients are installed: skips are failures")
    parser.add_argument("names", nargs="*", help="modules or tests; default: everything, and the coverage")
    options = parser.parse_args(arguments)
    allowed = None
    if options.clients:
        allowed = allowed_skips(ALLOWED_SKIPS.read_text(encoding="utf-8"))
        os.environ["TEST_CLIENTS"] = options.clients
    tally = count(run_suite(options.names or ["tests"]), allowed=allowed)
    if not options.names:
        for room, names in COVERED.items():
            if uncovered(room):
                tally.fail(f"a branch of {room} is not covered by {', '.join(names)}")
    if not tally.passed + tally.failed:
        tally.fail("no test ran")
    sys.stdout.write("\n".join(["", *sorted(tally.remarks), tally.line(), ""]))
    sys.stdout.flush()
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
