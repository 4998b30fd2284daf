"""What an installation gives: the command, the twistd plugin, and nothing missing from the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

TOP = Path(__file__).parent.parent
#: What pip says when it cannot reach its index.
_NO_NETWORK = ("Could not find a version", "Temporary failure in name resolution", "Connection", "ProxyError")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command away from the checkout, without the variables that would lead back to it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DOCKREG_"))}
    return subprocess.run(
        command, env=kept, cwd="/", capture_output=True, text=True, check=False, timeout=300
    )


class InstallationCase(SynchronousTestCase):
    """Looks at one ``bin`` directory."""

    def check(self, scripts: Path) -> None:
        """Require both commands to work."""
        listed = run(str(scripts / "twistd"), "--help")
        self.assertIn("\n    dockreg ", listed.stdout)
        version = run(str(scripts / "dockreg"), "version")
        self.assertEqual((0, ""), (version.returncode, version.stderr))
        self.assertTrue(version.stdout.startswith("dockreg "), version.stdout)
        module = run(str(scripts / "python"), "-m", "dockreg_tx", "version")
        self.assertEqual(version.stdout, module.stdout)


class CheckoutTests(InstallationCase):
    """The checkout's own environment."""

    def test_editable_installation(self) -> None:
        """Twistd lists dockreg from any directory, and the command works."""
        scripts = Path(sysconfig.get_path("scripts"))
        if not (scripts / "dockreg").exists():
            raise SkipTest(f"dockreg is not installed in {scripts}")
        self.check(scripts)


class WheelTests(InstallationCase):
    """A wheel built from the checkout, in a clean environment."""

    def pip(self, python: Path, *arguments: str) -> None:
        """Run pip; skip where the network refuses."""
        done = run(str(python), "-m", "pip", "--disable-pip-version-check", *arguments)
        if done.returncode and any(reason in done.stderr for reason in _NO_NETWORK):
            raise SkipTest(f"pip cannot fetch what it needs: {done.stderr.strip().splitlines()[-1]}")
        self.assertEqual(0, done.returncode, done.stderr)

    def test_clean_installation(self) -> None:
        """``pip install .`` shows dockreg in twistd and brings schema files and the command."""
        scratch = Path(self.mktemp()).absolute()
        source = scratch / "source"
        # Building writes into the source: build from a copy, and only of what a wheel is made of.
        shutil.copytree(
            TOP / "dockreg_tx", source / "dockreg_tx", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copytree(
            TOP / "twisted", source / "twisted", ignore=shutil.ignore_patterns("__pycache__", "dropin.cache")
        )
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(TOP / name, source / name)
        venv.create(scratch / "venv", with_pip=True)
        scripts = scratch / "venv" / "bin"
        self.pip(scripts / "python", "install", "--quiet", str(source))
        self.check(scripts)
        library = (
            scratch / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        )
        shipped = {path.relative_to(TOP) for path in (TOP / "dockreg_tx").rglob("*.sql")}
        self.assertEqual(
            shipped, {path.relative_to(library) for path in (library / "dockreg_tx").rglob("*.sql")}
        )
