"""Disks whose power can be cut: ext4 or xfs on a loop device, and the file system's own shutdown call.

The call (``EXT4_IOC_SHUTDOWN`` without a flush of the log) makes the file system forget all that has not
reached the device, as a power cut does. After unmounting and mounting, the journal is replayed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

#: _IOR('X', 125, __u32), and the flag that throws the unwritten log away.
SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
WITHOUT_FLUSH = 2
SIZE_BYTES = 512 << 20
#: How each file system is made, mounted, and checked without being changed. On ext4 nothing is committed
#: behind our back: only what the registry syncs is safe. (xfs has no such option.)
MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
MOUNT = {"ext4": "commit=300,noatime", "xfs": "noatime"}
CHECK = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}


def missing(filesystem: str = "ext4") -> str:
    """Return why disks cannot be cut here, or nothing."""
    if os.geteuid() != 0:
        return "needs root, to mount disks"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices"
    needed = (MAKE[filesystem][0], CHECK[filesystem][0], "losetup", "mount", "umount")
    lacking = [name for name in needed if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (tests/clients/install.sh installs them)" if lacking else ""


#: unshare(2).
CLONE_NEWNS = 0x00020000


@cache
def keep_mounts_to_ourselves() -> None:
    """Put this thread, and the processes it starts, into a mount namespace of their own.

    Whoever makes a mount namespace copies all mounts that there are. A copy of ours would keep a disk alive
    after its power was cut and its image mounted anew, and what it writes late would be taken for a loss.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    _run("mount", "--make-rprivate", "/")


class Disk:
    """One mounted disk in a directory of its own; close it after use."""

    def __init__(self, directory: Path, filesystem: str = "ext4") -> None:
        keep_mounts_to_ourselves()
        directory.mkdir()
        self._filesystem = filesystem
        self._image = directory / "image"
        self.path = directory / "mounted"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        _run(*MAKE[filesystem], str(self._image))
        self._mount()

    def _mount(self) -> None:
        self._device = _run("losetup", "--find", "--show", str(self._image)).strip()
        _run("mount", "-o", MOUNT[self._filesystem], self._device, str(self.path))

    def cut(self) -> None:
        """Cut the power: from now on every write fails."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(descriptor)

    def restore(self) -> None:
        """Bring the disk back as it was on the device; nobody may have a file open on it."""
        self._unmount()
        self._mount()

    def _unmount(self) -> None:
        _run("umount", str(self.path))
        _run("losetup", "--detach", self._device)
        if kept := _run("losetup", "--associated", str(self._image)):
            raise AssertionError(f"somebody keeps a disk without power mounted: {kept}")

    def check(self) -> list[str]:
        """Return what the file system's own checker complains about, once the log was replayed."""
        self._unmount()
        command = (*CHECK[self._filesystem], str(self._image))
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        self._mount()
        return [] if done.returncode == 0 else [f"{command[0]}: {done.stdout[-500:]}{done.stderr[-200:]}"]

    def close(self) -> None:
        """Unmount for good."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=False, capture_output=True)
        subprocess.run(["losetup", "--detach", self._device], check=False, capture_output=True)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout
