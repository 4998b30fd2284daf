"""Runs the ``dockreg`` command in this process, on a root of its own."""

from __future__ import annotations

import json
import os
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.cli.main import dockreg


class CommandCase(SynchronousTestCase):
    """A test case with a root that is not ready yet; ``init`` makes it so."""

    def setUp(self) -> None:
        """Choose a root."""
        self.root = os.path.abspath(self.mktemp())

    def run_command(self, *arguments: str, typed: str | None = None, **environ: str) -> Result:
        """Run the command as another process would see it, without the tester's own settings."""
        hidden: dict[str, str | None] = {name: None for name in os.environ if name.startswith("DOCKREG_")}
        return CliRunner().invoke(
            dockreg,
            list(arguments),
            input=typed,
            env={**hidden, "DOCKREG_STORAGE_ROOT": self.root, **environ},
        )

    def done(self, *arguments: str, typed: str | None = None) -> str:
        """Run a command that must succeed, and return its standard output."""
        result = self.run_command(*arguments, typed=typed)
        self.assertEqual(0, result.exit_code, result.output)
        return result.stdout

    def listed(self, *arguments: str) -> Any:
        """Run a listing and return its JSON."""
        return json.loads(self.done(*arguments, "--json"))

    def refused(self, *arguments: str, typed: str | None = None, **environ: str) -> str:
        """Run a command that must be refused, and return its one line."""
        result = self.run_command(*arguments, typed=typed, **environ)
        self.assertEqual((1, ""), (result.exit_code, result.stdout), result.output)
        self.assertEqual(1, len(result.stderr.splitlines()), result.stderr)
        self.assertTrue(result.stderr.startswith("dockreg: "), result.stderr)
        return result.stderr
