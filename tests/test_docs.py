"""The site: every page is in its contents; the reference names each setting, command, option and code."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dockreg_tx.cli.main import dockreg
from dockreg_tx.metrics import FAMILIES
from dockreg_tx.oci.errors import ErrorCode
from dockreg_tx.settings import DEFAULTS

TOP = Path(__file__).parent.parent


def reference() -> ModuleType:
    """Return ``docs/reference.py``, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("reference", TOP / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ReferenceTests(SynchronousTestCase):
    def test_settings(self) -> None:
        """Every setting has its line."""
        page = reference().settings_page()
        for key in DEFAULTS:
            self.assertIn(f"| `{key}` |", page)

    def test_commands(self) -> None:
        """Every command is shown, and each of its options is explained."""
        made = reference()
        page = made.commands_page()
        for path, command in made.commands(dockreg, "dockreg"):
            self.assertIn(f"## {path}\n", page)
            self.assertTrue(command.help, path)
            for option in command.params:
                if isinstance(option, click.Option) and not option.hidden:
                    self.assertTrue(option.help, f"{path} {option.opts}")

    def test_errors(self) -> None:
        """Every code has a cause."""
        page = reference().errors_page()
        for code in ErrorCode:
            self.assertIn(f"| `{code.value}` |", page)

    def test_metrics(self) -> None:
        """Every metric is explained."""
        page = reference().metrics_page()
        for family in FAMILIES:
            self.assertIn(f"| `{family.name}", page)


class SiteTests(SynchronousTestCase):
    def test_contents(self) -> None:
        """The first page leads to every other."""
        index = (TOP / "docs" / "index.md").read_text().split()
        for path in (TOP / "docs").rglob("*.md"):
            if path.name != "index.md":
                self.assertIn(str(path.relative_to(TOP / "docs").with_suffix("")), index)

    def test_site(self) -> None:
        """Sphinx writes the site without a warning."""
        if any(importlib.util.find_spec(name) is None for name in ("sphinx", "furo", "myst_parser")):
            raise SkipTest("Sphinx is not installed: make docs installs it")
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", "docs", self.mktemp()]
        command[-1] = str(Path(command[-1]).absolute())
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=300)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
