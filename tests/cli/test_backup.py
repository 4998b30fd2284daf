"""``dockreg backup``, ``dockreg restore`` and ``dockreg rebuild-index``."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dockreg_tx.blobs.disk import Disk
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.cli.operator import Operator
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.manifests import parse_manifest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import NewManifest, UploadRecord
from dockreg_tx.preparation import run_inline
from dockreg_tx.records.rebuild import references_of
from dockreg_tx.root_locks import RootLock, collection_lock
from tests.cli.case import CommandCase

APP = RepositoryName("team/app")
OCI = "application/vnd.oci.image.manifest.v1+json"


class FilledCase(CommandCase):
    """A registry with an image, a user with a grant, and a robot's token."""

    def setUp(self) -> None:
        """Make it."""
        super().setUp()
        self.done("init")
        self.done("user", "add", "alice", "--password-stdin", "--grant", "pull:**", typed="secret-password\n")
        self.done("token", "create", "alice", "--note", "ci")
        self.layout = RootLayout(self.root)
        self.shelf = os.path.abspath(self.mktemp())
        self.other = os.path.abspath(self.mktemp())
        self.manifest = self.push("one", "latest", "v1")

    def blob(self, content: bytes) -> Digest:
        """Push a blob."""
        digest = Digest.of(content)
        path = self.layout.blob_path(digest)
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(content)
        with Operator(root=self.root).records() as records:
            run_inline(
                records.commit_blob(APP, digest, len(content), lambda: None, upload_id=None, now=100.0)
            )
        return digest

    def push(self, label: str, *tags: str) -> Digest:
        """Push an image of two layers."""
        parts = [f"{label} {number}".encode() for number in range(3)]
        config, *layers = [
            {"mediaType": "text/plain", "digest": str(self.blob(part)), "size": len(part)} for part in parts
        ]
        document = {"schemaVersion": 2, "mediaType": OCI, "config": config, "layers": layers}
        content = json.dumps(document).encode()
        digest = Digest.of(content)
        with open(self.layout.blob_path(digest), "wb") as file:
            file.write(content)
        manifest = NewManifest(APP, digest, OCI, content, references_of(parse_manifest(content, OCI)))
        with Operator(root=self.root).records() as records:
            run_inline(
                records.put_manifest(
                    manifest, [Tag(tag) for tag in tags], lambda: None, may_overwrite=True, now=100.0
                )
            )
        return digest

    def holdings(self, root: str) -> list[Any]:
        """Return what a registry lists: repositories, tags, users, grants, tokens."""
        listings = (("repo", "list"), ("repo", "tags", APP.text), ("user", "list"), ("grant", "list"))
        found = [self.listed(*listing, "--root", root) for listing in listings]
        tokens = self.listed("token", "list", "--root", root)
        return [*found, [{**token, "used_at": None} for token in tokens]]

    def half_done(self, *arguments: str) -> str:
        """Run a command that must end with one line on standard error, and return its standard output."""
        result = self.run_command(*arguments)
        self.assertEqual(1, result.exit_code, result.output)
        self.assertEqual(1, len(result.stderr.splitlines()), result.stderr)
        return result.stdout

    def damage(self, path: str) -> None:
        """Flip a bit in a file that may have other names."""
        with open(path, "rb") as file:
            content = bytearray(file.read())
        content[0] ^= 1
        os.unlink(path)
        with open(path, "wb") as file:
            file.write(content)

    def stop_at(self, method: str, count: int) -> Callable[[], object]:
        """Let a system call end the command when it is called for the ``count``-th time, as a crash does."""
        original = getattr(Disk, method)
        calls: list[int] = []

        def dying(disk: Disk, *arguments: Any) -> object:
            calls.append(1)
            if len(calls) == count:
                raise KeyboardInterrupt
            return original(disk, *arguments)

        patch = self.patch(Disk, method, dying)
        return lambda: patch.restore()  # noqa: PLW0108 - its type is not known


class BackupTests(FilledCase):
    """Backing up, again and again."""

    def test_round_trip(self) -> None:
        """A restored registry lists the same, has the same id and keys, and is sound."""
        self.done("backup", self.shelf)
        self.done("restore", self.shelf, "--root", self.other)
        self.assertEqual(self.holdings(self.root), self.holdings(self.other))
        self.done("verify", "--root", self.other)
        for name in ("format", *(f"keys/{key}" for key in os.listdir(self.layout.keys))):
            ours, theirs = Path(self.root, name), Path(self.other, name)
            self.assertEqual(ours.read_bytes(), theirs.read_bytes())
        self.assertEqual([], [name for name in os.listdir(self.other) if name.startswith("restoring")])
        self.assertEqual(0o600, os.stat(os.path.join(self.other, "registry.db")).st_mode & 0o777)

    def test_incremental(self) -> None:
        """A second backup adds what is new, and keeps the rest."""
        first = self.listed("backup", self.shelf)
        self.assertEqual((4, 4, 0, 0), tuple(first[key] for key in ("blobs", "linked", "copied", "kept")))
        self.push("two", "latest")
        second = self.listed("backup", self.shelf)
        self.assertEqual((8, 4, 0, 4), tuple(second[key] for key in ("blobs", "linked", "copied", "kept")))
        self.assertEqual(2, len(os.listdir(os.path.join(self.shelf, "snapshots"))))
        self.assertEqual(f"snapshots/{second['snapshot']}", os.readlink(os.path.join(self.shelf, "latest")))
        self.done("restore", self.shelf, "--snapshot", first["snapshot"], "--root", self.other)
        self.assertEqual(1, len(self.listed("repo", "list", "--root", self.other)))

    def test_keep(self) -> None:
        """Old snapshots go, and with them the blobs that no other needs."""
        self.done("backup", self.shelf)
        self.done("repo", "remove", APP.text, "--yes")
        self.done("gc", "--grace", "0s", "--yes")
        self.assertEqual(0, self.listed("backup", self.shelf)["removed"])
        found = self.listed("backup", self.shelf, "--keep", "1")
        self.assertEqual((4, 2), (found["removed"], len(found["removed_snapshots"])))
        self.done("restore", self.shelf, "--root", self.other)
        self.assertEqual([], self.listed("repo", "list", "--root", self.other))

    def test_copies(self) -> None:
        """Copies share nothing with the registry, links are the same file."""
        self.done("backup", self.shelf)
        ours = self.layout.blob_path(self.manifest)
        theirs = RootLayout(self.shelf).blob_path(self.manifest)
        self.assertTrue(os.path.samefile(ours, theirs))
        self.shelf = os.path.abspath(self.mktemp())
        self.assertEqual(4, self.listed("backup", self.shelf, "--copy")["copied"])
        self.assertFalse(os.path.samefile(ours, RootLayout(self.shelf).blob_path(self.manifest)))

    def test_healed(self) -> None:
        """A blob that was damaged and pushed again is linked anew."""
        self.done("backup", self.shelf)
        self.damage(self.layout.blob_path(self.manifest))
        self.assertEqual(1, self.listed("backup", self.shelf)["linked"])

    def test_missing(self) -> None:
        """A blob that the registry lacks is named; the backup is made without it."""
        os.unlink(self.layout.blob_path(self.manifest))
        self.assertIn(f"{self.manifest} is missing", self.half_done("backup", self.shelf))
        self.assertEqual(1, len(os.listdir(os.path.join(self.shelf, "snapshots"))))
        document = json.loads(self.half_done("backup", self.shelf, "--json"))
        self.assertEqual([str(self.manifest)], document["missing"])

    def test_wrong_places(self) -> None:
        """A place that overlaps the root, holds other files, or is another registry's is refused."""
        inside = os.path.join(self.root, "backup")
        self.assertIn("overlap", self.refused("backup", inside))
        self.assertIn("overlap", self.refused("backup", os.path.dirname(self.root)))
        self.assertFalse(os.path.exists(inside))
        os.mkdir(self.other)
        with open(os.path.join(self.other, "diary"), "w"):
            pass
        self.assertIn("not empty", self.refused("backup", self.other))
        self.done("backup", self.shelf)
        self.root = os.path.abspath(self.mktemp())
        self.done("init")
        self.assertIn("another registry", self.refused("backup", self.shelf))

    def test_garbage_collection_waits(self) -> None:
        """While a backup runs nothing is collected."""
        seen = []
        original = Disk.link

        def link(disk: Disk, source: str, target: str) -> None:
            with collection_lock(self.layout, wait=False) as is_ours:
                seen.append(is_ours)
            original(disk, source, target)

        self.patch(Disk, "link", link)
        self.done("backup", self.shelf)
        self.assertEqual([False] * 4, seen)

    def test_cut_short(self) -> None:
        """A backup that ends at any moment leaves the earlier one, and the next is complete."""
        self.done("backup", self.shelf)
        self.push("two", "latest")
        for method in ("replace", "link", "fsync", "sync_directory"):
            for count in range(1, 9):
                restore = self.stop_at(method, count)
                self.run_command("backup", self.shelf)
                restore()
                target = os.path.abspath(self.mktemp())
                self.done("restore", self.shelf, "--root", target)
        self.done("backup", self.shelf)
        self.done("restore", self.shelf, "--root", self.other)
        self.assertEqual(self.holdings(self.root), self.holdings(self.other))
        self.assertFalse([name for name in os.listdir(f"{self.shelf}/snapshots") if name.startswith(".")])


