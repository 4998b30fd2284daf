"""The first five minutes, as the README has them."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import ClassVar

from tests.clients.case import ClientTestCase
from tests.clients.docker_daemon import DockerDaemon
from tests.clients.namespace import Namespace, missing
from tests.integration.images import image, write_docker_archive
from tests.integration.server import PROGRAMS, RegistryProcess
from tests.recipes import TOP, indented_blocks


def section(title: str) -> list[str]:
    """Return the blocks of code below a heading of the README."""
    text = (TOP / "README.md").read_text(encoding="utf-8")
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return list(indented_blocks(match[1]))


class ReadmeTests(ClientTestCase):
    """A server where ``make run`` starts it, and a daemon that was told nothing."""

    skip = missing("docker", "dockerd", "curl") or None
    daemon: ClassVar[DockerDaemon]

    @classmethod
    def start_class(cls) -> None:
        """Start both, in a directory that looks like a checkout."""
        cls._temporary = tempfile.TemporaryDirectory(prefix="dockreg-clients-", ignore_cleanup_errors=True)
        cls.directory = Path(cls._temporary.name)
        (cls.directory / ".venv").mkdir()
        (cls.directory / ".venv" / "bin").symlink_to(PROGRAMS)
        cls.namespace = Namespace(cls.directory)
        cls.server = RegistryProcess(
            cls.directory / "var" / "registry", port=5000, prefix=cls.namespace.prefix
        )
        cls.server.start()
        try:
            cls.daemon = DockerDaemon(cls.directory / "dockerd", cls.namespace, "nobody.example.org")
        except BaseException:
            super().stop_class()
            raise

    @classmethod
    def stop_class(cls) -> None:
        """Stop the daemon first."""
        cls.daemon.close()
        super().stop_class()

    @property
    def environment(self) -> dict[str, str]:
        """As all clients', with the daemon's address."""
        return {**super().environment, "DOCKER_HOST": self.daemon.address}

    def type(self, block: str) -> str:
        """Run a block in the checkout."""
        return self.run_program("env", "--chdir", str(self.directory), "sh", "-eux", "-c", block)

    def test_five_minutes(self) -> None:
        """Login, push, pull and the list of repositories work as they are written."""
        write_docker_archive(self.home / "alpine.tar", image("readme"), "alpine:latest")
        self.run_program("docker", "load", "-i", str(self.home / "alpine.tar"))
        run, *blocks = section("Five minutes")
        self.assertEqual("make run", run.strip())
        printed = "".join(self.type(block) for block in blocks)
        self.assertIn("Login Succeeded", printed)
        self.assertIn('{"repositories":["team/alpine"]}', printed)

    def test_users(self) -> None:
        """The users, grants and tokens of the README can be made."""
        for block in section("Users and rights"):
            self.type(block)
        listed = self.type(f".venv/bin/dockreg --root {os.fspath(self.server.root)} user list")
        for name in ("carol", "ci"):
            self.assertIn(name, listed)
