"""Writes down what real clients did: ``python -m tests.clients.report FILE`` runs all of their tests."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.reporter import VerboseTextReporter
from twisted.trial.runner import TestLoader, TrialRunner

from tests.clients.local import PATH, TOOLS

VERSION = re.compile(r"v?\d+\.\d+[\w.~+-]*")
#: Programs of a module of tests, where it is not one program of the same name.
PROGRAMS = {
    "anonymous": ("skopeo",),
    "ctr": ("ctr", "containerd"),
    "docker": ("docker", "dockerd"),
    "logins": ("docker", "podman", "skopeo", "crane", "regctl", "oras", "helm", "ctr", "curl"),
    "moving": ("docker-registry", "docker", "skopeo", "crane"),
    "podman": ("podman", "buildah"),
    "search": ("docker", "podman"),
}
TITLES = {
    "conformance": "OCI conformance suite",
    "anonymous": "skopeo, without credentials",
    "search": "Search",
    "moving": "Moving in from registry:2, and out",
    "logins": "Logins with Bearer and with Basic",
}
HEAD = """# Clients

What real programs did with dockreg, over plain HTTP with user and password. `make clients-report` runs their
tests (`tests/clients`) and writes this page. [access.md](access.md) says what the two rights mean.

| client | version | passed | failed | skipped |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a test came to."""

    #: Name of its module without ``test_``.
    client: str
    #: What it does, in one sentence.
    operation: str
    #: ``passed``, ``failed`` or ``skipped``.
    result: str
    reason: str = ""

    def line(self) -> str:
        """Return its line of the page."""
        if self.result == "passed":
            return f"- {self.operation}"
        return f"- **{self.result}**: {self.operation} {self.reason}".rstrip()


class Recorder(VerboseTextReporter):
    """Prints the tests as trial does, and keeps what they came to."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.outcomes: list[Outcome] = []

    def _record(self, test: object, result: str, reason: object = "") -> None:
        name = test.id()  # type: ignore[attr-defined] # trial's reporters carry no annotations
        client = name.split(".")[2].removeprefix("test_")
        operation = test.shortDescription()  # type: ignore[attr-defined] # the same
        self.outcomes.append(Outcome(client, operation, result, " ".join(str(reason).split())))

    def addSuccess(self, test: object) -> None:
        """Record a success."""
        super().addSuccess(test)
        self._record(test, "passed")

    def addFailure(self, test: object, fail: object) -> None:
        """Record a failure; its text is on the terminal."""
        super().addFailure(test, fail)
        self._record(test, "failed")

    def addError(self, test: object, error: object) -> None:
        """Record an error; its text is on the terminal."""
        super().addError(test, error)
        self._record(test, "failed")

    def addSkip(self, test: object, reason: object) -> None:
        """Record a skip with its reason."""
        super().addSkip(test, reason)
        self._record(test, "skipped", f"({reason})")


def version(program: str) -> str:
    """Return a program's version: the one that was built for the tests, or what it says itself."""
    stamp = TOOLS.parent / "stamps" / program
    if stamp.exists():
        return stamp.read_text().strip().rpartition("@")[2]
    for word in ("--version", "version"):
        try:
            done = subprocess.run(
                [program, word], capture_output=True, text=True, check=False, env={"PATH": PATH}, timeout=30
            )
        except FileNotFoundError:
            return "not installed"
        if found := VERSION.search(done.stdout):
            return found.group()
    return "unknown"


def page(outcomes: Sequence[Outcome]) -> str:
    """Return the page: a table of all clients, then what each of them did."""
    rows, sections = [], []
    for client in sorted({outcome.client for outcome in outcomes}):
        mine = sorted((each for each in outcomes if each.client == client), key=Outcome.line)
        counts = [sum(each.result == result for each in mine) for result in ("passed", "failed", "skipped")]
        title = TITLES.get(client, ", ".join(PROGRAMS.get(client, (client,))))
        versions = ", ".join(version(program) for program in PROGRAMS.get(client, (client,)))
        rows.append(f"| {title} | {versions} | {' | '.join(map(str, counts))} |\n")
        sections.append(f"\n## {title}\n\n" + "".join(f"{each.line()}\n" for each in mine))
    return HEAD + "".join(rows) + "".join(sections)


def main(target: str) -> int:
    """Run the tests of all clients, write the page, and return the exit status."""
    suite = TestLoader().loadByNames(["tests.clients"], recurse=True)
    with tempfile.TemporaryDirectory(prefix="dockreg-report-") as directory:
        result = TrialRunner(Recorder, workingDirectory=str(Path(directory, "trial"))).run(suite)
    assert isinstance(result, Recorder)
    Path(target).write_text(page(result.outcomes), encoding="utf-8")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
