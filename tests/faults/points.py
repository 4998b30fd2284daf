"""Kills a process at exactly one of its system calls that change a disk, SQLite's own among them."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("points.c")
_PAGE = struct.Struct("iii32s")


def missing() -> str:
    """Return why it cannot be built here, or nothing."""
    return "" if shutil.which("gcc") else "not installed: gcc (tests/clients/install.sh installs it)"


class KillPoints:
    """A library to be preloaded, and the page by which it is told when to kill.

    Args:
        directory: holds both.
    """

    def __init__(self, directory: Path) -> None:
        self._library, page = directory / "points.so", directory / "points"
        build = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(self._library), str(_SOURCE), "-ldl"]
        subprocess.run(build, check=True, capture_output=True)
        page.write_bytes(bytes(mmap.PAGESIZE))
        self._path = page
        with page.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    @property
    def environment(self) -> dict[str, str]:
        """What the process needs in its environment."""
        return {"LD_PRELOAD": str(self._library), "FAULT_POINTS": str(self._path)}

    def arm(self, kill_at: int) -> None:
        """Count calls from now on, and kill before this one; 0 only counts."""
        self._page[: _PAGE.size] = _PAGE.pack(1, 0, kill_at, b"")

    def disarm(self) -> int:
        """Stop counting, and return how many calls there were."""
        count: int = _PAGE.unpack(self._page[: _PAGE.size])[1]
        self._page[: _PAGE.size] = _PAGE.pack(0, 0, 0, b"")
        return count

    @property
    def killed_at(self) -> str:
        """The system call that was to come, empty while nothing was killed."""
        name: bytes = _PAGE.unpack(self._page[: _PAGE.size])[3]
        return name.rstrip(b"\0").decode()

    def close(self) -> None:
        """Let the page go."""
        self._page.close()
