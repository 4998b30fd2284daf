"""Quotas and limits of file sizes: refused as full disks are, and over without a restart.

This kernel may lack quotas, so a preloaded library refuses writes as one does.
"""

from __future__ import annotations

import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.full_disk import LAYER_BYTES
from tests.faults.witness import Witness
from tests.integration.server import TWISTD, RegistryProcess
from tests.integration.sockets import basic

_SOURCE = Path(__file__).with_name("refusals.c")
_MIB = 1024 * 1024
_RECOVERY_SECONDS = 15.0
#: What the log says when the disk is taken for broken.
_SHUT = "writes are refused from now on"


class Quota:
    """A quota that is full on demand.

    Args:
        directory: holds the library.
    """

    def __init__(self, directory: Path) -> None:
        self._library, self._trigger = directory / "refusals.so", directory / "full"
        build = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(self._library), str(_SOURCE), "-ldl"]
        subprocess.run(build, check=True, capture_output=True)

    @property
    def environment(self) -> dict[str, str]:
        """What the process needs in its environment."""
        return {"LD_PRELOAD": str(self._library), "FAULT_REFUSALS": str(self._trigger)}

    @contextmanager
    def full(self, until_gone: Path | None = None) -> Iterator[None]:
        """Let there be no room; ``until_gone``: or only while this file takes it."""
        self._trigger.symlink_to(until_gone or self._library)
        try:
            yield
        finally:
            self._trigger.unlink()


@contextmanager
def limited(seed: int) -> Iterator[tuple[Quota, RegistryProcess, Witness]]:
    """Offer a server under a quota."""
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name, ExitStack() as stack:
        quota = Quota(Path(name))
        settings = {"DOCKREG_STORAGE_LOW_WATER": "0B", **quota.environment}
        server = RegistryProcess(Path(name) / "root", command=TWISTD, environment=settings)
        stack.callback(server.kill)
        server.start()
        _wait_for((server.root / "ballast").exists)
        yield quota, server, Witness(server.port, basic("admin", server.admin_password), seed)


def run_quota(seed: int, cycles: int = 3) -> list[str]:
    """Push under a full quota, delete with the room of the ballast, and push again."""
    with limited(seed) as (quota, server, witness):
        wrong: list[str] = []
        for _ in range(cycles):
            wrong += [] if _works_again(witness) else ["no push after there was room again"]
            with quota.full():
                for _ in range(3):
                    wrong += ["a push without room was taken"] if witness.push(LAYER_BYTES) else []
                wrong += witness.lost(sample=20)
            _wait_for((server.root / "ballast").exists)
            with quota.full(until_gone=server.root / "ballast"):
                wrong += [] if witness.delete(1) == 1 else ["a delete without room was refused"]
        return [*wrong, *_afterwards(server, witness)]


def run_file_limit(seed: int) -> list[str]:
    """Push more than fits into one file, and then where no file may grow."""
    with limited(seed) as (_, server, witness):
        wrong = [] if witness.push(LAYER_BYTES) else ["no push before there was a limit"]
        for limit_bytes in (2 * _MIB, 4096):
            was = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit_bytes, was[1]))
            for _ in range(3):
                wrong += ["a push beyond the limit was taken"] if witness.push(3 * _MIB) else []
            if limit_bytes > _MIB and not witness.push(LAYER_BYTES):
                wrong.append("a push within the limit was refused")
            wrong += witness.lost(sample=20)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, was)
            wrong += [] if _works_again(witness) else ["no push after the limit was lifted"]
        return [*wrong, *_afterwards(server, witness)]


def _afterwards(server: RegistryProcess, witness: Witness) -> list[str]:
    wrong = [line for line in server.output if _SHUT in line]
    if not _works_again(witness):
        wrong.append("no push after there was room again")
    if witness.statuses - {507}:
        wrong.append(f"refused with {sorted(witness.statuses)}")
    server.kill()
    server.start()
    return wrong + witness.lost() + witness.complaints


def _works_again(witness: Witness) -> bool:
    return _wait_for(lambda: witness.push(10_000))


def _wait_for(is_true: object) -> bool:
    ends = time.monotonic() + _RECOVERY_SECONDS
    while time.monotonic() < ends:
        if is_true():  # type: ignore[operator] # a function without arguments
            return True
        time.sleep(0.2)  # the disk is looked after every few seconds
    return False
