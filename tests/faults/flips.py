"""Bits that flip on the disk: one pass of the scrub finds them all, and pushing again heals them all."""

from __future__ import annotations

import os
import random
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.loops import say
from tests.faults.witness import REPOSITORY
from tests.integration.images import sha256
from tests.integration.server import TWISTD, RegistryProcess
from tests.integration.sockets import Connection, basic

#: One more blob for so many stays good.
GOOD_SHARE = 5
_PASS_SECONDS = 120.0
_PROJECT = str(Path(__file__).parents[2])


@contextmanager
def scrubbed(broken: str = "") -> Iterator[RegistryProcess]:
    """Offer a registry that scrubs whenever it starts, as fast as it can."""
    environment = {
        "DOCKREG_SCRUB_SCHEDULE": "1s",
        "DOCKREG_SCRUB_RATE": "1GiB",
        "DOCKREG_STORAGE_BALLAST": "0B",
        "DOCKREG_STORAGE_LOW_WATER": "0B",
    }
    command = list(TWISTD)
    if broken:
        command = [sys.executable, "-m", "tests.faults.broken_disk_server", broken]
        environment["PYTHONPATH"] = _PROJECT
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name:
        server = RegistryProcess(Path(name) / "root", command=command, environment=environment)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def run_flips(server: RegistryProcess, flips: int, seed: int) -> list[str]:
    """Push, flip, wait for one pass, push again; return what went wrong."""
    chance = random.Random(seed)
    sizes = (16, 500, 5000, 70_000)
    contents = [chance.randbytes(chance.choice(sizes)) for _ in range(flips + flips // GOOD_SHARE)]
    with Connection(server.port, basic("admin", server.admin_password)) as client:
        wrong = [line for content in contents for line in _push(client, content)]
    server.stop()
    damaged = {sha256(content) for content in contents[:flips]}
    for digest in damaged:
        _flip(server.root, digest, chance)
    began = time.monotonic()
    server.start()
    with Connection(server.port, basic("admin", server.admin_password)) as client:
        ends = began + _PASS_SECONDS
        while not any("scrubbed" in line for line in server.output) and time.monotonic() < ends:
            time.sleep(0.1)  # until the server has logged the end of a pass
        seconds = time.monotonic() - began
        found = {sha256(content) for content in contents if _status(client, content) == 404}
        wrong += [f"not found: {digest}" for digest in sorted(damaged - found)]
        wrong += [f"good, and set aside: {digest}" for digest in sorted(found - damaged)]
        wrong += [line for content in contents for line in _push(client, content)]
        wrong += [f"not healed: {sha256(content)}" for content in contents if _status(client, content) != 200]
    say(
        f"flips: {len(damaged)} flips among {len(contents)} blobs, {len(damaged & found)} found in one "
        f"pass of {seconds:.1f} s, {len(wrong)} wrong, seed {seed}"
    )
    return wrong


def _push(client: Connection, content: bytes) -> list[str]:
    if client.request("HEAD", f"/v2/{REPOSITORY}/blobs/{sha256(content)}").status == 200:
        return []
    path = f"/v2/{REPOSITORY}/blobs/uploads/?digest={sha256(content)}"
    answer = client.request("POST", path, content)
    return [] if answer.status == 201 else [f"push {sha256(content)}: {answer.status}"]


def _status(client: Connection, content: bytes) -> int:
    answer = client.request("GET", f"/v2/{REPOSITORY}/blobs/{sha256(content)}")
    return answer.status if answer.status != 200 or answer.body == content else 0


def _file(root: Path, digest: str) -> Path:
    encoded = digest.partition(":")[2]
    return root / "blobs" / "sha256" / encoded[:2] / encoded


def _flip(root: Path, digest: str, chance: random.Random) -> None:
    path = _file(root, digest)
    bit = chance.randrange(path.stat().st_size * 8)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    descriptor = os.open(path, os.O_RDWR)
    try:
        byte = os.pread(descriptor, 1, bit // 8)[0] ^ (1 << bit % 8)
        os.pwrite(descriptor, bytes([byte]), bit // 8)
    finally:
        os.close(descriptor)


def flips(cycles: int, seed: int) -> bool:
    """Run the campaign with this many flips, and tell whether all went well and the control was caught."""
    with scrubbed() as server:
        wrong = run_flips(server, cycles, seed)
    for line in wrong[:20]:
        say(f"    {line}")
    with scrubbed("trusts-sizes") as server:
        is_caught = any(line.startswith("not found") for line in run_flips(server, 20, seed))
    say(f"flips control: a scrub that trusts sizes {'caught, as it must be' if is_caught else 'NOT CAUGHT'}")
    return not wrong and is_caught
