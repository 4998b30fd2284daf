"""``make dist``: one commit gives the same bytes again, signatures tell a changed file, the wheel serves."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SkipTest

from tests.integration.server import RegistryProcess
from tests.integration.shared import SharedByClass
from tests.integration.sockets import Connection, basic
from tests.recipes import shell_block

TOP = Path(__file__).parent.parent
WHEEL, SOURCE = "*.whl", "*.tar.gz"
SIGNER = "Releases <releases@example.org>"


def call(*command: str, cwd: Path, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command; variables that lead back to the checkout are taken away, others added."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DOCKREG_"))}
    return subprocess.run(
        command,
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**kept, **environment},
    )


def must(*command: str, cwd: Path, **environment: str) -> str:
    """Run a command that must succeed and return what it prints."""
    done = call(*command, cwd=cwd, **environment)
    if done.returncode and "No matching distribution" in done.stderr:
        raise SkipTest("pip cannot fetch what building needs")
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class DistTests(SharedByClass):
    scratch: ClassVar[Path]
    dist: ClassVar[Path]

    @classmethod
    def start_class(cls) -> None:
        """Make a release, signed by two throw-away keys."""
        if not (TOP / ".git").exists() or any(shutil.which(name) is None for name in ("ssh-keygen", "gpg")):
            raise SkipTest("needs a git checkout, ssh-keygen and gpg")
        if not (TOP / ".venv" / ".installed-dist").exists() and not os.environ.get("TEST_CLIENTS"):
            raise SkipTest("make dist was never run here")
        # Below /tmp, for the path of GnuPG's socket must be short.
        cls.scratch = Path(tempfile.mkdtemp(prefix="dockreg-dist-"))
        try:
            must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{cls.scratch}/key", cwd=cls.scratch)
            cls.gpg("--passphrase", "", "--quick-generate-key", SIGNER, "ed25519", "sign", "never")
            cls.dist = cls.build("one")
        except BaseException:
            cls.stop_class()
            raise

    @classmethod
    def stop_class(cls) -> None:
        """Remove everything."""
        call("gpgconf", "--homedir", f"{cls.scratch}/gnupg", "--kill", "all", cwd=TOP)
        shutil.rmtree(cls.scratch, ignore_errors=True)

    @classmethod
    def gpg(cls, *arguments: str, home: str = "gnupg") -> str:
        """Run GnuPG on a keyring of its own."""
        directory = cls.scratch / home
        directory.mkdir(mode=0o700, exist_ok=True)
        return must("gpg", "--homedir", str(directory), "--batch", "--quiet", *arguments, cwd=cls.scratch)

    @classmethod
    def build(cls, name: str) -> Path:
        """Clone the checkout, run ``make dist`` there, and return where its files are."""
        directory = cls.scratch / name
        must("git", "clone", "-q", str(TOP), str(directory), cwd=TOP)
        (directory / ".venv").symlink_to(TOP / ".venv")
        # Not installed anew: that would make the tester's environment one of the clone.
        command = [
            "make",
            "-o",
            ".venv/.installed-dist",
            "dist",
            f"KEY={cls.scratch}/key",
            f"GPG_KEY={SIGNER}",
        ]
        must(*command, cwd=directory, GNUPGHOME=f"{cls.scratch}/gnupg")
        return directory / "dist"

    def test_bad_keys(self) -> None:
        """A key that is not there is named before anything is made; one that is none says so itself."""
        clone = self.scratch / "bad"
        must("git", "clone", "-q", str(TOP), str(clone), cwd=TOP)
        (clone / ".venv").symlink_to(TOP / ".venv")
        (clone / "dist").mkdir()
        command = ("make", "-o", ".venv/.installed-dist", "dist")
        failed = call(*command, "KEY=/nowhere/key", cwd=clone)
        self.assertIn("there is no key /nowhere/key", failed.stderr)
        self.assertTrue((clone / "dist").exists())
        failed = call(*command, "KEY=README.md", cwd=clone)
        self.assertNotEqual(0, failed.returncode)
        self.assertIn("README.md", failed.stderr)

    def test_repeated(self) -> None:
        """The same commit gives the same bytes."""
        second = self.build("two")
        names = [next(self.dist.glob(pattern)).name for pattern in (WHEEL, SOURCE)]
        for name in [*names, "SHA256SUMS"]:
            self.assertEqual((self.dist / name).read_bytes(), (second / name).read_bytes(), name)

    def test_content(self) -> None:
        """Five files; the plugin is in the wheel, what operators read and testers run in the source."""
        self.assertEqual(5, len(list(self.dist.iterdir())))
        with zipfile.ZipFile(next(self.dist.glob(WHEEL))) as wheel:
            names = wheel.namelist()
        self.assertIn("twisted/plugins/dockreg_plugin.py", names)
        self.assertNotIn("twisted/__init__.py", names)
        with tarfile.open(next(self.dist.glob(SOURCE))) as source:
            shipped = {name.partition("/")[2] for name in source.getnames()}
        wanted = {"etc/dockreg.service", "docs/verifying.md", "tests/test_dist.py", "Makefile", "LICENSE"}
        wanted |= {
            "Containerfile",
            ".containerignore",
            "compose.yaml",
            "compose.tls.yaml",
            "packaging/base.sh",
        }
        self.assertEqual(set(), wanted - shipped)

    def test_sums(self) -> None:
        """``sha256sum --check`` knows both files, and notices a changed one."""
        copy = self.scratch / "sums"
        shutil.copytree(self.dist, copy)
        checked = must("sha256sum", "--check", "SHA256SUMS", cwd=copy)
        self.assertEqual(2, checked.count(": OK\n"))
        with next(copy.glob(WHEEL)).open("ab") as changed:
            changed.write(b"x")
        self.assertNotEqual(0, call("sha256sum", "--check", "SHA256SUMS", cwd=copy).returncode)

    def test_ssh_signature(self) -> None:
        """Verifying as ``docs/verifying.md`` says takes the sums, and refuses changed ones."""
        (self.scratch / "allowed").write_text(f"releases {(self.scratch / 'key.pub').read_text()}")
        command = ["ssh-keygen", "-Y", "verify", "-f", str(self.scratch / "allowed"), "-I", "releases"]
        command += ["-n", "dockreg", "-s", "SHA256SUMS.sig"]
        sums = (self.dist / "SHA256SUMS").read_text()
        self.assertEqual(0, call(*command, cwd=self.dist, text=sums).returncode)
        self.assertNotEqual(0, call(*command, cwd=self.dist, text=sums + " ").returncode)

    def test_gpg_signature(self) -> None:
        """A keyring with nothing but the public key takes the sums, and refuses changed ones."""
        self.gpg("--armor", "--output", str(self.scratch / "release.asc"), "--export", SIGNER)
        keyring, copy = str(self.scratch / "release.gpg"), self.scratch / "gpg-copy"
        self.gpg("--output", keyring, "--dearmor", str(self.scratch / "release.asc"))
        shutil.copytree(self.dist, copy)
        command = ("gpgv", "--keyring", keyring, "SHA256SUMS.asc", "SHA256SUMS")
        self.assertIn(f'Good signature from "{SIGNER}"', call(*command, cwd=copy).stderr)
        with (copy / "SHA256SUMS").open("a") as changed:
            changed.write(" ")
        self.assertNotEqual(0, call(*command, cwd=copy).returncode)

    def test_source(self) -> None:
        """The source archive alone builds the same wheel."""
        directory = self.scratch / "unpacked"
        with tarfile.open(next(self.dist.glob(SOURCE))) as source:
            source.extractall(directory, filter="data")
        [top] = directory.iterdir()
        epoch = str(int((top / "setup.cfg").stat().st_mtime))
        command = (f"{TOP}/.venv/bin/python", "-m", "build", "--wheel", "--outdir", str(directory / "dist"))
        must("sh", "-c", 'umask 022; exec "$@"', "sh", *command, str(top), cwd=TOP, SOURCE_DATE_EPOCH=epoch)
        made, shipped = next((directory / "dist").glob(WHEEL)), next(self.dist.glob(WHEEL))
        self.assertEqual(shipped.name, made.name)
        self.assertEqual(
            hashlib.sha256(shipped.read_bytes()).hexdigest(), hashlib.sha256(made.read_bytes()).hexdigest()
        )

    def test_wheel(self) -> None:
        """Installed without an index, the wheel brings both commands and a server that stores a push."""
        python = self.install()
        said = must(str(python.parent / "dockreg"), "version", cwd=self.scratch)
        self.assertTrue(said.startswith("dockreg "), said)
        twistd = (str(python), f"{sysconfig.get_path('scripts')}/twistd")
        self.assertIn("--listen", must(*twistd, "dockreg", "--help", cwd=self.scratch))
        where = must(str(python), "-c", "import dockreg_tx; print(dockreg_tx.__file__)", cwd=self.scratch)
        self.assertTrue(where.startswith(str(self.scratch)), where)
        server = RegistryProcess(self.scratch / "root", command=twistd)
        server.start()
        self.addCleanup(server.kill)
        content = b"pushed to what the wheel brought"
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        with Connection(server.port, basic("admin", server.admin_password)) as client:
            pushed = client.request("POST", f"/v2/team/app/blobs/uploads/?digest={digest}", content)
            self.assertEqual(201, pushed.status, pushed.body)
            self.assertEqual(content, client.request("GET", f"/v2/team/app/blobs/{digest}").body)
        server.stop()

    def test_air_gapped(self) -> None:
        """What ``docs/air-gapped.md`` downloads is all that is needed where there is no index."""
        site = self.scratch / "site"
        site.mkdir()
        shutil.copy(next(self.dist.glob(WHEEL)), site)
        # The page's pip and python3 are those of any machine.
        path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
        must("sh", "-eu", "-c", shell_block("air-gapped.md", "download"), cwd=site, PATH=path)
        next(site.glob(WHEEL)).unlink()
        # Nothing listens there: whoever asks an index fails.
        cut_off = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PATH": path}
        must("sh", "-eu", "-c", shell_block("air-gapped.md", "install"), cwd=site, **cut_off)
        said = must(str(site / "dockreg" / "bin" / "twistd"), "dockreg", "--help", cwd=site)
        self.assertIn("--listen", said)

    def install(self) -> Path:
        """Install the wheel into an environment of its own; what it needs is lent by that of the tests."""
        home = self.scratch / "venv"
        venv.create(home, with_pip=False, symlinks=True)
        [library] = home.glob("lib/python*/site-packages")
        # A path here, unlike the directory of an installation, does not bring the editable dockreg with it.
        (library / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
        python = home / "bin" / "python"
        pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet")
        must(*pip, "--no-index", "--no-deps", str(next(self.dist.glob(WHEEL))), cwd=self.scratch)
        return python
