"""How the servers are started and watched."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import servers
from bench.servers import SWEPT_BYTES, Nginx, Server, Zot

#: Says its version like zot, and keeps the settings that it is served with.
ZOT = """\
#!/bin/sh
if [ "$1" = --version ]; then echo "zot v2.1.5 of /somewhere"; exit; fi
cp "$2" "$(dirname "$2")/served-with.json"
exec {python} -m http.server --bind 127.0.0.1 "$(sed 's/.*"port": "\\([0-9]*\\)".*/\\1/' "$2")"
"""


class ZotTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Put a program there that pretends to be zot."""
        self.folder = Path(self.mktemp()).resolve()
        program = self.folder / "bin" / "zot"
        program.parent.mkdir(parents=True)
        program.write_text(ZOT.format(python="python3"), encoding="utf-8")
        program.chmod(0o755)
        self.patch(os, "environ", {**os.environ, "BENCH_ZOT": str(program)})

    def test_found(self) -> None:
        """A binary in BENCH_ZOT is measured twice: as it is shipped, and with what it writes flushed."""
        found = servers.servers(self.folder, core=None, only=["zot", "zot-commit"])
        self.assertEqual(
            [("zot", "zot v2.1.5 of", False), ("zot-commit", "zot v2.1.5 of, with commit", True)],
            [(each.name, each.version, each.commit) for each in found if isinstance(each, Zot)],
        )
        self.assertNotEqual(found[0].root, found[1].root)

    def test_started(self) -> None:
        """It is served by settings of its own: where its data lie, on which port, flushed or not."""
        for server in servers.servers(self.folder, core=None, only=["zot", "zot-commit"]):
            server.start()
            try:
                socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
            finally:
                server.stop()
            chosen = json.loads((server.files / "served-with.json").read_text())
            self.assertEqual(server.name == "zot-commit", chosen["storage"]["commit"])
            self.assertEqual(str(server.root), chosen["storage"]["rootDirectory"])
            self.assertEqual({"address": "127.0.0.1", "port": str(server.port)}, chosen["http"])

    def test_without(self) -> None:
        """Without BENCH_ZOT there is no zot."""
        self.patch(os, "environ", {k: v for k, v in os.environ.items() if k != "BENCH_ZOT"})
        self.assertEqual([], servers.servers(self.folder, core=None, only=["zot", "zot-commit"]))


class Broken(Server):
    """Ends at once."""

    def command(self) -> list[str]:
        return ["sh", "-c", "echo no such luck; exit 3"]


class ServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Take a folder."""
        self.folder = Path(self.mktemp()).resolve()

    def test_refused(self) -> None:
        """A server that does not start ends the benchmark with what it said."""
        server = Broken("broken", self.folder / "root", self.folder / "files", None, "1")
        error = self.assertRaises(RuntimeError, server.start)
        self.assertIn("broken did not start:\nno such luck", str(error))

    def test_sweep(self) -> None:
        """A sweep takes the large blobs that came since they were kept, and nothing else."""
        server = Nginx("nginx", self.folder, self.folder / "files", None, "1")
        large = bytes(SWEPT_BYTES)
        paths = {
            "blobs/sha256/aa/filled": large,
            "blobs/sha256/aa/small": b"small",
            "registry.db-wal": large,
        }
        for path, content in paths.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(content)
        server.keep()
        pushed = self.folder / "docker" / "blobs" / "sha256" / "data"
        pushed.parent.mkdir(parents=True)
        pushed.write_bytes(large)
        server.sweep()
        left = sorted(str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file())
        self.assertEqual(sorted(paths), left)
