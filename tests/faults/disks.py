"""Disks whose power can be cut: ext4 on a loop device, and the file system's own shutdown call.

The call (``EXT4_IOC_SHUTDOWN`` without a flush of the log) makes the file system forget all that has not
reached the device, as a power cut does. After unmounting and mounting, the journal is replayed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

#: _IOR('X', 125, __u32), and the flag that throws the unwritten log away.
SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
WITHOUT_FLUSH = 2
SIZE_BYTES = 512 << 20


def missing() -> str:
    """Return why disks cannot be cut here, or nothing."""
    if os.geteuid() != 0:
        return "needs root, to mount disks"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices"
    lacking = [name for name in ("mkfs.ext4", "losetup", "mount", "umount") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (tests/clients/install.sh installs them)" if lacking else ""


class Disk:
    """One mounted disk in a directory of its own; close it after use."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._image = directory / "image"
        self.path = directory / "mounted"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()

    def _mount(self) -> None:
        # A fresh device each time: a mount namespace made by somebody else meanwhile may keep the old one.
        self._device = _run("losetup", "--find", "--show", str(self._image)).strip()
        # Nothing is committed behind our back: only what the registry syncs is safe.
        _run("mount", "-o", "commit=300,noatime", self._device, str(self.path))

    def cut(self) -> None:
        """Cut the power: from now on every write fails."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(descriptor)

    def restore(self) -> None:
        """Bring the disk back as it was on the device; nobody may have a file open on it."""
        _run("umount", str(self.path))
        _run("losetup", "--detach", self._device)
        self._mount()

    def close(self) -> None:
        """Unmount for good."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=False, capture_output=True)
        subprocess.run(["losetup", "--detach", self._device], check=False, capture_output=True)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout
