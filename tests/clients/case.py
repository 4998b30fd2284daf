"""The ground of the client tests: a registry on port 8080 of a namespace, its users, and programs."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tests.clients.namespace import Namespace
from tests.integration.images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    Index,
    write_oci_layout,
)
from tests.integration.server import RegistryProcess
from tests.integration.shared import SharedByClass

REGISTRY = "host.docker.internal:8080"
USER, PASSWORD = "user", "pass"
READER = ("downloader", "download-pass")
WRITER = ("uploader", "upload-pass")
ACCEPT = ("-H", f"Accept: {OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}")


class ClientTestCase(SharedByClass):
    """One server and one namespace for all tests of the class."""

    options: ClassVar[Sequence[str]] = ()
    server_environment: ClassVar[Mapping[str, str]] = {}
    namespace: ClassVar[Namespace]
    server: ClassVar[RegistryProcess]
    directory: ClassVar[Path]
    _temporary: ClassVar[tempfile.TemporaryDirectory[str]]

    @classmethod
    def start_class(cls) -> None:
        """Make the namespace and start the server in it."""
        cls._temporary = tempfile.TemporaryDirectory(prefix="dockreg-clients-", ignore_cleanup_errors=True)
        cls.directory = Path(cls._temporary.name)
        cls.namespace = Namespace(cls.directory)
        cls.server = RegistryProcess(
            cls.directory / "root",
            port=8080,
            prefix=cls.namespace.prefix,
            options=cls.options,
            environment=cls.server_environment,
        )
        cls.server.start()
        cls.add_users()

    @classmethod
    def add_users(cls) -> None:
        """Give the clients a user with all rights of content, and two with one right each."""
        cls.server.add_user(USER, PASSWORD, "Docker.Download", "Docker.Upload", "Docker.Delete")
        cls.server.add_user(*READER, "Docker.Download")
        cls.server.add_user(*WRITER, "Docker.Upload")

    @classmethod
    def stop_class(cls) -> None:
        """End both; the server must end well."""
        try:
            cls.server.stop()
        finally:
            cls.server.kill()
            cls.namespace.close()
            cls._temporary.cleanup()

    def setUp(self) -> None:
        """Give each test a home of its own."""
        super().setUp()
        self.home = self.directory / self.id().rsplit(".", 1)[-1]
        for name in ("", "run", "tmp"):
            (self.home / name).mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """Where the programs keep what they keep."""
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "REGISTRY_AUTH_FILE": str(self.home / "auth.json"),
            "DOCKER_CONFIG": str(self.home / "docker"),
        }

    def run_program(self, *command: str, text: str = "") -> str:
        """Run a program that must succeed, and return its output."""
        done = self.namespace.run(command, self.environment, text)
        self.assertEqual(0, done.returncode, f"{' '.join(command)}\n{done.stdout}")
        return done.stdout

    def refused(self, *command: str, text: str = "") -> str:
        """Run a program that must fail, and return its output."""
        done = self.namespace.run(command, self.environment, text)
        self.assertNotEqual(0, done.returncode, f"{' '.join(command)}\n{done.stdout}")
        return done.stdout

    def layout(self, content: Image | Index, tag: str = "v1") -> str:
        """Write an OCI layout and return its name for skopeo, podman and buildah."""
        directory = self.home / f"layout-{len(list(self.home.iterdir()))}"
        write_oci_layout(directory, content, tag)
        return f"oci:{directory}:{tag}"

    def curl(self, *options: str) -> str:
        """Return what curl prints."""
        return self.run_program("curl", "-sS", *options)

    def status(self, *options: str) -> str:
        """Return the status of an answer that curl gets."""
        return self.curl("-o", "/dev/null", "-w", "%{http_code}", *options)

    def curl_push(self, repository: str, tag: str, content: Image) -> None:
        """Push an image with nothing but curl."""
        who, base = ("-u", f"{USER}:{PASSWORD}"), f"http://{REGISTRY}"
        for blob in content.blobs:
            path = self.home / "blob"
            path.write_bytes(blob.content)
            begin = ("-X", "POST", "-D", "-", "-o", "/dev/null", f"{base}/v2/{repository}/blobs/uploads/")
            head = self.curl(*who, *begin)
            found = re.search(r"(?im)^location: (\S+)", head)
            assert found is not None, head
            put = f"{base}{found[1]}?digest={blob.digest}"
            self.assertEqual("201", self.status(*who, "-T", str(path), put))
        path = self.home / "manifest"
        path.write_bytes(content.manifest.content)
        kind = ("-H", f"Content-Type: {content.manifest.media_type}")
        target = f"{base}/v2/{repository}/manifests/{tag}"
        self.assertEqual("201", self.status(*who, *kind, "-T", str(path), target))

    def get(self, path: str) -> Any:
        """Return a JSON document of the registry."""
        return json.loads(self.curl("-f", *ACCEPT, "-u", f"{USER}:{PASSWORD}", f"http://{REGISTRY}{path}"))

    def media_type(self, path: str) -> str:
        """Return the Content-Type of a document of the registry."""
        options = ("-o", "/dev/null", "-w", "%{content_type}", "-u", f"{USER}:{PASSWORD}")
        return self.curl("-f", *ACCEPT, *options, f"http://{REGISTRY}{path}")
