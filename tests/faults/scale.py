"""A registry with many blobs: how long a start and a collection take, and what pushes feel of it."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.campaigns import REPOSITORY, server_on
from tests.faults.figures import Step, Steps
from tests.integration.images import OCI_MANIFEST, as_json, image, sha256
from tests.integration.server import RegistryProcess, clean_environment
from tests.integration.sockets import Connection, basic

BLOBS, MANIFESTS = 100_000, 20_000
#: This part of the blobs is garbage.
DEAD_PART = 0.1
LAYERS_OF_A_MANIFEST = 4
REPOSITORIES = 200
QUIET_SECONDS = 15.0
COLLECTION_SECONDS, GROWTH_MILLISECONDS, START_SECONDS = 60.0, 100.0, 1.0
#: By so much the longest push may grow: one long wait does not show in the p99 of hundreds of pushes.
LONGEST_GROWTH_MILLISECONDS = 500.0
#: Files and rows are as old as this, so that no grace protects them.
AGE_SECONDS = 3 * 24 * 3600.0
#: The admin command, holding the lock for the whole collection: what a collector must never do.
SELFISH = (
    "import dockreg_tx.registry.collect as c; c.BATCH = c.FIRST_BATCH = c.LOCK_SECONDS = 1_000_000; "
    "from dockreg_tx.cli.main import run; run()"
)
_wall_clock = time.time  # noqa: TID251 - rows are dated by it


def scale(
    cycles: int,
    seed: int,
    *,
    blobs: int = BLOBS,
    manifests: int = MANIFESTS,
    quiet_seconds: float = QUIET_SECONDS,
    selfish: bool = False,
) -> Steps:
    """Fill a root, start, and collect while a client pushes; once a cycle."""
    for number in range(cycles):
        with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name:
            server = server_on(Path(name) / "root", DOCKREG_GC_SCHEDULE="never")
            try:
                server.start()
                server.stop()
                dead = fill(server.root, blobs=blobs, manifests=manifests)
                collection = [sys.executable, *(("-c", SELFISH) if selfish else ("-m", "dockreg_tx"))]
                yield _measured(server, dead, seed + number, collection, quiet_seconds)
            finally:
                server.kill()


def fill(root: Path, *, blobs: int, manifests: int) -> list[Path]:
    """Write files and rows as pushes would have left them; return the files that nothing needs."""
    old = _wall_clock() - AGE_SECONDS
    dead_count = int(blobs * DEAD_PART)
    layers = [b"layer %d" % number for number in range(blobs - manifests - dead_count)]
    dead = [b"dead %d" % number for number in range(dead_count)]
    described = [(sha256(content), len(content)) for content in layers]
    documents = [_document(number, described) for number in range(manifests)]
    paths = {content: _write(root, content, old) for content in (*layers, *dead, *documents)}
    with sqlite3.connect(root / "registry.db") as database:
        rows = [(sha256(content), len(content), old) for content in paths]
        database.executemany("INSERT INTO blobs (digest, size_bytes, touched_at) VALUES (?, ?, ?)", rows)
        names = [(number + 1, f"scale/app-{number}", old) for number in range(REPOSITORIES)]
        database.executemany("INSERT INTO repositories (id, name, created_at) VALUES (?, ?, ?)", names)
        _insert_manifests(database, documents, described, old)
    database.close()
    # Else the first fsync of a push would have to write all of this.
    os.sync()
    return [paths[content] for content in dead]


def _document(number: int, described: list[tuple[str, int]]) -> bytes:
    layers = [{"digest": digest, "size": size_bytes} for digest, size_bytes in _layers_of(number, described)]
    return as_json({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers, "number": number})


def _layers_of(number: int, described: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [
        described[(number * LAYERS_OF_A_MANIFEST + place) % len(described)]
        for place in range(LAYERS_OF_A_MANIFEST)
    ]


def _write(root: Path, content: bytes, old: float) -> Path:
    encoded = hashlib.sha256(content).hexdigest()
    path = root / "blobs" / "sha256" / encoded[:2] / encoded
    path.write_bytes(content)
    path.chmod(0o440)
    os.utime(path, (old, old))
    return path


def _insert_manifests(
    database: sqlite3.Connection, documents: list[bytes], described: list[tuple[str, int]], old: float
) -> None:
    def manifests() -> Iterator[tuple[object, ...]]:
        for number, content in enumerate(documents):
            repository_id = number % REPOSITORIES + 1
            yield number + 1, repository_id, sha256(content), OCI_MANIFEST, len(content), content, old

    def references() -> Iterator[tuple[object, ...]]:
        for number in range(len(documents)):
            for digest, size_bytes in _layers_of(number, described):
                yield number + 1, digest, size_bytes

    def links() -> Iterator[tuple[object, ...]]:
        for number in range(len(documents)):
            for digest, _ in _layers_of(number, described):
                yield number % REPOSITORIES + 1, digest, old

    database.executemany(
        "INSERT INTO manifests (id, repository_id, digest, media_type, size_bytes, content, artifact_type,"
        " annotations, pushed_at, pushed_by) VALUES (?, ?, ?, ?, ?, ?, '', '{}', ?, '')",
        manifests(),
    )
    database.executemany(
        "INSERT OR IGNORE INTO manifest_references (manifest_id, kind, digest, size_bytes)"
        " VALUES (?, 'layer', ?, ?)",
        references(),
    )
    database.executemany(
        "INSERT OR IGNORE INTO repository_blobs (repository_id, digest, linked_at) VALUES (?, ?, ?)", links()
    )
    tags = [(n % REPOSITORIES + 1, f"tag-{n}", n + 1, old) for n in range(len(documents))]
    database.executemany(
        "INSERT INTO tags (repository_id, name, manifest_id, updated_at) VALUES (?, ?, ?, ?)", tags
    )


@dataclass
class _Stopwatch:
    """A client that pushes small images one after the other, and how long each one took."""

    server: RegistryProcess
    seed: int
    took_seconds: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        chance = random.Random(self.seed)
        with Connection(self.server.port, basic("admin", self.server.admin_password)) as client:
            # Checking a password for the first time takes its time.
            client.request("GET", "/v2/")
            while not self.is_over.is_set():
                content = image(f"{chance.getrandbits(64)}", layers=1)
                began = time.monotonic()
                for blob in content.blobs:
                    self._expect(client, "POST", f"blobs/uploads/?digest={blob.digest}", blob.content)
                self._expect(client, "PUT", f"manifests/tag-{chance.randrange(50)}", content.manifest.content)
                self.took_seconds.append(time.monotonic() - began)

    def _expect(self, client: Connection, method: str, path: str, content: bytes) -> None:
        kind = {"Content-Type": OCI_MANIFEST}
        status = client.request(method, f"/v2/scale/pushed/{path}", content, kind).status
        if status != 201:
            self.refusals.append(f"{method} {path}: {status}")

    def longest_milliseconds(self) -> float:
        return 1000 * max(self.took_seconds, default=0.0)

    def p99_milliseconds(self) -> float:
        if len(self.took_seconds) < 2:
            return self.longest_milliseconds()
        return statistics.quantiles(self.took_seconds, n=100)[98] * 1000

    def during(self, work: subprocess.Popen[str] | float) -> float:
        """Push for some seconds, or until a process ends; return the seconds that this took."""
        thread = threading.Thread(target=self.run)
        began = time.monotonic()
        thread.start()
        if isinstance(work, float):
            time.sleep(work)  # how long is measured
        else:
            work.communicate()
        took_seconds = time.monotonic() - began
        self.is_over.set()
        thread.join()
        return took_seconds


def _measured(
    server: RegistryProcess, dead: list[Path], seed: int, collection: list[str], quiet_seconds: float
) -> Step:
    step = Step()
    began = time.monotonic()
    server.start()
    step.worst["start_seconds"] = time.monotonic() - began
    quiet, busy = _Stopwatch(server, seed), _Stopwatch(server, seed + 1)
    quiet.during(quiet_seconds)
    step.worst["collection_seconds"] = busy.during(_started(collection, server.root))
    step.acknowledged = len(quiet.took_seconds) + len(busy.took_seconds)
    step.worst["quiet_p99_milliseconds"] = quiet.p99_milliseconds()
    longest_growth_milliseconds = busy.longest_milliseconds() - quiet.longest_milliseconds()
    step.worst["longest_push_milliseconds"] = busy.longest_milliseconds()
    step.worst["longest_growth_milliseconds"] = longest_growth_milliseconds
    step.worst["p99_growth_milliseconds"] = busy.p99_milliseconds() - quiet.p99_milliseconds()
    step.counts["removed_blobs"] = sum(not path.exists() for path in dead)
    step.failures += [*quiet.refusals, *busy.refusals]
    if step.counts["removed_blobs"] != len(dead):
        step.failures.append(f"{len(dead) - step.counts['removed_blobs']:.0f} dead blobs were not removed")
    if step.worst["p99_growth_milliseconds"] > GROWTH_MILLISECONDS:
        step.failures.append(f"pushes took {step.worst['p99_growth_milliseconds']:.0f} ms longer")
    if longest_growth_milliseconds > LONGEST_GROWTH_MILLISECONDS:
        step.failures.append(f"a push waited {longest_growth_milliseconds:.0f} ms longer than any before")
    server.stop()
    return step


def _started(command: list[str], root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, "--root", str(root), "gc", "--yes"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=clean_environment(),
    )
