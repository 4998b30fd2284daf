"""Campaigns against backup, restore, rebuild, compaction and migration: crashes inside, and loads beside."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.manifests import parse_manifest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import NewManifest
from dockreg_tx.preparation import run_inline
from dockreg_tx.records.connections import open_writer
from dockreg_tx.records.copying import live_blobs
from dockreg_tx.records.migrations import migrate, shipped_scripts
from dockreg_tx.records.rebuild import references_of
from dockreg_tx.records.sqlite import InlineSqliteRecords
from tests.faults.disks import Disk
from tests.faults.dying import run_command
from tests.faults.figures import Step, Steps
from tests.faults.inspector import Inspector
from tests.faults.oracle import Promises
from tests.faults.pusher import Pusher
from tests.integration.server import TWISTD, RegistryProcess
from tests.integration.sockets import Connection, basic
from tests.records.dumps import Dump, dump

OCI = "application/vnd.oci.image.manifest.v1+json"
LIMIT_OF_CONTROLS = 50


@dataclass
class Figures:
    """What a campaign found."""

    name: str
    seed: int
    cycles: int = 0
    crashes: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    #: Of the command that is killed, as far as is known.
    steps: int = 10_000

    def __str__(self) -> str:
        """Give the figures in one line."""
        return (
            f"{self.name}: {self.cycles} cycles, {self.crashes} crashes, {self.acknowledged} acknowledged, "
            f"{len(self.lost)} lost, seed {self.seed}"
        )


class Registry:
    """A small registry without a server, in a directory with room for its backups."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.root, self.shelf = str(directory / "root"), str(directory / "shelf")
        self.layout = RootLayout(self.root)
        self.random = random.Random(seed)
        self.acknowledged = 0
        #: Where the backups lie, if its power is to be cut.
        self.disk: Disk | None = None
        self.must("init")

    def must(self, *arguments: str) -> None:
        """Run a command that must succeed."""
        status, _ = run_command(*arguments, "--root", self.root)
        if status:
            raise AssertionError(f"dockreg {' '.join(arguments)}: {status}")

    def push(self) -> None:
        """Push an image, delete a tag, or remove a user's grant: whatever leaves lines in the journal."""
        records = InlineSqliteRecords(
            path=self.layout.database, journal_dir=self.layout.journal, lock_path=self.layout.write_lock
        )
        records.start()
        try:
            name = RepositoryName(f"app-{self.random.randrange(3)}")
            manifest = self._image(records, name)
            tag = Tag(f"v{self.random.randrange(4)}")
            run_inline(
                records.put_manifest(
                    manifest, [tag], lambda: None, may_overwrite=True, now=float(self.acknowledged + 1)
                )
            )
            if self.random.random() < 0.3:
                run_inline(records.delete_tag(name, tag, by="", now=float(self.acknowledged + 1)))
        finally:
            records.close()
        self.acknowledged += 1

    def _image(self, records: InlineSqliteRecords, name: RepositoryName) -> NewManifest:
        parts = [self.random.randbytes(self.random.choice((3, 5000, 70_000))) for _ in range(2)]
        for part in parts:
            digest = self._write(part)
            run_inline(records.commit_blob(name, digest, len(part), lambda: None, upload_id=None, now=1.0))
        config, layer = (
            {"mediaType": "text/plain", "digest": str(Digest.of(part)), "size": len(part)} for part in parts
        )
        document = {"schemaVersion": 2, "mediaType": OCI, "config": config, "layers": [layer]}
        content = json.dumps(document).encode()
        parsed = parse_manifest(content, OCI)
        return NewManifest(
            name, self._write(content), OCI, content, references_of(parsed), parsed.artifact_type
        )

    def _write(self, content: bytes) -> Digest:
        digest = Digest.of(content)
        Path(self.layout.blob_path(digest)).write_bytes(content)
        return digest

    def cut_power(self) -> None:
        """Take from the disk of the backups, if they have one, all that was not flushed."""
        if self.disk is not None:
            self.disk.cut()
            self.disk.restore()

    def state(self) -> Dump:
        """Return what the database holds."""
        return dump(self.layout.database)

    def restored(self) -> tuple[int, str]:
        """Restore into a fresh root; return the exit status and where."""
        root = tempfile.mkdtemp(prefix="restored-", dir=self.directory)
        status, _ = run_command("restore", self.shelf, "--root", root)
        return status, root


def whole(root: str) -> str:
    """Return what is missing in a root, or nothing."""
    layout = RootLayout(root)
    for digest, size_bytes in live_blobs(layout.database):
        path = Path(layout.blob_path(digest))
        if not path.exists() or Digest.of(path.read_bytes()) != digest or path.stat().st_size != size_bytes:
            return f"{digest} is not in {root}"
    return ""


#: One cycle: has the registry, kills something at a step of ``chance``, and tells what was lost.
Cycle = Callable[[Registry, Figures, random.Random, str], list[str]]


def crash_backup(registry: Registry, figures: Figures, chance: random.Random, broken: str) -> list[str]:
    """Kill a backup: the latest snapshot is the one before, or the new one, and either is whole."""
    states = [registry.state()]
    if not os.path.exists(registry.shelf):
        registry.must("backup", registry.shelf, "--copy")
    registry.push()
    states.append(registry.state())
    links = chance.choice(((), ("--copy",)))
    command = ("backup", registry.shelf, "--keep", "2", *links)
    if _kill(figures, chance, broken, *command, root=registry.root) == 0:
        # It said that it was done.
        del states[0]
    registry.cut_power()
    status, root = registry.restored()
    found = [] if status == 0 and dump(RootLayout(root).database) in states else [f"restore: {status}"]
    shutil.rmtree(root)
    registry.must("backup", registry.shelf, "--keep", "2")
    status, root = registry.restored()
    if status or dump(RootLayout(root).database) != states[-1] or whole(root):
        found.append("the backup after the crash is not whole")
    shutil.rmtree(root)
    return found


def crash_restore(registry: Registry, figures: Figures, chance: random.Random, broken: str) -> list[str]:
    """Kill a restore: the root cannot be served before it is whole, and the next attempt makes it so."""
    registry.push()
    registry.must("backup", registry.shelf, "--keep", "1")
    root = tempfile.mkdtemp(prefix="restored-", dir=registry.directory)
    _kill(figures, chance, broken, "restore", registry.shelf, root=root)
    found = []
    if os.path.exists(os.path.join(root, "format")) and whole(root):
        found.append("a root that is not whole can be served")
    if not os.path.exists(os.path.join(root, "format")):
        status, _ = run_command("restore", registry.shelf, "--root", root)
        if status or whole(root) or dump(RootLayout(root).database) != registry.state():
            found.append(f"the restore cannot be repeated: {status}")
    shutil.rmtree(root)
    return found


def crash_rebuild(registry: Registry, figures: Figures, chance: random.Random, broken: str) -> list[str]:
    """Kill a rebuild: there is no database, or a whole one; the next rebuild makes it so."""
    registry.push()
    expected = registry.state()
    if chance.random() < 0.5:
        os.unlink(registry.layout.database)
    _kill(figures, chance, broken, "rebuild-index", "--yes", root=registry.root)
    found = []
    if os.path.exists(registry.layout.database) and registry.state() != expected:
        found.append("a database that is not whole is in its place")
    return found + _not_rebuilt(registry, expected)


def crash_compaction(registry: Registry, figures: Figures, chance: random.Random, broken: str) -> list[str]:
    """Kill garbage collection while it compacts the journal: a rebuild from what is left gives the same."""
    for _ in range(chance.randint(1, 12)):
        registry.push()
    expected = registry.state()
    _kill(figures, chance, broken, "gc", "--grace", "36500d", root=registry.root)
    found = [] if registry.state() == expected else ["garbage collection changed what is there"]
    return found + _not_rebuilt(registry, expected)


def crash_migration(registry: Registry, figures: Figures, chance: random.Random, broken: str) -> list[str]:
    """Kill a command while it migrates the database of the first release: the next one goes on."""
    path = registry.layout.database
    for suffix in ("", "-wal", "-shm"):
        Path(path + suffix).unlink(missing_ok=True)
    shutil.rmtree(registry.layout.journal)
    os.mkdir(registry.layout.journal, 0o700)
    database = open_writer(path)
    first = next(iter(shipped_scripts()))
    migrate(database, {first: shipped_scripts()[first]})
    database.execute("INSERT INTO users VALUES ('alice', 'hash', 1, 0, 1.0, 1.0)")
    database.close()
    _kill(figures, chance, broken, "user", "list", root=registry.root)
    status, _ = run_command("user", "list", "--root", registry.root)
    if status:
        return [f"the database cannot be migrated any more: {status}"]
    with sqlite3.connect(path) as connection:
        users = connection.execute("SELECT name FROM users").fetchall()
    connection.close()
    return [] if users == [("alice",)] else [f"users are {users}"]


