"""The ground of the tests with Go's clients: a registry on 127.0.0.1, without a namespace."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.clients.case import ClientTestCase
from tests.clients.namespace import Namespace
from tests.integration.images import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Content,
    Image,
    Index,
    as_json,
    sha256,
    tar_of,
    write_oci_layout,
)
from tests.integration.server import RegistryProcess

TOOLS = Path(__file__).parents[2] / ".tools" / "bin"
PATH = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"


def lacking(*programs: str, root: bool = False) -> str | None:
    """Return why tests with these programs cannot run here; None where they must run.

    Args:
        programs: names of programs.
        root: the tests need its rights.
    """
    if os.environ.get("TEST_CLIENTS") == "install":
        return None
    if root and os.geteuid() != 0:
        return "needs root"
    absent = [name for name in programs if shutil.which(name, path=PATH) is None]
    return f"not installed: {', '.join(absent)} (make test CLIENTS=install brings them)" if absent else None


def large_image(size_bytes: int) -> Image:
    """Return an image whose only layer does not compress."""
    tar = tar_of({"noise": os.urandom(size_bytes)})
    layer = Content(OCI_LAYER + "+gzip", gzip.compress(tar, compresslevel=1))
    rootfs = {"type": "layers", "diff_ids": [sha256(tar)]}
    config = Content(OCI_CONFIG, as_json({"architecture": "amd64", "os": "linux", "rootfs": rootfs}))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor,
        "layers": [layer.descriptor],
    }
    return Image(Content(OCI_MANIFEST, as_json(document)), config, (layer,), (tar,), "amd64")


class ThisMachine(Namespace):
    """No corner at all: commands run in the machine as it is."""

    def __init__(self) -> None:
        """Start nothing."""

    @property
    def prefix(self) -> list[str]:
        """Nothing comes before a command."""
        return []

    def close(self) -> None:
        """Nothing was started."""


class LocalClientTestCase(ClientTestCase):
    """One server on a free port of 127.0.0.1 for all tests of the class."""

    @classmethod
    def start_class(cls) -> None:
        """Start the server."""
        cls._temporary = tempfile.TemporaryDirectory(prefix="dockreg-clients-", ignore_cleanup_errors=True)
        cls.directory = Path(cls._temporary.name)
        cls.namespace = ThisMachine()
        cls.server = RegistryProcess(
            cls.directory / "root", options=cls.options, environment=cls.server_environment
        )
        cls.server.start()
        cls.add_users()

    @property
    def environment(self) -> dict[str, str]:
        """Where the programs are, and where they keep what they keep."""
        return {**super().environment, "PATH": PATH}

    @property
    def host(self) -> str:
        """Where images are: host and port."""
        return self.server.host

    def layout_directory(self, content: Image | Index, tag: str = "v1") -> Path:
        """Write an OCI layout with one tag and return its directory."""
        directory = self.home / f"layout-{len(list(self.home.iterdir()))}"
        write_oci_layout(directory, content, tag)
        return directory

    def random_file(self, name: str, size_bytes: int) -> Path:
        """Write a file that compresses badly."""
        path = self.home / name
        path.write_bytes(os.urandom(size_bytes))
        return path

    def pipe(self, source: int | None, *command: str, output: int | None = None) -> str:
        """Run a program that must succeed, with files of bytes as its input or output.

        Args:
            source: descriptor that it reads, None for nothing.
            command: the program.
            output: descriptor that it writes, None to have its output returned.
        """
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL if source is None else source,
            stdout=subprocess.PIPE if output is None else output,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
            env={"LC_ALL": "C.UTF-8", **self.environment},
        )
        self.assertEqual(0, done.returncode, f"{' '.join(command)}\n{done.stderr.decode()}")
        return (done.stdout or b"").decode()
