"""The site: every page is in its contents; the reference names each setting, command, option and code."""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import dockreg_tx
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.cli.main import dockreg
from dockreg_tx.metrics import totals
from dockreg_tx.oci.errors import ErrorCode, RegistryError
from dockreg_tx.settings import DEFAULTS, load_settings
from dockreg_tx.settings_sources import environment_name
from dockreg_tx.tap import Options
from dockreg_tx.web.exposition import Exposition
from tests.recipes import PAGES, dockreg_commands, indented_blocks

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

    def test_server_options(self) -> None:
        """Every option of the server is shown."""
        page = reference().commands_page()
        for name in [str(each[0]) for each in Options.optParameters] + ["listen"]:
            self.assertIn(f"--{name}=", page)

    def test_errors(self) -> None:
        """Every code is there, and every refusal of any module with its status and its cause."""
        page = reference().errors_page()
        for code in ErrorCode:
            self.assertIn(f"| `{code.value}` |", page)
        for module in pkgutil.walk_packages(dockreg_tx.__path__, "dockreg_tx."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        for cause in refusals(RegistryError):
            said = (inspect.getdoc(cause) or "").partition("\n\n")[0].replace("\n", " ")
            self.assertTrue(said, cause)
            self.assertIn(f"| `{cause.code.value}` | {cause.status} | {said} |", page)

    def test_metrics(self) -> None:
        """Every metric that a server answers is explained."""
        page = reference().metrics_page()
        exposition = Exposition(totals=lambda: totals([]), blocking=InlineBlocking(), version="1")
        answer = self.successResultOf(Deferred.fromCoroutine(exposition.answer("")))
        answered = set(re.findall(r"^# HELP (\S+) \S", answer.body.decode(), re.MULTILINE))
        self.assertTrue(len(answered) > 10, answered)
        self.assertEqual(set(re.findall(r"^\| `(\S+)` \|", page, re.MULTILINE)), answered)

    def test_settings_in_prose(self) -> None:
        """The page for operators names every key, and the sample file is one of all keys."""
        page = (TOP / "docs" / "operating.md").read_text(encoding="utf-8")
        for key in DEFAULTS:
            self.assertIn(f"`{key}`", page)


def refusals(base: type[RegistryError]) -> Iterator[type[RegistryError]]:
    """Yield every class below one of refusals."""
    for each in base.__subclasses__():
        if each.__module__.startswith("dockreg_tx."):
            yield each
        yield from refusals(each)


class CopiedTests(SynchronousTestCase):
    """What people copy from the pages."""

    def test_commands(self) -> None:
        """Every ``dockreg`` in the code of a page is a command, with options that it has."""
        seen = 0
        for path in PAGES:
            for words in dockreg_commands(path.read_text(encoding="utf-8")):
                if not words or words[0] not in {*dockreg.commands, "--root", "--config"}:
                    continue  # the name stands for something else
                if any(word.startswith("[") or word in {"\u00b7", "--listen"} for word in words):
                    continue  # a synopsis, or the server's own options
                seen += 1
                try:
                    understood(dockreg, "dockreg", words)
                except click.ClickException as error:
                    # Files of the page are not here.
                    if "such file" not in str(error):
                        self.fail(f"{path.name}: dockreg {' '.join(words)}: {error.format_message()}")
        self.assertTrue(seen > 40, seen)

    def test_settings(self) -> None:
        """Every block of settings is one that the server takes."""
        seen = 0
        for path in PAGES:
            for block in indented_blocks(path.read_text(encoding="utf-8")):
                named = re.findall(r"^\[([a-z]+)\]$", block, re.MULTILINE)
                if not named or not set(named) <= {key.partition(".")[0] for key in DEFAULTS}:
                    continue
                file = Path(self.mktemp())
                file.write_text(block, encoding="utf-8")
                load_settings(config_path=str(file), environ={}, options={})
                seen += 1
        self.assertTrue(seen >= 5, seen)

    def test_variables(self) -> None:
        """Every variable that a page, a compose file or the image names is one of a setting."""
        known = {environment_name(key) for key in DEFAULTS}
        known |= {f"{name}_FILE" for name in known}
        # Kubernetes' own, and those of the hook.
        known |= {"DOCKREG_PORT", "DOCKREG_PORT_", "DOCKREG_SERVICE_", "DOCKREG_"}
        known |= {"DOCKREG_TLS_DIRECTORY", "DOCKREG_USER", "DOCKREG_DOMAIN"}
        for path in [*PAGES, *TOP.glob("compose*.yaml"), TOP / "Containerfile", *(TOP / "etc").iterdir()]:
            named = set(re.findall(r"\bDOCKREG_[A-Z0-9_]*", path.read_text(encoding="utf-8")))
            self.assertEqual(set(), named - known, path)

    def test_links(self) -> None:
        """Every page and file that a page links to is there."""
        for path in [*(TOP / "docs").rglob("*.md"), *TOP.glob("*.md")]:
            if "reference" in path.parts:
                continue
            text = path.read_text(encoding="utf-8")
            targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
            targets += re.findall(r"\{literalinclude\} (\S+)", text)
            for target in targets:
                self.assertTrue((path.parent / target).exists(), f"{path.name}: {target}")


def understood(
    command: click.Command, name: str, words: list[str], parent: click.Context | None = None
) -> None:
    """Parse a command line as far as its last command, and run nothing.

    Raises:
        click.UsageError: there is no such command or option, or an argument is missing.
    """
    context = command.make_context(name, list(words), parent=parent)
    if isinstance(command, click.Group):
        left = [*context._protected_args, *context.args]
        if not left:
            raise click.UsageError("a command is missing")
        below, found, rest = command.resolve_command(context, left)
        assert found is not None
        understood(found, below or "", rest, context)


class SiteTests(SynchronousTestCase):
    def test_contents(self) -> None:
        """The first page leads to every other."""
        index = (TOP / "docs" / "index.md").read_text().split()
        for path in (TOP / "docs").rglob("*.md"):
            if path.name != "index.md":
                self.assertIn(str(path.relative_to(TOP / "docs").with_suffix("")), index)

    def test_site(self) -> None:
        """Sphinx writes the site without a warning, and no link in it leads nowhere."""
        if any(importlib.util.find_spec(name) is None for name in ("sphinx", "furo", "myst_parser")):
            raise SkipTest("Sphinx is not installed: make docs installs it")
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", "docs", self.mktemp()]
        command[-1] = str(Path(command[-1]).absolute())
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=300)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        for page in Path(command[-1]).rglob("*.html"):
            for target in re.findall(r'href="(?!https?:|mailto:|data:)([^"#?]+)', page.read_text("utf-8")):
                self.assertTrue((page.parent / target).exists(), f"{page.name}: {target}")