def _kill(figures: Figures, chance: random.Random, broken: str, *command: str, root: str) -> int:
    """Run a command that dies at a step, of the last third every other time: there it cannot go back.

    One that came to its end tells how many steps there are.
    """
    dies_at = chance.randint(chance.choice((1, figures.steps * 2 // 3)), figures.steps)
    status, steps = run_command(*command, "--root", root, dies_at=dies_at, broken=broken)
    figures.crashes += status == -9
    if status == 0:
        figures.steps = max(10, steps * 21 // 20)
    return status


def _not_rebuilt(registry: Registry, expected: Dump) -> list[str]:
    """Rebuild the database; return what is wrong with it."""
    status, _ = run_command("rebuild-index", "--yes", "--root", registry.root)
    found = (
        [f"the rebuilt database is another one: {status}"] if status or registry.state() != expected else []
    )
    for path in Path(registry.root).glob("registry.db.lost-*"):
        path.unlink()
    return found


CRASHES: dict[str, tuple[Cycle, str]] = {
    "crash-backup": (crash_backup, "publish-first"),
    "crash-restore": (crash_restore, "format-first"),
    "crash-rebuild": (crash_rebuild, "place-first"),
    "crash-compaction": (crash_compaction, "remove-first"),
    "crash-migration": (crash_migration, "migrate-in-pieces"),
}


def crash(name: str, cycles: int, seed: int, *, broken: str = "") -> Figures:
    """Run one of ``CRASHES``; a broken one until it is caught."""
    figures, chance = Figures(name + (f" ({broken})" if broken else ""), seed), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as directory:
        registry = Registry(Path(directory), seed)
        for _ in range(cycles):
            figures.lost += CRASHES[name][0](registry, figures, chance, broken)
            figures.cycles += 1
            figures.acknowledged = registry.acknowledged
            if figures.lost and broken:
                break
    return figures


def power_backup(cycles: int, seed: int, *, broken: str = "") -> Figures:
    """Cut the power of the disk that backups lie on, at any step of one or right after it."""
    figures, chance = Figures("power-backup" + (f" ({broken})" if broken else ""), seed), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as directory:
        registry = Registry(Path(directory), seed)
        registry.disk = Disk(Path(directory) / "disk")
        try:
            registry.shelf = str(registry.disk.path / "shelf")
            for _ in range(cycles):
                figures.lost += crash_backup(registry, figures, chance, broken)
                figures.cycles += 1
                figures.acknowledged = registry.acknowledged
                if figures.lost and broken:
                    break
        finally:
            registry.disk.close()
    return figures


# --- under load, with a real server


class Witness(Promises):
    """Promises that remember each state in which a tag has been since ``begin``."""

    def begin(self) -> Promises:
        """Return what was acknowledged up to now, and begin to remember."""
        with self.lock:
            self.states = {key: set(states) for key, states in self.tags.items()}
            return Promises(blobs=dict(self.blobs), manifests=dict(self.manifests), tags=deepcopy(self.tags))

    def tag_may_become(self, repository: str, tag: str, digest: str | None) -> None:
        """Note that a request about a tag is being sent."""
        super().tag_may_become(repository, tag, digest)
        with self.lock:
            getattr(self, "states", {}).setdefault((repository, tag), {None}).add(digest)

    def manifest_may_go(self, repository: str, digest: str) -> None:
        """Note that a manifest's deletion is being sent; its tags go with it."""
        super().manifest_may_go(repository, digest)
        with self.lock:
            for (name, _), states in getattr(self, "states", {}).items():
                if name == repository and digest in states:
                    states.add(None)


def backup_under_load(cycles: int, seed: int, *, broken: str = "") -> Figures:
    """Back up while clients push, restore elsewhere, and pull all that was acknowledged before."""
    figures, chance = Figures("backup" + (f" ({broken})" if broken else ""), seed), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as directory:
        server = RegistryProcess(Path(directory) / "root", command=TWISTD)
        server.start()
        try:
            server.add_user("carol", "carols-password", "pull:**")
            witness = Witness()
            for _ in range(cycles):
                figures.lost += _backup_cycle(Path(directory), server, witness, chance, figures, broken)
                figures.cycles += 1
                figures.acknowledged = witness.acknowledged
                if figures.lost and broken:
                    break
        finally:
            server.kill()
    return figures


def _backup_cycle(
    directory: Path,
    server: RegistryProcess,
    witness: Witness,
    chance: random.Random,
    figures: Figures,
    broken: str,
) -> list[str]:
    authorization = basic("admin", server.admin_password)
    shelf, root = str(directory / "shelf"), directory / f"restored-{figures.cycles}"
    stop = threading.Event()
    pushers = [
        _StoppedPusher(stop, server.port, authorization, number, chance.getrandbits(64), witness)
        for number in range(3)
    ]
    threads = [threading.Thread(target=pusher.run) for pusher in pushers]
    for thread in threads:
        thread.start()
    time.sleep(chance.uniform(0.2, 0.8))
    before = witness.begin()
    try:
        _back_up(server, shelf, broken)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    try:
        server.dockreg("restore", shelf, "--root", str(root))
    except AssertionError as error:
        return [f"the backup cannot be restored: {str(error)[-200:]}"]
    before.tags = {key: witness.states[key] for key in before.tags}
    for key in witness.deleting | witness.deleted:
        before.manifests.pop(key, None)
    return _compare(root, authorization, before, chance)


def _back_up(server: RegistryProcess, shelf: str, broken: str) -> None:
    if not broken:
        server.dockreg("backup", shelf, "--keep", "2")
        return
    # The broken one: the file alone, as cp takes it, without the write-ahead log.
    server.dockreg("backup", shelf, "--keep", "1")
    (name,) = os.listdir(os.path.join(shelf, "snapshots"))
    target = os.path.join(shelf, "snapshots", name, "registry.db")
    shutil.copyfile(server.root / "registry.db", target)


def _compare(root: Path, authorization: str, before: Promises, chance: random.Random) -> list[str]:
    restored = RegistryProcess(root, command=TWISTD)
    try:
        restored.start()
        inspector = Inspector(
            port=restored.port, authorization=authorization, promises=before, seed=chance.getrandbits(32)
        )
        found = inspector.kept()
        with Connection(restored.port, basic("carol", "carols-password")) as client:
            if client.request("GET", "/v2/").status != 200:
                found.append("a user's password does not work")
        restored.stop()
    finally:
        restored.kill()
        shutil.rmtree(root, ignore_errors=True)
    return found


class _StoppedPusher(Pusher):
    """A client that ends between two pushes when it is told to."""

    def __init__(
        self,
        stop: threading.Event,
        port: int,
        authorization: str,
        number: int,
        seed: int,
        promises: Promises,
    ) -> None:
        super().__init__(port=port, authorization=authorization, number=number, seed=seed, promises=promises)
        self._stop = stop

    def _push(self, client: Connection) -> None:
        if self._stop.is_set():
            raise OSError("told to stop")
        super()._push(client)


def rebuild_after_loss(cycles: int, seed: int, *, broken: str = "") -> Figures:
    """Kill a server under load, delete its database, rebuild it, and pull all that was acknowledged."""
    figures, chance = Figures("rebuild" + (f" ({broken})" if broken else ""), seed), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as directory:
        server = RegistryProcess(Path(directory) / "root", command=TWISTD)
        server.start()
        authorization = basic("admin", server.admin_password)
        witness = Promises()
        try:
            for _ in range(cycles):
                _load_and_kill(server, authorization, witness, chance)
                _lose_database(server, broken)
                server.start()
                seed_of_sample = chance.getrandbits(32)
                # Uploads under way are not in the journal: clients begin them anew.
                witness.sessions.clear()
                inspector = Inspector(
                    port=server.port, authorization=authorization, promises=witness, seed=seed_of_sample
                )
                figures.lost += inspector.lost()
                figures.cycles += 1
                figures.crashes += 1
                figures.acknowledged = witness.acknowledged
                if figures.lost and broken:
                    break
        finally:
            server.kill()
    return figures


def _load_and_kill(
    server: RegistryProcess, authorization: str, witness: Promises, chance: random.Random
) -> None:
    stop = threading.Event()
    pushers = [
        _StoppedPusher(stop, server.port, authorization, number, chance.getrandbits(64), witness)
        for number in range(3)
    ]
    threads = [threading.Thread(target=pusher.run) for pusher in pushers]
    for thread in threads:
        thread.start()
    time.sleep(chance.uniform(0.2, 0.8))
    server.kill()
    for thread in threads:
        thread.join()


def _lose_database(server: RegistryProcess, broken: str) -> None:
    for path in server.root.glob("registry.db*"):
        path.unlink()
    if broken:
        # The broken one: lines are not flushed before the answer, so that the last ones are gone.
        newest = max((server.root / "journal").glob("0*.jsonl"))
        os.truncate(newest, max(0, newest.stat().st_size - 2000))
    server.dockreg("rebuild-index")


# --- for ``make fault``


def as_work(run: Callable[..., Figures], breakage: str = "") -> Callable[[int, int], Steps]:
    """Make a work of the frame from a campaign; a broken one runs until it is caught."""

    def work(cycles: int, seed: int) -> Steps:
        chance, batch = random.Random(seed), cycles if breakage else 20
        for done in range(0, cycles, batch):
            each = min(batch, cycles - done)
            figures = run(each, chance.getrandbits(32), broken=breakage)
            yield Step(
                cycles=figures.cycles,
                acknowledged=figures.acknowledged,
                lost=figures.lost,
                counts={"crashes": figures.crashes},
            )

    return work
