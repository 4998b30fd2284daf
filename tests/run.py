"""Runs the whole suite and ends with one line: ``N passed, N failed, N skipped``.

Every skip is printed with its reason. With ``--clients=install`` each client must be there, so that a skip is
a failure unless ``allowed_skips.txt`` names it.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from twisted.trial.reporter import TestResult, VerboseTextReporter
from twisted.trial.runner import TestLoader, TrialRunner

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")
#: So many modules are named with the time they took.
SLOWEST = 25
#: Packages that are tested in a process of their own, beside all others.
BESIDE = (
    "tests.bench",
    "tests.cli",
    "tests.clients",
    "tests.contracts",
    "tests.fronts",
    "tests.fuzz",
    "tests.image",
    "tests.moving",
    "tests.records",
    "tests.registry",
    "tests.web",
)
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

    def add(self, other: Count) -> None:
        """Take in what another run came to."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.remarks += other.remarks

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


def run_suite(names: Sequence[str], milliseconds: Counter[str], *, directory: str) -> TestResult:
    """Run the tests of these names with trial's own loader and runner.

    Args:
        names: of packages, modules or tests.
        milliseconds: takes how long each module took.
        directory: for what the tests write.
    """
    suite = TestLoader().loadByNames(list(names), recurse=True)

    class TimedReporter(VerboseTextReporter):
        """Adds up the time of each module."""

        began_at = 0.0

        def startTest(self, test: object) -> None:
            self.began_at = time.monotonic()
            super().startTest(test)

        def stopTest(self, test: object) -> None:
            super().stopTest(test)
            module = test.id().rpartition(".")[0].rpartition(".")[0]  # type: ignore[attr-defined] # a test
            milliseconds[module] += round(1000 * (time.monotonic() - self.began_at))

    runner = TrialRunner(TimedReporter, workingDirectory=directory)
    return cast("TestResult", runner.run(suite))


def top_level() -> list[str]:
    """Return the names of all packages and modules of tests."""
    here = Path(__file__).parent
    packages = [path.parent.name for path in here.glob("*/__init__.py")]
    return [f"tests.{name}" for name in sorted([*packages, *(path.stem for path in here.glob("test_*.py"))])]


@contextmanager
def beside(arguments: Sequence[str], names: Sequence[str]) -> Iterator[Count]:
    """Run these tests in another process, as clients and servers often wait; print its output at the end."""
    tally = Count()
    with tempfile.TemporaryDirectory(prefix="dockreg-tests-") as name:
        output, kept = Path(name) / "output", Path(name) / "tally"
        command = [sys.executable, "-m", "tests.run", *arguments, f"--tally={kept}", *names]
        with output.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
            try:
                yield tally
            finally:
                process.wait()
        sys.stdout.write(output.read_text(encoding="utf-8", errors="replace"))
        if kept.exists():
            tally.add(Count(**json.loads(kept.read_text(encoding="utf-8"))))
        else:
            tally.fail(f"the tests beside ended with {process.returncode}")


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


def run_here(names: Sequence[str], allowed: Sequence[str] | None, *, directory: str) -> Count:
    """Run tests in this process, and tell which modules took longest."""
    took: Counter[str] = Counter()
    tally = count(run_suite(names, took, directory=directory), allowed=allowed)
    lines = [f"{milliseconds / 1000:6.1f} s  {module}" for module, milliseconds in took.most_common(SLOWEST)]
    sys.stdout.write("\n".join(["", *lines, ""]))
    return tally


def main(arguments: Sequence[str]) -> int:
    """Run, report and return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.run")
    parser.add_argument("--clients", choices=["install"], help="clients are installed: skips are failures")
    parser.add_argument("names", nargs="*", help="modules or tests; default: everything, and the coverage")
    parser.add_argument("--tally", metavar="FILE", help="write the counts there instead of printing them")
    options = parser.parse_args(arguments)
    allowed = None
    if options.clients:
        allowed = allowed_skips(ALLOWED_SKIPS.read_text(encoding="utf-8"))
        os.environ["TEST_CLIENTS"] = options.clients
    if options.names:
        tally = run_here(
            options.names, allowed, directory="_trial_temp_beside" if options.tally else "_trial_temp"
        )
    else:
        own = [name for name in top_level() if name not in BESIDE]
        with beside(arguments, BESIDE) as others:
            tally = run_here(own, allowed, directory="_trial_temp")
        tally.add(others)
    if not options.names:
        for room, names in COVERED.items():
            if uncovered(room):
                tally.fail(f"a branch of {room} is not covered by {', '.join(names)}")
    if not tally.passed + tally.failed:
        tally.fail("no test ran")
    if options.tally:
        Path(options.tally).write_text(json.dumps(asdict(tally)), encoding="utf-8")
        return 0
    sys.stdout.write("\n".join(["", *sorted(tally.remarks), tally.line(), ""]))
    sys.stdout.flush()
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
