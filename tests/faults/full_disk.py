"""Full disks, and other things that run out: clean refusals, reads as ever, and no restart afterwards."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.loops import BLOCK_BYTES, SmallDisk, say
from tests.faults.witness import Witness
from tests.integration.server import TWISTD, RegistryProcess
from tests.integration.sockets import basic

#: So many steps of 4 KiB are looked at.
STEPS = 200
LAYER_BYTES = 300_000
#: Space is given back after so many steps, on a disk without a free block.
CLEAN_EVERY = 20
_RECOVERY_SECONDS = 15.0
_PROJECT = str(Path(__file__).parents[2])


@dataclass
class Trouble:
    """A server on a small disk, and its witness."""

    disk: SmallDisk
    server: RegistryProcess
    witness: Witness
    has_ballast: bool = True

    def given_up(self) -> int:
        """Return how often the server logged that it gave its ballast up."""
        return sum("the ballast of" in line for line in self.server.output)

    def works_again(self) -> bool:
        """Push until it succeeds, for some seconds: nobody restarts anything."""
        ends = time.monotonic() + _RECOVERY_SECONDS
        while not self.witness.push(10_000):
            if time.monotonic() > ends:
                return False
            time.sleep(0.2)  # the ballast is looked after every few seconds
        return True

    def await_ballast(self) -> None:
        """Wait till the server holds its ballast (again), as it does every few seconds when there is room."""
        ends = time.monotonic() + _RECOVERY_SECONDS
        while not (self.disk.path / "root" / "ballast").exists() and time.monotonic() < ends:
            time.sleep(0.2)  # it comes with no answer


@contextmanager
def trouble(
    seed: int, *, broken: str = "", ballast: str = "64MiB", make: tuple[str, ...] = ()
) -> Iterator[Trouble]:
    """Offer a running server on a disk of 64 MiB."""
    environment = {"DOCKREG_STORAGE_LOW_WATER": "0B", "DOCKREG_STORAGE_BALLAST": ballast}
    command = list(TWISTD)
    if broken:
        command = [sys.executable, "-m", "tests.faults.broken_disk_server", broken]
        environment["PYTHONPATH"] = _PROJECT
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name, ExitStack() as stack:
        disk = SmallDisk(Path(name) / "disk", make=make)
        stack.callback(disk.close)
        server = RegistryProcess(disk.path / "root", command=command, environment=environment)
        stack.callback(server.kill)
        server.start()
        witness = Witness(server.port, basic("admin", server.admin_password), seed)
        yield Trouble(disk, server, witness, has_ballast=ballast != "0B")


def run_steps(scene: Trouble, steps: range) -> list[str]:
    """Push with k blocks left, for each k; return what went wrong."""
    wrong: list[str] = []
    for number, blocks in enumerate(steps, start=1):
        scene.disk.fill(blocks)
        scene.witness.push(LAYER_BYTES)
        wrong += [f"{blocks} blocks left: {line}" for line in scene.witness.lost(sample=10)]
        scene.disk.empty()
        if not scene.works_again():
            wrong.append(f"{blocks} blocks left: no push after the disk had room again")
        if number % CLEAN_EVERY == 0:
            wrong += clean_up(scene)
        if wrong:
            break
    return wrong + scene.witness.complaints


def clean_up(scene: Trouble) -> list[str]:
    """Delete and collect on a disk without a free block; return what went wrong."""
    if scene.has_ballast:
        scene.await_ballast()
    scene.disk.fill(0)
    wanted = len(scene.witness.manifests) - 2
    done = scene.witness.delete(wanted)
    wrong = [] if done == wanted else [f"{done} of {wanted} deletions on a full disk"]
    try:
        scene.server.dockreg("gc", "--grace", "0s", "--yes")
    except AssertionError as error:
        wrong.append(f"garbage collection on a full disk: {error}")
    scene.witness.forget_blobs()
    if wanted >= CLEAN_EVERY and scene.disk.free_blocks() * BLOCK_BYTES < wanted * LAYER_BYTES // 4:
        wrong.append(f"only {scene.disk.free_blocks()} blocks were freed")
    # What was freed is less than the ballast wants before it comes back.
    scene.disk.empty()
    if not scene.works_again():
        wrong.append("no push after deletes and garbage collection on a full disk")
    return wrong


def durable(scene: Trouble) -> list[str]:
    """Look at everything again after a kill, a check of the file system, and a new mount."""
    scene.server.kill()
    scene.disk.remount()
    scene.server.start()
    return scene.witness.lost()


def run_inodes(seed: int) -> list[str]:
    """Push while there are no inodes, and after."""
    with trouble(seed, make=("-N", "1024")) as scene:
        scene.witness.push(LAYER_BYTES)
        scene.disk.fill_inodes()
        if scene.witness.push(LAYER_BYTES):
            scene.witness.complaints.append("a push without inodes was acknowledged")
        wrong = scene.witness.lost()
        scene.disk.empty()
        if not scene.works_again():
            wrong.append("no push after there were inodes again")
        return wrong + scene.witness.complaints + durable(scene)


def run_descriptors(seed: int) -> list[str]:
    """Push while the process may open hardly any file, and after; ended connections are no harm here."""
    with trouble(seed) as scene:
        scene.witness.push(LAYER_BYTES)
        was = resource.prlimit(scene.server.pid, resource.RLIMIT_NOFILE)
        for more in range(6):
            used = len(os.listdir(f"/proc/{scene.server.pid}/fd"))
            resource.prlimit(scene.server.pid, resource.RLIMIT_NOFILE, (used + more, was[1]))
            scene.witness.push(LAYER_BYTES)
            resource.prlimit(scene.server.pid, resource.RLIMIT_NOFILE, was)
        return _afterwards(scene)


def run_memory(seed: int) -> list[str]:
    """Push while the process gets hardly any more memory, and after."""
    with trouble(seed) as scene:
        scene.witness.push(LAYER_BYTES)
        was = resource.prlimit(scene.server.pid, resource.RLIMIT_AS)
        for more_bytes in (0, 1 << 20, 4 << 20, 16 << 20):
            limit = _address_space_bytes(scene.server.pid) + more_bytes
            resource.prlimit(scene.server.pid, resource.RLIMIT_AS, (limit, was[1]))
            scene.witness.push(10 * LAYER_BYTES)
            resource.prlimit(scene.server.pid, resource.RLIMIT_AS, was)
        return _afterwards(scene)


def _afterwards(scene: Trouble) -> list[str]:
    harmless = ("the connection ended", "refused with 500")
    wrong = [line for line in scene.witness.complaints if not any(each in line for each in harmless)]
    if not scene.works_again():
        wrong.append("no push after the limit was lifted")
    return wrong + scene.witness.lost() + durable(scene)


def _address_space_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def full_disk(cycles: int, seed: int) -> bool:
    """Run the campaign with this many steps of 4 KiB, print its figures, and tell whether all went well."""
    steps = range(min(cycles, STEPS + 1))
    with trouble(seed) as scene:
        wrong = run_steps(scene, steps)
        wrong += clean_up(scene)
        given_up = scene.given_up()
        wrong += durable(scene)
        say(
            f"full-disk: {len(steps)} steps, {scene.witness.acknowledged} acknowledged, "
            f"{scene.witness.refused} refused with {sorted(scene.witness.statuses)}, {len(wrong)} wrong, "
            f"ballast given up {given_up} times, seed {seed}"
        )
    others: list[tuple[str, Callable[[int], list[str]]]] = [
        ("inodes", run_inodes),
        ("descriptors", run_descriptors),
        ("memory", run_memory),
    ]
    for name, run_other in others:
        found = run_other(seed)
        say(f"full-disk {name}: {len(found)} wrong")
        wrong += found
    for line in wrong[:20]:
        say(f"    {line}")
    return not wrong and _is_caught(seed)


def _is_caught(seed: int) -> bool:
    """Tell whether servers that are broken on purpose turn red."""
    with trouble(seed, broken="forgives-full-disk") as scene:
        is_seen = bool(run_steps(scene, range(0, STEPS, 20)))
    with trouble(seed, ballast="0B") as scene:
        for _ in range(40):
            scene.witness.push(20_000)
        is_missed = bool(clean_up(scene))
    say(f"full-disk controls: forgiven errors {_verdict(is_seen)}, no ballast {_verdict(is_missed)}")
    return is_seen and is_missed


def _verdict(is_caught: bool) -> str:
    return "caught, as it must be" if is_caught else "NOT CAUGHT"