class RestoreTests(FilledCase):
    """Restoring what may be damaged, into what may not be empty."""

    def setUp(self) -> None:
        """Have a backup."""
        super().setUp()
        self.done("backup", self.shelf, "--copy")

    def test_bad_blob(self) -> None:
        """A damaged or missing blob is named, and the root is refused until all is well."""
        path = RootLayout(self.shelf).blob_path(self.manifest)
        with open(path, "rb") as file:
            content = file.read()
        for spoil in (self.damage, os.unlink):
            spoil(path)
            arguments = ("restore", self.shelf, "--root", self.other)
            (line,) = self.half_done(*arguments).splitlines()
            self.assertTrue(line.startswith(f"{self.manifest}: "), line)
            self.assertEqual(
                [str(self.manifest)], list(json.loads(self.half_done(*arguments, "--json"))["bad"])
            )
            self.assertIn("unfinished restore", self.refused("init", "--root", self.other))
        with open(path, "wb") as file:
            file.write(content)
        self.done("restore", self.shelf, "--root", self.other)
        self.assertEqual(self.holdings(self.root), self.holdings(self.other))

    def test_partial(self) -> None:
        """Without a bad blob the rest can be served; verification names it."""
        os.unlink(RootLayout(self.shelf).blob_path(self.manifest))
        said = self.half_done("restore", self.shelf, "--root", self.other, "--partial")
        self.assertIn(str(self.manifest), said)
        self.assertIn("3 blobs", said)
        self.assertEqual(self.holdings(self.root), self.holdings(self.other))
        self.assertIn("quarantine", self.run_command("verify", "--root", self.other).stdout)

    def test_damaged_database(self) -> None:
        """A damaged database is refused before anything is written."""
        (name,) = os.listdir(os.path.join(self.shelf, "snapshots"))
        with open(os.path.join(self.shelf, "snapshots", name, "registry.db"), "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 8192)
        self.assertIn("damaged", self.refused("restore", self.shelf, "--root", self.other))
        self.assertFalse(os.path.exists(self.other))

    def test_wrong_places(self) -> None:
        """A root that is not empty, a directory that is no backup, and an unknown snapshot are refused."""
        self.assertIn("not empty", self.refused("restore", self.shelf))
        self.assertIn("no backup", self.refused("restore", self.mktemp(), "--root", self.other))
        self.assertIn("inside", self.refused("restore", self.shelf, "--root", f"{self.shelf}/new"))
        self.assertIn(
            "no snapshot", self.refused("restore", self.shelf, "--snapshot", "x", "--root", self.other)
        )

    def test_cut_short(self) -> None:
        """A restore that ended at any moment is refused as a root, and can be repeated."""
        for method in ("replace", "fsync"):
            for count in range(1, 9):
                target = os.path.abspath(self.mktemp())
                restore = self.stop_at(method, count)
                is_whole = self.run_command("restore", self.shelf, "--root", target).exit_code == 0
                restore()
                if is_whole:
                    continue
                self.assertFalse(os.path.exists(os.path.join(target, "format")))
                self.done("restore", self.shelf, "--root", target)
                self.assertEqual(self.holdings(self.root), self.holdings(target))

    def test_cut_short_at_the_very_end(self) -> None:
        """A restore that was complete but for its note is never done over what was served since."""
        self.done("restore", self.shelf, "--root", self.other)
        self.done("user", "add", "bob", "--root", self.other)
        (name,) = os.listdir(os.path.join(self.shelf, "snapshots"))
        with open(os.path.join(self.other, "restoring"), "w") as file:
            file.write(f"{self.shelf} {name}")
        self.done("restore", self.shelf, "--root", self.other)
        self.assertIn("bob", self.done("user", "list", "--root", self.other))

    def test_another_snapshot(self) -> None:
        """An unfinished restore of one snapshot is not mixed with another."""
        restore = self.stop_at("replace", 3)
        self.run_command("restore", self.shelf, "--root", self.other)
        restore()
        self.done("backup", self.shelf)
        self.assertIn("unfinished restore", self.refused("restore", self.shelf, "--root", self.other))


class RebuildTests(FilledCase):
    """Losing the database."""

    def test_lost(self) -> None:
        """Without its database the root is refused, and told how to get it back; nothing is missing then."""
        expected = self.holdings(self.root)
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(self.layout.database + suffix):
                os.unlink(self.layout.database + suffix)
        self.assertIn("dockreg rebuild-index", self.refused("user", "list"))
        self.assertIn("dockreg rebuild-index", self.refused("init"))
        found = self.listed("rebuild-index")
        self.assertEqual((1, 2, 1, 4, 2, 1), tuple(found[key] for key in FIGURES))
        self.assertEqual(expected, self.holdings(self.root))
        self.done("verify")

    def test_broken(self) -> None:
        """A database that is no database is refused by a line that tells the way; it is moved aside."""
        with open(self.layout.database, "wb") as file:
            file.write(b"nonsense" * 1000)
        self.assertIn("rebuild-index", self.refused("init"))
        self.refused("rebuild-index")
        (aside, *_) = self.listed("rebuild-index", "--yes")["moved_aside"]
        with open(aside, "rb") as file:
            self.assertEqual(b"nonsense", file.read(8))
        self.assertEqual(2, len(self.listed("user", "list")))

    def test_running(self) -> None:
        """A running server keeps its database."""
        lock = RootLock(self.layout)
        lock.acquire()
        self.addCleanup(lock.release)
        self.assertIn("in use", self.refused("rebuild-index", "--yes"))

    def test_killed_collection(self) -> None:
        """Content that a killed collection had moved is brought back first."""
        path = self.layout.blob_path(self.manifest)
        os.rename(path, os.path.join(self.layout.trash, f"{self.manifest.encoded}.1"))
        self.done("rebuild-index", "--yes")
        self.assertTrue(os.path.exists(path))

    def test_problems(self) -> None:
        """What cannot be recovered is named, with exit code 1, and the rest is there."""
        os.unlink(self.layout.blob_path(self.manifest))
        result = self.run_command("rebuild-index", "--yes")
        self.assertEqual(1, result.exit_code)
        self.assertIn(str(self.manifest), result.stderr)
        self.assertEqual(2, len(self.listed("user", "list")))

    def test_restored(self) -> None:
        """A restored registry can be rebuilt too: its journal came along."""
        self.done("backup", self.shelf)
        self.done("restore", self.shelf, "--root", self.other)
        os.unlink(os.path.join(self.other, "registry.db"))
        self.done("rebuild-index", "--root", self.other)
        self.assertEqual(self.holdings(self.root), self.holdings(self.other))

    def test_journal_after_the_backup(self) -> None:
        """What the copied journal knows beyond the copied database does not come back by a rebuild."""
        self.done("backup", self.shelf)
        (name,) = os.listdir(os.path.join(self.shelf, "snapshots"))
        self.done("user", "add", "bob")
        copy = os.path.join(self.shelf, "snapshots", name, "journal")
        shutil.copytree(self.layout.journal, copy, dirs_exist_ok=True)
        self.done("restore", self.shelf, "--root", self.other)
        self.assertNotIn("bob", self.done("user", "list", "--root", self.other))
        self.done("rebuild-index", "--yes", "--root", self.other)
        self.assertNotIn("bob", self.done("user", "list", "--root", self.other))


FIGURES = ("repositories", "tags", "manifests", "blobs", "users", "tokens")


class CopyTests(FilledCase):
    """The copy of the database itself."""

    def test_whole_in_itself(self) -> None:
        """It needs no WAL, and forgets sessions whose bytes it does not bring."""
        with Operator(root=self.root).records() as records:
            run_inline(records.begin_upload(UploadRecord("u", APP, "", 0, 1.0, 1.0)))
            name = self.listed("backup", self.shelf)["snapshot"]
        files = sorted(os.listdir(os.path.join(self.shelf, "snapshots", name)))
        self.assertEqual(["format", "journal", "keys", "registry.db"], files)
        connection = sqlite3.connect(os.path.join(self.shelf, "snapshots", name, "registry.db"))
        self.addCleanup(connection.close)
        self.assertEqual([(0,)], connection.execute("SELECT count(*) FROM uploads").fetchall())
        self.assertEqual([("delete",)], connection.execute("PRAGMA journal_mode").fetchall())
