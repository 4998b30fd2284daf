"""``make dist``: the same commit gives the same bytes, and a signature tells a changed file."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

TOP = Path(__file__).parent.parent
WHEEL, SOURCE = "*.whl", "*.tar.gz"


def call(*command: str, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(
        command, cwd=cwd, input=text, capture_output=True, text=True, check=False, timeout=300
    )


class DistTests(SynchronousTestCase):
    def build(self, directory: Path, key: Path) -> dict[str, bytes]:
        """Clone the checkout, run ``make dist`` there, and return its files."""
        self.assertEqual(0, call("git", "clone", "-q", str(TOP), str(directory), cwd=TOP).returncode)
        (directory / ".venv").symlink_to(TOP / ".venv")
        done = call("make", "dist", f"KEY={key}", cwd=directory)
        if done.returncode and "No matching distribution" in done.stderr:
            raise SkipTest("pip cannot fetch what building needs")
        self.assertEqual(0, done.returncode, done.stderr)
        return {path.name: path.read_bytes() for path in (directory / "dist").iterdir()}

    def test_release(self) -> None:
        """Two builds are equal, hold what they must, are signed, and a changed file is noticed."""
        if not (TOP / ".git").exists() or shutil.which("ssh-keygen") is None:
            raise SkipTest("needs a git checkout and ssh-keygen")
        if not (TOP / ".venv" / ".installed-dist").exists() and not os.environ.get("TEST_CLIENTS"):
            raise SkipTest("make dist was never run here")
        scratch = Path(self.mktemp()).absolute()
        scratch.mkdir()
        key = scratch / "key"
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key), cwd=scratch)
        first, second = (self.build(scratch / name, key) for name in ("one", "two"))
        self.assertEqual(first, second)
        dist = scratch / "one" / "dist"
        self.assertEqual(4, len(first))
        with zipfile.ZipFile(next(dist.glob(WHEEL))) as wheel:
            names = wheel.namelist()
        self.assertIn("twisted/plugins/dockreg_plugin.py", names)
        self.assertNotIn("twisted/__init__.py", names)
        with tarfile.open(next(dist.glob(SOURCE))) as source:
            shipped = {name.partition("/")[2] for name in source.getnames()}
        wanted = {"etc/dockreg.service", "docs/verifying.md", "tests/test_dist.py", "Makefile", "LICENSE"}
        self.assertEqual(set(), wanted - shipped)
        self.verify(scratch, dist, key)

    def verify(self, scratch: Path, dist: Path, key: Path) -> None:
        """Do as ``docs/verifying.md`` says, before and after a change."""
        public = key.with_suffix(".pub").read_text()
        (scratch / "allowed").write_text(f"releases {public}")
        command = ["ssh-keygen", "-Y", "verify", "-f", str(scratch / "allowed"), "-I", "releases"]
        command += ["-n", "dockreg", "-s", "SHA256SUMS.sig"]
        sums = (dist / "SHA256SUMS").read_text()
        self.assertEqual(0, call(*command, cwd=dist, text=sums).returncode)
        self.assertEqual(0, call("sha256sum", "--check", "SHA256SUMS", cwd=dist).returncode)
        self.assertNotEqual(0, call(*command, cwd=dist, text=sums + " ").returncode)
        with next(dist.glob(WHEEL)).open("ab") as changed:
            changed.write(b"x")
        self.assertNotEqual(0, call("sha256sum", "--check", "SHA256SUMS", cwd=dist).returncode)
