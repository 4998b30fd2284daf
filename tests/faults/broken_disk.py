"""Disks that fail, become read-only or dawdle: nothing acknowledged is harmed, and pulls go on."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.blobs.roots import forget_cached
from tests.faults.faulty_disk import STALL_SECONDS, FaultyDisk, abort
from tests.faults.loops import SmallDisk, say
from tests.faults.witness import REPOSITORY, Witness
from tests.integration.images import sha256
from tests.integration.server import TWISTD, RegistryProcess
from tests.integration.sockets import basic

_PROJECT = str(Path(__file__).parents[2])
LAYER_BYTES = 200_000
#: More than is read ahead at once.
COLD_BYTES = 7_000_000
#: The reactor is asked for a sign of life this often.
PROBE_SECONDS = 0.02
LATENCY_SECONDS = 0.05
_RECOVERY_SECONDS = 20.0


def _server(root: Path, broken: str = "", environment: Mapping[str, str] | None = None) -> RegistryProcess:
    settings = {"DOCKREG_STORAGE_LOW_WATER": "0B", **(environment or {})}
    if not broken:
        return RegistryProcess(root, command=TWISTD, environment=settings)
    command = [sys.executable, "-m", "tests.faults.broken_disk_server", broken]
    return RegistryProcess(root, command=command, environment={"PYTHONPATH": _PROJECT, **settings})


def _witness(server: RegistryProcess, seed: int) -> Witness:
    return Witness(server.port, basic("admin", server.admin_password), seed)


@contextmanager
def faulty(
    seed: int, *, broken: str = "", write_rate: str = "100%"
) -> Iterator[tuple[FaultyDisk, RegistryProcess, Witness]]:
    """Offer a server on a disk that fails on demand."""
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name, ExitStack() as stack:
        disk = FaultyDisk(Path(name) / "disk", write_rate=write_rate)
        stack.callback(disk.close)
        server = _server(disk.path / "root", broken)
        stack.callback(server.kill)
        server.start()
        yield disk, server, _witness(server, seed)


def _not_ready(witness: Witness) -> list[str]:
    """Return what the signs of life say wrongly while no write is possible."""
    wrong = [] if witness.is_healthy() else ["/healthz is not green"]
    with witness.connect() as client:
        answer = client.request("GET", "/readyz")
    if answer.status != 503 or "disk" not in json.loads(answer.body)["errors"][0]["detail"]["failed"]:
        wrong.append(f"/readyz is {answer.status}: {answer.body[:200]!r}")
    return wrong


def run_writes(seed: int, cycles: int, *, broken: str = "") -> list[str]:
    """Let writes fail in the middle of pushes; look at everything after a new mount."""
    wrong: list[str] = []
    with faulty(seed, broken=broken) as (disk, server, witness):
        for _ in range(cycles):
            witness.push(LAYER_BYTES)
            disk.break_down("write")
            for _ in range(3):
                witness.push(LAYER_BYTES)
            wrong += _not_ready(witness)
            wrong += [f"while the disk fails: {line}" for line in witness.lost(sample=20)]
            server.kill()
            disk.remount()
            server.start()
            wrong += [f"after the disk failed: {line}" for line in witness.lost()]
            if wrong:
                break
        say(
            f"broken-disk writes: {witness.acknowledged} acknowledged, {witness.refused} refused with "
            f"{sorted(witness.statuses)}, {len(wrong)} wrong"
        )
        return wrong + witness.complaints


def run_reads(seed: int) -> list[str]:
    """Let reads of one blob fail: its pull breaks off or is refused, and others go on."""
    wrong: list[str] = []
    with faulty(seed) as (disk, server, witness):
        witness.push(5_000_000)
        witness.push(LAYER_BYTES)
        digest = max(witness.blobs, key=lambda each: witness.blobs[each])
        _forget(server, digest)
        disk.break_down("read")
        with witness.connect() as client:
            try:
                answer = client.request("GET", f"/v2/{REPOSITORY}/blobs/{digest}")
                if answer.status != 503:
                    wrong.append(f"an unreadable blob: {answer.status}, {len(answer.body)} bytes")
            except ConnectionError:
                pass
        if not witness.is_healthy():
            wrong.append("/healthz is not green")
        disk.heal()
        wrong += witness.lost()
        server.stop()
    say(f"broken-disk reads: {len(wrong)} wrong")
    return wrong


def run_read_only(seed: int) -> list[str]:
    """Let the file system become read-only under the server; look again after a new mount."""
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name, ExitStack() as stack:
        disk = SmallDisk(Path(name) / "disk", make=("-e", "remount-ro"))
        stack.callback(disk.close)
        server = _server(disk.path / "root")
        stack.callback(server.kill)
        server.start()
        witness = _witness(server, seed)
        for _ in range(5):
            witness.push(LAYER_BYTES)
        abort(disk)
        if witness.push(LAYER_BYTES):
            witness.complaints.append("a push to a read-only disk was acknowledged")
        wrong = _not_ready(witness) + witness.lost()
        server.kill()
        loose = disk.repair()
        server.start()
        wrong += loose + witness.lost()
        if not witness.push(LAYER_BYTES):
            wrong.append("no push after the new mount")
        server.stop()
        say(f"broken-disk read-only: refused with {sorted(witness.statuses)}, {len(wrong)} wrong")
        return wrong + witness.complaints


def run_recovery(seed: int, cycles: int, *, broken: str = "fails-on-demand") -> list[str]:
    """Let a disk fail and come back: writes do so too, without a restart, and nothing is synced twice."""
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name, ExitStack() as stack:
        trigger = Path(name) / "trigger"
        server = _server(Path(name) / "root", broken, {"FAULT_TRIGGER": str(trigger)})
        stack.callback(server.kill)
        server.start()
        witness, wrong = _witness(server, seed), list[str]()
        for _ in range(cycles):
            witness.push(LAYER_BYTES)
            trigger.touch()
            witness.push(LAYER_BYTES)
            wrong += _not_ready(witness) + witness.lost(sample=20)
            trigger.unlink()
            ends = time.monotonic() + _RECOVERY_SECONDS
            while not witness.push(LAYER_BYTES):
                if time.monotonic() > ends:
                    return [*wrong, "writes did not come back"]
                time.sleep(0.2)  # the disk is tried every few seconds
        wrong += [line for line in server.output if "SYNCED AGAIN" in line]
        wrong += witness.lost()
        say(f"broken-disk recovery: {cycles} cycles, {witness.acknowledged} acknowledged, {len(wrong)} wrong")
        return wrong + witness.complaints


def run_slow(seed: int, pushes: int) -> Slowness:
    """Let the disk need 2 s for every write: the reactor does not notice."""
    with faulty(seed) as (disk, server, witness):
        witness.push(LAYER_BYTES)
        with disk.stalling(), _probed(server.port) as latencies:
            for _ in range(pushes):
                if not witness.push(LAYER_BYTES):
                    witness.complaints.append("a push to a slow disk was refused")
        slowness = Slowness(latencies, witness.lost() + witness.complaints)
        say(f"broken-disk slow writes: {pushes} pushes, {slowness}")
        server.kill()
        return slowness


def run_slow_reads(seed: int, pulls: int, *, broken: str = "") -> Slowness:
    """Let the disk need 2 s for every read of blobs that are not in memory: the reactor does not notice."""
    with faulty(seed, broken=broken) as (disk, server, witness):
        for _ in range(pulls):
            witness.push(COLD_BYTES)
        for digest in witness.blobs:
            _forget(server, digest)
        cold = [digest for digest, size_bytes in witness.blobs.items() if size_bytes >= COLD_BYTES]
        wrong: list[str] = []
        with disk.stalling(), _probed(server.port) as latencies, witness.connect() as client:
            for digest in cold:
                answer = client.request("GET", f"/v2/{REPOSITORY}/blobs/{digest}")
                if answer.status != 200 or sha256(answer.body) != digest:
                    wrong.append(f"a pull from a slow disk: {answer.status}, {len(answer.body)} bytes")
        slowness = Slowness(latencies, wrong + witness.lost() + witness.complaints)
        say(f"broken-disk slow reads: {pulls} pulls, {slowness}")
        server.kill()
        return slowness


def _forget(server: RegistryProcess, digest: str) -> None:
    encoded = digest.partition(":")[2]
    forget_cached(str(server.root / "blobs" / "sha256" / encoded[:2] / encoded))


class Slowness:
    """How long the reactor took for signs of life beside a slow disk, and what went wrong."""

    def __init__(self, latencies: list[float], wrong: list[str]) -> None:
        self._latencies = sorted(latencies)
        self.wrong = wrong + _late(self._latencies)

    @property
    def p99_milliseconds(self) -> float:
        """A busy machine is late now and then, so not all count."""
        return self._latencies[len(self._latencies) * 99 // 100] * 1000

    def __str__(self) -> str:
        """Give the figures in one line."""
        return (
            f"{len(self._latencies)} signs of life, 99 % within {self.p99_milliseconds:.1f} ms, the latest "
            f"after {self._latencies[-1] * 1000:.0f} ms, {len(self.wrong)} wrong"
        )


@contextmanager
def _probed(port: int) -> Iterator[list[float]]:
    """Ask the server for signs of life, and offer the seconds that each took."""
    latencies: list[float] = []
    is_over = threading.Event()
    probing = threading.Thread(target=_probe, args=(port, latencies, is_over))
    probing.start()
    try:
        yield latencies
    finally:
        is_over.set()
        probing.join()


def _late(latencies: list[float]) -> list[str]:
    """Return what is wrong with signs of life, sorted by how late they were.

    A busy machine is late now and then; a reactor that waits for such a disk is late by a second or more.
    """
    late = [each for each in latencies if each > LATENCY_SECONDS]
    if len(late) <= len(latencies) // 100 and latencies[-1] < STALL_SECONDS / 4:
        return []
    return [f"{len(late)} of {len(latencies)} signs of life were late, the latest by {latencies[-1]:.2f} s"]


def _probe(port: int, latencies: list[float], is_over: threading.Event) -> None:
    with Witness(port, "", 0).connect() as client:
        while not is_over.wait(PROBE_SECONDS):
            began = time.monotonic()
            client.request("GET", "/healthz")
            latencies.append(time.monotonic() - began)
