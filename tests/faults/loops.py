"""Small disks: ext4 on a loop device, to be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

MIB = 1024 * 1024
BLOCK_BYTES = 4096


def missing() -> str:
    """Return why disks cannot be made here, or nothing."""
    if os.geteuid() != 0:
        return "needs root, to mount disks"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices"
    lacking = [name for name in ("mkfs.ext4", "losetup", "mount", "umount") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


class SmallDisk:
    """A mounted disk of its own; close it after use.

    Args:
        directory: made, for image and mount point.
        size_bytes: of the disk.
        make: further options of ``mkfs.ext4``.
        image: an existing file or device instead of a fresh one.
    """

    def __init__(
        self, directory: Path, *, size_bytes: int = 64 * MIB, make: tuple[str, ...] = (), image: str = ""
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.path = directory / "mounted"
        self.path.mkdir()
        self._image = image or str(directory / "image")
        if not image:
            with open(self._image, "wb") as file:
                file.truncate(size_bytes)
        # Nothing is kept for root: the disk can be filled to its last block.
        run("mkfs.ext4", "-q", "-F", "-b", str(BLOCK_BYTES), "-m", "0", *make, self._image)
        self._mount()

    def _mount(self) -> None:
        self.device = run("losetup", "--find", "--show", self._image).strip()
        run("mount", "-o", "noatime", self.device, str(self.path))

    def remount(self) -> None:
        """Unmount, check and mount again, so that only what the device has is there."""
        run("umount", str(self.path))
        run("e2fsck", "-f", "-n", self.device)
        run("losetup", "--detach", self.device)
        self._mount()

    def repair(self) -> list[str]:
        """Unmount, replay the log, and mount again; return what the check finds after that."""
        run("umount", str(self.path))
        subprocess.run(["e2fsck", "-p", self.device], check=False, capture_output=True)
        done = subprocess.run(
            ["e2fsck", "-f", "-n", self.device], check=False, capture_output=True, text=True
        )
        run("losetup", "--detach", self.device)
        self._mount()
        return [] if done.returncode == 0 else [f"the file system is damaged: {done.stdout[-300:]}"]

    def free_blocks(self) -> int:
        """Return how many blocks can still be taken."""
        return os.statvfs(self.path).f_bavail

    def fill(self, leave_blocks: int) -> None:
        """Take all blocks but these."""
        os.sync()
        name = str(self.path / "filler")
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for _ in range(50):
                surplus = self.free_blocks() - leave_blocks
                if surplus == 0:
                    return
                size_bytes = os.fstat(descriptor).st_size + surplus * BLOCK_BYTES
                if surplus > 0:
                    with suppress(OSError):
                        os.posix_fallocate(descriptor, 0, size_bytes)
                else:
                    os.ftruncate(descriptor, max(0, size_bytes))
        finally:
            os.fsync(descriptor)
            os.close(descriptor)

    def fill_inodes(self) -> None:
        """Take all inodes."""
        directory = self.path / "inodes"
        directory.mkdir()
        with suppress(OSError):
            for number in range(10**6):
                (directory / str(number)).touch()

    def empty(self) -> None:
        """Give back what ``fill`` and ``fill_inodes`` took."""
        with suppress(FileNotFoundError):
            (self.path / "filler").unlink()
        shutil.rmtree(self.path / "inodes", ignore_errors=True)
        os.sync()

    def close(self) -> None:
        """Unmount for good."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=False, capture_output=True)
        subprocess.run(["losetup", "--detach", self.device], check=False, capture_output=True)


def run(*command: str) -> str:
    """Run a program and return what it printed; it must succeed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
