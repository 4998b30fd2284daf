"""podman in a corner of its own, with the image built there from a base made of Debian packages."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.clients.namespace import Namespace, missing
from tests.integration.server import PROGRAMS

TOP = Path(__file__).parents[2]
IMAGE, BASE = "localhost/dockreg", "localhost/dockreg-base"
#: What an image is made of, and what its users start it with.
CONTEXT = (
    "dockreg_tx",
    "twisted",
    "Containerfile",
    ".containerignore",
    "Makefile",
    "README.md",
    "LICENSE",
    "setup.cfg",
    "pyproject.toml",
    "compose.yaml",
    "compose.tls.yaml",
)
POLICY = '{"default":[{"type":"insecureAcceptAnything"}]}'
# Where no systemd runs, and where root may not raise its own limits.
CONTAINERS = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
NEEDED = ("podman", "podman-compose", "runc", "iptables", "mmdebstrap", "skopeo", "curl", "openssl")


def reason_to_skip() -> str | None:
    """Return why no image can be built here, or None."""
    if os.environ.get("TEST_CLIENTS") == "install":
        return None
    return missing(*NEEDED) or None


def base_archive() -> Path:
    """Return the base, which is made once for each version of the script that makes it."""
    script = TOP / "packaging" / "base.sh"
    version = hashlib.sha256(script.read_bytes()).hexdigest()[:12]
    path = TOP / ".tools" / f"base-{version}.tar"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        fetch(str(script), str(path), directory=path.parent)
    return path


def fetch(*command: str, directory: Path) -> None:
    """Run a command that fetches packages; without a network that is a reason to skip."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=400)
    if done.returncode and os.environ.get("TEST_CLIENTS") != "install":
        raise SkipTest(f"packages cannot be fetched: {(done.stderr.strip() or '-').splitlines()[-1]}")
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


class Engine:
    """podman, podman-compose and clients in a network and mount namespace.

    Args:
        directory: for everything that they keep.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.context = directory / "context"
        self._namespace = Namespace(directory)
        for name in ("run", "tmp"):
            (directory / name).mkdir()
        (directory / "containers.conf").write_text(CONTAINERS)
        storage = (
            f'[storage]\ndriver = "overlay"\ngraphroot = "{directory}/graph"\nrunroot = "{directory}/run/c"\n'
        )
        (directory / "storage.conf").write_text(storage)
        policy = directory / ".config" / "containers"
        policy.mkdir(parents=True)
        (policy / "policy.json").write_text(POLICY)

    @property
    def environment(self) -> dict[str, str]:
        """Where the programs keep what they keep."""
        return {
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory / "tmp"),
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
            "CONTAINERS_CONF": str(self.directory / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.directory / "storage.conf"),
        }

    def run(self, *command: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the corner; its output and its errors are kept apart."""
        inside = [*self._namespace.prefix, "env", "--chdir", str(directory or self.directory), *command]
        return subprocess.run(
            inside,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **self.environment},
        )

    def do(self, *command: str, directory: Path | None = None) -> str:
        """Run a command that must succeed, and return what it prints."""
        done = self.run(*command, directory=directory)
        if done.returncode:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout.strip()

    def build(self) -> None:
        """Do as the README says, ``make image``, with the packages that ``make wheels`` fetches."""
        ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
        self.context.mkdir()
        for name in CONTEXT:
            if (TOP / name).is_dir():
                shutil.copytree(TOP / name, self.context / name, ignore=ignored)
            else:
                shutil.copy2(TOP / name, self.context / name)
        # What the network is needed for runs outside the corner.
        fetch(*self._make("wheels", f"BIN={PROGRAMS}"), directory=self.context)
        self.do("podman", "import", "--quiet", str(base_archive()), BASE)
        self.do(*self._make("image", f"BASE={BASE}"), directory=self.context)

    def _make(self, target: str, *variables: str) -> list[str]:
        # The environment that runs the tests is what is there: nothing is installed into it from here.
        return ["make", "-o", ".venv/.installed", target, *variables]

    def containers(self) -> Sequence[str]:
        """Return the ids of all containers."""
        return self.do("podman", "ps", "--all", "--quiet").split()

    def close(self) -> None:
        """End the containers, then the corner."""
        self.run("podman", "rm", "--all", "--force", "--time", "0")
        self.run("podman", "network", "prune", "--force")
        self._namespace.close()
